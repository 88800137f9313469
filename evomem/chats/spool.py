"""Conversations kept on disk while more are read: memory stays bounded, order does not."""

from __future__ import annotations

import json
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import fields
from datetime import datetime
from typing import Any, NamedTuple

from evomem.chats.model import Conversation

IN_MEMORY = 16 << 20  # bytes kept in memory before the disk is used


class _Place(NamedTuple):
    offset: int
    start: datetime | None


class Spool:
    """Conversations in order of time if all have one, otherwise as they were added."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)
        weakref.finalize(self, self._file.close)
        self._places: list[_Place] = []
        self._end = 0

    def add(self, conversation: Conversation) -> None:
        """Keep one more."""
        times = [message["time"] for message in conversation.messages]
        start = times[0] if times and times[0] is not None else conversation.time
        self._places.append(_Place(self._end, start))
        self._file.seek(self._end)
        line = json.dumps([getattr(conversation, name) for name in _FIELDS], default=_as_text)
        self._file.write(line.encode() + b"\n")
        self._end = self._file.tell()

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Conversation]:
        places = self._places
        if all(place.start is not None for place in places):
            places = sorted(places, key=lambda place: place.start)  # type: ignore[arg-type, return-value]
        for place in places:
            self._file.seek(place.offset)
            yield _conversation(json.loads(self._file.readline()))


def _as_text(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else dict(value)  # type: ignore[call-overload]


def _conversation(values: list[Any]) -> Conversation:
    named = dict(zip(_FIELDS, values, strict=True))
    for message in named["messages"]:
        message["time"] = _time(message["time"])
    return Conversation(**named | {"time": _time(named["time"])})


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


_FIELDS = [field.name for field in fields(Conversation)]
