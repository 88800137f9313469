"""`Spool`: conversations on disk, which can be sorted without holding them in memory."""

from __future__ import annotations

import json
import tempfile
import weakref
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field, fields, replace
from datetime import datetime

from evomem.chats.model import Conversation, Message
from evomem.chats.shapes import SHAPES

IN_MEMORY = 16 << 20  # bytes kept in memory before the disk is used


@dataclass(slots=True)
class _Entry:
    offsets: list[int] = field(default_factory=list)
    start: datetime | None = None
    timeless: bool = False


class Spool:
    """Conversations in order of time if all have times, otherwise in order of addition."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)
        weakref.finalize(self, self._file.close)
        self._entries: dict[Hashable, _Entry] = {}
        self._end = 0

    def add(self, conversation: Conversation, key: Hashable = None) -> None:
        """Add a conversation, or further messages of the conversation with this key."""
        entry = self._entries.setdefault(len(self._entries) if key is None else key, _Entry())
        start = conversation.messages[0]["time"] or conversation.time
        entry.timeless |= start is None
        entry.start = min(filter(None, (entry.start, start)), default=None)
        entry.offsets.append(self._end)
        line = json.dumps([getattr(conversation, name) for name in _FIELDS], default=_as_text)
        self._file.seek(self._end)
        self._file.write(line.encode() + b"\n")
        self._end = self._file.tell()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Conversation]:
        entries = list(self._entries.values())
        if not any(entry.timeless for entry in entries):
            entries.sort(key=lambda entry: entry.start)  # type: ignore[arg-type, return-value]
        for entry in entries:
            parts = [self._read(offset) for offset in entry.offsets]
            yield parts[0] if len(parts) == 1 else _joined(parts)

    def _read(self, offset: int) -> Conversation:
        self._file.seek(offset)
        named = dict(zip(_FIELDS, json.loads(self._file.readline()), strict=True))
        for message in named["messages"]:
            message["time"] = _time(message["time"])
        return Conversation(**named | {"time": _time(named["time"])})


def in_order(pairs: list[tuple[Message, str]]) -> list[tuple[Message, str]]:
    """Return messages with their places, in order of time if all have times."""
    times = [message["time"] for message, _ in pairs]
    if not all(times):
        return pairs
    if times[0] > times[-1] and all(a >= b for a, b in zip(times, times[1:], strict=False)):
        pairs = pairs[::-1]  # newest first: also reverses messages of the same second
    return sorted(pairs, key=lambda pair: pair[0]["time"])


def _joined(parts: list[Conversation]) -> Conversation:
    pairs = [pair for part in parts for pair in zip(part.messages, part.places, strict=True)]
    pairs = in_order(pairs)
    shape = next((part.shape for part in parts if not SHAPES[part.shape].plain), parts[0].shape)
    return replace(
        parts[0],
        messages=[message for message, _ in pairs],
        places=[place for _, place in pairs],
        shape=shape,
    )


def _as_text(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else dict(value)  # type: ignore[call-overload]


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


_FIELDS = [item.name for item in fields(Conversation)]
