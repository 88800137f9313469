"""Texts on their way into the log: cleaned of what it cannot hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from typing import Any, NamedTuple
from uuid import UUID

from evomem.records import MAX_CHARS


class Cleaned(NamedTuple):
    """A text that the log can hold."""

    text: str
    changes: tuple[str, ...]
    """What was changed, such as `"3 NUL characters removed"`; empty if nothing was."""


def clean(text: str, limit: int = MAX_CHARS) -> Cleaned:
    r"""Return `text` as the log can hold it, with as much of it as possible.

    NUL characters are removed, halves of a surrogate pair are joined or replaced by U+FFFD, and what
    exceeds `limit` characters is cut off.

    >>> clean("a\x00b")
    Cleaned(text='ab', changes=('1 NUL character removed',))
    """
    changes = []
    nuls = text.count("\x00")
    if nuls:
        text = text.replace("\x00", "")
        changes.append(f"{nuls:,} NUL character{'s' * (nuls > 1)} removed")
    if not _is_text(text):
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        changes.append("halves of surrogate pairs replaced")
    if len(text) > limit:
        changes.append(f"cut to {limit:,} of {len(text):,} characters")
        text = text[:limit]
    return Cleaned(text, tuple(changes))


def clean_json(value: Any) -> Any:
    """Return JSON whose texts, keys included, the log can hold in a turn's metadata."""
    if isinstance(value, str):
        return clean(value, len(value)).text
    if isinstance(value, Mapping):
        return {clean_json(key): clean_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [clean_json(inner) for inner in value]
    return value


def plain_json(value: Any) -> Any:
    """Return JSON with dates in ISO form, UUIDs as text and sets as lists, as stores of frameworks write them.

    Raises:
        TypeError: A value is none of these, and none that JSON has.
        ValueError: A value refers to itself.
    """
    return json.loads(json.dumps(value, default=_as_json))


def _as_json(value: object) -> object:
    if isinstance(value, set | frozenset):
        return list(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
