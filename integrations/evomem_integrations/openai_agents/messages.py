"""The messages of a run of the OpenAI Agents SDK, in the form that `evomem.adapter` takes.

Ids of items are not used: with the chat completions API, all items have the same id.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import to_json

from evomem.adapter import spoken
from evomem.pairing import Message

Item = Mapping[str, Any]


@dataclass
class Exchange:
    """A question, and the model's messages before the answer."""

    questions: list[Message]
    preambles: list[Message]
    place: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Identifies the question's position in the session: asked again there, it has the same."""

    @property
    def query(self) -> str:
        """The text of the user's last message."""
        return next((str(message["content"]) for message in reversed(spoken(self.questions))), "")

    def messages(self, output: object) -> list[Message]:
        """Return the exchange as messages, with the output of the run."""
        questions = [
            {**message, "id": None if n else self.place} for n, message in enumerate(self.questions)
        ]
        answer = output if isinstance(output, str) else to_json(output, fallback=str).decode()
        last = {"role": "assistant", "content": answer, "id": uuid.uuid4().hex}
        return [*questions, *self.preambles, last]


def open_exchange(items: Sequence[Item], session: Sequence[Item] = ()) -> Exchange:
    """Return the exchange at the end of a model's input.

    Consecutive unanswered questions are one question. The place of the exchange is a digest of the
    session's messages before it. A session without answers may have been cleared, so a first question
    never replaces another.

    Args:
        items: The input.
        session: The items of the session, with or without the question at the end of the input.
    """
    start, end = _question_span(items)
    exchange = Exchange(text_messages(items[start:end]), text_messages(items[end:]))
    resumed = end < len(items)
    before = text_messages(
        session[
            : _question_span(session)[0] if resumed else _user_messages_start(session, len(session))
        ]
    )
    if before:
        texts = json.dumps([[message["role"], message["content"]] for message in spoken(before)])
        exchange.place = f"after {hashlib.blake2b(texts.encode(), digest_size=16).hexdigest()}"
    return exchange


def text_messages(items: Iterable[Item]) -> list[Message]:
    """Return the messages of user and assistant, without ids."""
    return [
        {"role": item["role"], "content": item.get("content")}
        for item in items
        if item.get("role") in ("user", "assistant")
    ]


def _question_span(items: Sequence[Item]) -> tuple[int, int]:
    """Return the start and end of the last question."""
    end = max((n + 1 for n, item in enumerate(items) if _is_user(item)), default=0)
    return _user_messages_start(items, end), end


def _user_messages_start(items: Sequence[Item], end: int) -> int:
    """Return the start of the run of user messages that ends at `end`."""
    while end and _is_user(items[end - 1]):
        end -= 1
    return end


def _is_user(item: Item) -> bool:
    return item.get("role") == "user"
