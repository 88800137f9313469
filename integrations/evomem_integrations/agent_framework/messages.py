"""The messages of a run of the Agent Framework, in the form that `evomem.adapter` takes."""

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
    """A question and the messages that answer it so far."""

    place: str
    """Identifies the question's position in the conversation: asked again there, it has the same."""
    messages: list[Message]
    recalled: list[str] = field(default_factory=list)

    @property
    def query(self) -> str:
        """The text of the user's last message."""
        questions = [m["content"] for m in self.messages if m["role"] == "user"]
        return str(questions[-1]) if questions else ""

    def with_ids(self) -> list[Message]:
        """Return the messages; the first and the last have an id."""
        ids = {len(self.messages) - 1: uuid.uuid4().hex, 0: self.place}
        return [{**message, "id": ids.get(n)} for n, message in enumerate(self.messages)]

    def to_json(self) -> dict[str, Any]:
        """Return the exchange as JSON, for the session's state."""
        return {"place": self.place, "said": self.messages, "recalled": self.recalled}


def open_exchange(
    run_input: Iterable[HostMessage],
    history: Iterable[HostMessage],
    paused: Mapping[str, Any] | None,
) -> Exchange:
    """Return the exchange that a run starts, or resumes if its input has no message of the user.

    Unanswered questions at the end of the history are part of the exchange. A history without
    answers may have been cleared or be stored elsewhere, so a first question never replaces another.

    Args:
        run_input: The input of the run.
        history: The messages of the conversation before it.
        paused: The exchange of a run that waits for a person, as JSON.
    """
    questions = text_messages(run_input)
    if paused is not None and not any(message["role"] == "user" for message in questions):
        return Exchange(paused["place"], [*paused["said"], *questions], list(paused["recalled"]))
    before = text_messages(history)
    answered = len(before) - _unanswered_count(before)
    before, questions = before[:answered], [*before[answered:], *questions]
    place = uuid.uuid4().hex
    if before:
        texts = json.dumps([[message["role"], message["content"]] for message in spoken(before)])
        place = f"after {hashlib.blake2b(texts.encode(), digest_size=16).hexdigest()}"
    return Exchange(place, questions)


def text_messages(messages: Iterable[HostMessage]) -> list[Message]:
    """Return the texts of user and assistant, without tool calls, results and reasoning."""
    texts = [
        (m.role, " ".join(c.text or "" for c in m.contents if c.type == "text")) for m in messages
    ]
    return [
        {"role": role, "content": text}
        for role, text in texts
        if role in ("user", "assistant") and text.strip()
    ]


def _unanswered_count(messages: Sequence[Message]) -> int:
    """Return the number of user messages at the end."""
    count = 0
    while count < len(messages) and messages[-1 - count]["role"] == "user":
        count += 1
    return count
