"""Detects the shape of a value in a file: a message, a conversation, or neither."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from evomem.chats.fields import SESSION_FIELDS, TIME_FIELDS
from evomem.chats.shapes import SHAPES
from evomem.chats.shapes.base import Raw, Shape
from evomem.errors import InputError

_PLAIN = frozenset({"role", "content", "id", "name", *TIME_FIELDS, *SESSION_FIELDS})
"""The keys of messages that have the same meaning in all shapes."""
DAMAGE = (KeyError, TypeError, AttributeError, ValueError, IndexError, RecursionError)
"""Errors that a shape's code may raise on a value that only resembles the shape."""


def shape_named(format: str | None) -> Shape | None:
    """Return the shape of this name. Raises `InputError`."""
    if format is None:
        return None
    if format not in SHAPES:
        raise InputError(f"{format!r} is not a known format; known are {', '.join(sorted(SHAPES))}")
    return SHAPES[format]


class Detector:
    """Detects the shapes of values; a forced shape takes precedence."""

    def __init__(self, forced: Shape | None) -> None:
        self.forced = forced

    def candidates(self) -> Iterable[Shape]:
        """Return the shapes that values may have; a forced shape may have common messages, too."""
        if self.forced is None:
            return SHAPES.values()
        if self.forced.read_messages is None:
            return (self.forced,)
        return (self.forced, *(SHAPES[name] for name in (*self.forced.beside, "openai-chat")))

    def is_message(self, value: object) -> bool:
        """Return whether a value is neither a conversation nor a list."""
        if not isinstance(value, Mapping):
            return not isinstance(value, list)
        shape = self.record_shape(value)
        return shape is None

    def record_shape(self, value: Raw) -> Shape | None:
        """Return the shape of a conversation or an export; None for a message."""
        if self.forced is None and _is_plain(value):
            return None
        for shape in self.candidates():
            if _fits(shape.is_record, value):
                return shape
            if _fits(shape.is_message, value):
                return None
        return None

    def message_shape(self, value: Raw, *, loose: bool = False) -> Shape | None:
        """Return the shape of a message; a `loose` one is in no conversation of the forced shape."""
        if self.forced is None and _is_plain(value):
            return SHAPES["openai-chat"]
        candidates = self.candidates()
        if self.forced is not None and self.forced.read_messages is None and not loose:
            candidates = SHAPES.values()  # conversations may have messages of any shape
        return next((shape for shape in candidates if _fits(shape.is_message, value)), None)


def _is_plain(value: Raw) -> bool:
    """Return whether this is a message in the common form, which needs no further detection."""
    return "role" in value and isinstance(value.get("content"), str) and value.keys() <= _PLAIN


def _fits(test: Callable[[Raw], bool] | None, value: Raw) -> bool:
    """Return whether a value passes a test; an error counts as failure."""
    try:
        return test is not None and test(value)
    except DAMAGE:
        return False
