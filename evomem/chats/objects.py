"""Message objects of other libraries as plain values, by what they can do, not by their class."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from enum import Enum
from typing import Any

from evomem.errors import InputError

_DEEPEST = 100


def plain(value: object, where: str, depth: int = 0) -> Any:
    """Return an object as dictionaries, lists, strings and numbers.

    Pydantic models, dataclasses, objects with `to_dict`, and objects with attributes are taken.
    Times stay as they are.

    Raises:
        InputError: It cannot be taken apart, or goes too deep.
    """
    if depth > _DEEPEST:
        raise InputError(f"{where} is nested more than {_DEEPEST} levels deep")
    if value is None or isinstance(value, str | int | float | datetime):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, Enum):
        return plain(value.value, where, depth + 1)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        return f"{len(value)} bytes"
    if isinstance(value, Mapping):
        return {str(key): plain(inner, where, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(inner, where, depth + 1) for inner in value]
    return plain(_fields(value, where), where, depth + 1)


def _fields(value: object, where: str) -> object:
    """Return the fields of an object."""
    model_dump, to_dict = getattr(value, "model_dump", None), getattr(value, "to_dict", None)
    try:
        if callable(model_dump):
            return model_dump()
        if callable(to_dict):
            return to_dict()
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            names = [item.name for item in dataclasses.fields(value)]
            return {name: getattr(value, name) for name in names}
    except Exception as error:  # another library's code may raise anything
        raise InputError(
            f"{where}, a {type(value).__name__}, cannot be taken apart: {error}"
        ) from error
    try:
        return dict(vars(value))
    except TypeError:
        raise InputError(
            f"{where} is a {type(value).__name__}; expected a message, a conversation, or a list "
            "of them"
        ) from None


def items(source: object, name: str) -> list[object] | None:
    """Return the items of a list of objects, None for a single object."""
    if isinstance(source, Mapping | str) or not isinstance(source, Iterable):
        return None
    if callable(getattr(source, "model_dump", None)):  # Pydantic models yield their fields
        return None
    return list(source)
