"""Cleans texts of characters that the log cannot store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from typing import Any, NamedTuple
from uuid import UUID

from evomem.records import MAX_CHARS


class Cleaned(NamedTuple):
    """A text that the log can store."""

    text: str
    changes: tuple[str, ...]
    """The changes, such as `"3 NUL characters removed"`; empty if there are none."""


def clean(text: str, limit: int = MAX_CHARS) -> Cleaned:
    r"""Return `text` in a form that the log can store, changed as little as possible.

    NUL characters are removed, halves of surrogate pairs are joined or replaced with U+FFFD, and text
    beyond `limit` characters is cut off.

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
    """Return JSON with all texts, including keys, cleaned for a turn's metadata."""
    if isinstance(value, str):
        return clean(value, len(value)).text
    if isinstance(value, Mapping):
        return {clean_json(key): clean_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [clean_json(inner) for inner in value]
    return value


def plain_json(value: Any) -> Any:
    """Return a value as JSON: dates in ISO form, UUIDs as text, sets as lists, as frameworks store them.

    Raises:
        TypeError: A value is neither one of these nor a JSON value.
        ValueError: A value contains itself.
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
