"""What a run of the Agent Framework said, as messages for `evomem.adapter`."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent_framework import Message as HostMessage

from evomem.adapter import spoken
from evomem.pairing import Message


@dataclass
class Exchange:
    """A question, and what was said to it so far."""

    place: str
    """The same for a question that is asked again in the same place of a conversation."""
    said: list[Message]
    recalled: list[str] = field(default_factory=list)

    @property
    def query(self) -> str:
        """What the user said last."""
        asked = [m["content"] for m in self.said if m["role"] == "user"]
        return str(asked[-1]) if asked else ""

    def messages(self) -> list[Message]:
        """Return the exchange, of which the first and the last message have an id."""
        ids = {len(self.said) - 1: uuid.uuid4().hex, 0: self.place}
        return [{**message, "id": ids.get(n)} for n, message in enumerate(self.said)]

    def to_json(self) -> dict[str, Any]:
        """Return the exchange as a session can keep it."""
        return {"place": self.place, "said": self.said, "recalled": self.recalled}


def begun(
    given: Iterable[HostMessage],
    history: Iterable[HostMessage],
    waiting: Mapping[str, Any] | None,
) -> Exchange:
    """Return the exchange that a run begins, or continues with if its input has no words of the user.

    Unanswered questions at the end of the history are part of it. A conversation
    without answers may have been cleared, or be kept elsewhere: its first question is never taken for
    another one.

    Args:
        given: The input of the run.
        history: What the conversation holds.
        waiting: The exchange of a run that waits for a person, as JSON.
    """
    asked = said(given)
    if waiting is not None and not any(message["role"] == "user" for message in asked):
        return Exchange(waiting["place"], [*waiting["said"], *asked], list(waiting["recalled"]))
    before = said(history)
    open_ = _trailing(before)
    before, asked = before[: len(before) - open_], [*before[len(before) - open_ :], *asked]
    place = uuid.uuid4().hex
    if before:
        texts = json.dumps([[message["role"], message["content"]] for message in spoken(before)])
        place = f"after {hashlib.blake2b(texts.encode(), digest_size=16).hexdigest()}"
    return Exchange(place, asked)


def said(messages: Iterable[HostMessage]) -> list[Message]:
    """Return what user and assistant said: text, without calls, results and reasoning."""
    texts = [
        (m.role, " ".join(c.text or "" for c in m.contents if c.type == "text")) for m in messages
    ]
    return [
        {"role": role, "content": text}
        for role, text in texts
        if role in ("user", "assistant") and text.strip()
    ]


def _trailing(messages: Sequence[Message]) -> int:
    """Return the number of unanswered messages of the user."""
    count = 0
    while count < len(messages) and messages[-1 - count]["role"] == "user":
        count += 1
    return count
