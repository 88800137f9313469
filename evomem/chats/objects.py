"""Converts message objects of other libraries to plain values, using their methods, not their classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from datetime import date
from enum import Enum
from typing import Any

from evomem.errors import InputError

_MAX_DEPTH = 100


def plain(value: object, where: str, depth: int = 0) -> Any:
    """Return an object as dictionaries, lists, strings and numbers.

    Supports Pydantic models, dataclasses, objects with `to_dict`, and objects with attributes. Times
    become ISO 8601 strings.

    Raises:
        InputError: The object cannot be converted, or is nested too deeply.
    """
    if depth > _MAX_DEPTH:
        raise InputError(f"{where} is nested more than {_MAX_DEPTH} levels deep")
    if isinstance(value, Enum):
        return plain(value.value, where, depth + 1)
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, date):  # includes datetimes
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        return f"{len(value)} bytes"
    if isinstance(value, Mapping):
        return {str(key): plain(inner, where, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(inner, where, depth + 1) for inner in value]
    fields = _fields(value)
    if fields is not None:
        return plain(fields, where, depth + 1)
    if depth:
        return str(value)
    raise InputError(
        f"{where} is a {type(value).__name__}; expected a message, a conversation, or a list of them"
    )


def _fields(value: object) -> object:
    """Return the fields of an object, None if it has none.

    Another library's own conversion may fail on values that its class allows, so the attributes are
    the last resort.
    """
    for convert in (_dumped, _as_dict, vars):
        try:
            fields = convert(value)
        except Exception:  # another library's code may raise anything
            continue
        if isinstance(fields, Mapping) and fields:
            return fields
    return None


def _dumped(value: Any) -> Any:
    return value.model_dump(mode="json")


def _as_dict(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not hasattr(value, "to_dict"):
        return {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
    return value.to_dict()


def items(source: object) -> list[object] | None:
    """Return the items of a list of objects, None for a single object."""
    if isinstance(source, Mapping | str) or not isinstance(source, Iterable):
        return None
    if callable(getattr(source, "model_dump", None)):  # Pydantic models yield their fields
        return None
    return list(source)
