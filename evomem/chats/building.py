"""`Building`: a conversation that is being read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from evomem.chats.model import Conversation, Message
from evomem.chats.shapes import SHAPES
from evomem.chats.spool import in_order


@dataclass
class Building:
    """A conversation that is being read."""

    where: str
    id: str | None = None
    time: datetime | None = None
    title: str | None = None
    shape: str | None = None
    ordered: bool = False
    messages: list[dict[str, Any]] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    shapes: Counter[str] = field(default_factory=Counter)
    seen: set[str] | None = None
    """Ids of messages already read, for formats in which later runs repeat messages."""
    latest: datetime | None = None
    """The time of the last message that has a time."""

    def conversation(self) -> Conversation:
        """Return the conversation, with its messages in order of time if all of them have times."""
        pairs: list[tuple[Message, str]] = list(zip(self.messages, self.places, strict=True))
        if not self.ordered:
            pairs = in_order(pairs)
        if self.time is not None:
            for message in self.messages:
                message["time"] = message["time"] or self.time
        return Conversation(
            [message for message, _ in pairs],
            [place for _, place in pairs],
            self.id,
            self.time,
            self.title,
            self.shape or self._message_shape(),
            self.where,
        )

    def _message_shape(self) -> str:
        names = [name for name, _ in self.shapes.most_common()]
        return next((name for name in names if not SHAPES[name].plain), names[0])
