"""Namespaces as text, in an order that keeps the names below a prefix together."""

from __future__ import annotations

import json

from sqlalchemy import ColumnElement

from evomem.store import Namespace
from evomem_stores.database.tables import memories


def encode_namespace(namespace: Namespace) -> str:
    """Return the canonical text of a namespace: a JSON array without spaces."""
    return json.dumps(list(namespace), ensure_ascii=False, separators=(",", ":"))


def decode_namespace(text: str) -> Namespace:
    """Return the namespace of a canonical text."""
    return tuple(json.loads(text))


def under(prefix: Namespace) -> ColumnElement[bool]:
    """Return the condition that a memory has a name that begins with `prefix`."""
    name = memories.c.namespace
    if not prefix:
        return name >= "["
    own, first, end = bounds(prefix)
    return (name == own) | ((name >= first) & (name < end))


def bounds(prefix: Namespace) -> tuple[str, str, str]:
    """Return a prefix's canonical text, and the range [first, end) of the texts below it.

    Canonical texts that begin with the same labels are adjacent: the last label is followed by "]" or
    ",", and a quotation mark inside a label is always escaped.
    """
    if not prefix:
        return "[", "[", "\\"  # the character after "["
    start = encode_namespace(prefix)[:-1]
    return start + "]", start + ",", start + "-"


def nameless() -> ColumnElement[bool]:
    """Return the condition that a memory was dropped, so that its name is its number (`dropping`)."""
    return memories.c.namespace < "["
