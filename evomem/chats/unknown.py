"""The error for a value whose shape is unknown."""

from __future__ import annotations

from collections.abc import Mapping

from evomem.chats.fields import brief
from evomem.chats.shapes import SHAPES
from evomem.chats.shapes.base import Shape
from evomem.errors import InputError

HOW = (
    'write one message a line as {"role": "user" or "assistant", "content": "...", '
    '"time": "2024-03-05T14:30:00Z", "session": "..."}, time and session if you have them'
)


class UnknownShape(InputError):
    """No shape recognises a value."""


def unknown(value: object, where: str, shape: Shape | None) -> UnknownShape:
    """Return the error that describes a value and the format that it resembles most."""
    if shape is not None:
        return UnknownShape(
            f"{where} is not of the format {shape.name} ({shape.about}), which has "
            f"{', '.join(shape.marks)}; it is {_described(value)}"
        )
    if not isinstance(value, Mapping):
        return UnknownShape(
            f"{where} is neither a message with 'role' and 'content' nor a conversation with "
            f"'messages', but {brief(value)}"
        )
    keys = _keys(value)
    nearest = max(SHAPES.values(), key=lambda s: len(keys & set(s.marks)) / len(s.marks))
    common = [mark for mark in nearest.marks if mark in keys]
    missing = [mark for mark in nearest.marks if mark not in keys]
    near = (
        f"; nearest is {nearest.name} ({nearest.about}), of which it has {', '.join(common)} and "
        f"lacks {', '.join(missing) or 'nothing, but its values are of other types'}"
        if common
        else ""
    )
    return UnknownShape(
        f"{where} is neither a message with 'role' and 'content' nor a conversation with "
        f"'messages', but {_described(value)}{near}. To convert it, {HOW}"
    )


def _described(value: object) -> str:
    if not isinstance(value, Mapping):
        return brief(value)
    keys = [str(key) for key in value]
    more = f" and {len(keys) - 8} more" if len(keys) > 8 else ""
    return f"an object with {', '.join(keys[:8]) or 'no keys'}{more}: {brief(value)}"


def _keys(value: Mapping[str, object]) -> set[str]:
    """Return the keys of an object, and of the first object in each of its lists."""
    keys = set(map(str, value))
    for inner in value.values():
        if isinstance(inner, list) and inner and isinstance(inner[0], Mapping):
            keys |= set(map(str, inner[0]))
    return keys
