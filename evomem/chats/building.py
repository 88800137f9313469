"""`Building`: a conversation that is being read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from evomem.chats.model import Conversation, Message
from evomem.chats.shapes import SHAPES
from evomem.chats.spool import in_order
from evomem.records import MAX_CHARS


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
        parts = [(part, place) for message, place in pairs for part in divided(message)]
        return Conversation(
            [message for message, _ in parts],
            [place for _, place in parts],
            self.id,
            self.time,
            self.title,
            self.shape or self._message_shape(),
            self.where,
        )

    def _message_shape(self) -> str:
        names = [name for name, _ in self.shapes.most_common()]
        return next((name for name in names if not SHAPES[name].plain), names[0])


def divided(message: Message) -> list[Message]:
    """Return a message, or its parts if its text is too long for a turn.

    Joined, their texts are the text; blank parts are left out. Parts end with white space if possible.
    Two adjacent parts are too long for one turn, so that each becomes a turn of its own. The first has
    the message's id.
    """
    text, parts = message["content"], []
    while len(text) > MAX_CHARS:
        end = 1 + max(text.rfind(space, MAX_CHARS // 2, MAX_CHARS) for space in " \n") or MAX_CHARS
        parts.append(text[:end])
        text = text[end:]
    if not parts:
        return [message]
    texts = [part for part in [*parts, text] if part.strip()] or [""]
    return [
        {**message, "content": part, "id": None if number else message["id"]}
        for number, part in enumerate(texts)
    ]
