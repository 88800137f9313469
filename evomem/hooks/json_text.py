"""Edits JSON as text, without changing any other byte."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")


class Span(NamedTuple):
    """A member of an object or an item of a list, and its position in the text."""

    key: str | None
    """None for an item of a list."""
    start: int
    """The start of the key, or of the item."""
    value: int
    """The start of the value."""
    end: int


def children(text: str, start: int) -> list[Span]:
    """Return the members of the object or list that starts at `start`; the text is valid JSON."""
    spans: list[Span] = []
    keyed = text[start] == "{"
    at = _skip(text, start + 1)
    while text[at] not in "]}":
        first, key = at, None
        if keyed:
            key, at = _DECODER.raw_decode(text, at)
            at = _skip(text, _skip(text, at) + 1)  # after the colon
        value = at
        _, at = _DECODER.raw_decode(text, value)
        spans.append(Span(key, first, value, at))
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return spans


def child(text: str, start: int, key: str) -> Span | None:
    """Return the member of an object with this key; of several, the last one, like parsers do."""
    return next((span for span in reversed(children(text, start)) if span.key == key), None)


def append(text: str, start: int, value: Any, key: str | None = None) -> str:
    """Return a text with one more member or item at the end of an object or a list.

    It is formatted like its neighbours: on the same line, or on separate, indented lines.
    """
    end = _DECODER.raw_decode(text, start)[1]
    inside = children(text, start)
    newline = "\r\n" if "\r\n" in text else "\n"
    outer, unit = _indent_of_line(text, start), _unit(text)
    if inside and "\n" not in text[start:end]:
        return (
            text[: inside[-1].end]
            + ", "
            + _written(value, key, None, "", "")
            + text[inside[-1].end :]
        )
    indent = _indent_of_line(text, inside[0].start) if inside else outer + unit
    written = newline + indent + _written(value, key, unit, indent, newline)
    if inside:
        return text[: inside[-1].end] + "," + written + text[inside[-1].end :]
    return text[: start + 1] + written + newline + outer + text[end - 1 :]


def remove(text: str, start: int, number: int) -> str:
    """Return a text without one member or item of an object or a list, and without its comma."""
    inside = children(text, start)
    span = inside[number]
    if number + 1 < len(inside):
        return text[: span.start] + text[inside[number + 1].start :]
    if number:
        return text[: inside[number - 1].end] + text[span.end :]
    end = _DECODER.raw_decode(text, start)[1]
    return text[: start + 1] + text[end - 1 :]


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _indent_of_line(text: str, at: int) -> str:
    line = text.rfind("\n", 0, at) + 1
    return text[line : _end_of_indent(text, line)]


def _end_of_indent(text: str, at: int) -> int:
    while text[at] in " \t":
        at += 1
    return at


def _unit(text: str) -> str:
    """Return the indentation of one level: the first in the text, or two spaces."""
    match = re.search(r"\n([ \t]+)\S", text)
    return match[1] if match else "  "


def _written(value: Any, key: str | None, unit: str | None, indent: str, newline: str) -> str:
    text = json.dumps(value, indent=unit, ensure_ascii=False)
    if unit:
        text = text.replace("\n", newline + indent)
    return text if key is None else f"{json.dumps(key)}: {text}"
