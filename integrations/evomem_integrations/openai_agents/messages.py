"""What a run of the OpenAI Agents SDK said, as messages for `evomem.adapter`.

Ids of items are not used: models behind the chat completions API give all of them the same.
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
    """A question, and what is said before the answer."""

    asked: list[Message]
    preambles: list[Message]
    place: str = field(default_factory=lambda: uuid.uuid4().hex)
    """The same for a question that is asked again in the same place of a session."""

    @property
    def query(self) -> str:
        """What the user said last."""
        return next((str(message["content"]) for message in reversed(spoken(self.asked))), "")

    def messages(self, output: object) -> list[Message]:
        """Return the exchange as messages, with the output of the run."""
        asked = [
            {**message, "id": None if n else self.place} for n, message in enumerate(self.asked)
        ]
        answer = output if isinstance(output, str) else to_json(output, fallback=str).decode()
        last = {"role": "assistant", "content": answer, "id": uuid.uuid4().hex}
        return [*asked, *self.preambles, last]


def begun(items: Sequence[Item], session: Sequence[Item] = ()) -> Exchange:
    """Return the exchange that a model's input ends with.

    Unanswered questions in a row are one. The place of the exchange is what the session
    holds before it. A session without answers may have been cleared, so its first question is never
    taken for another one.

    Args:
        items: The input.
        session: What the session holds, with or without a question that the input ends with.
    """
    start, end = _question(items)
    exchange = Exchange(said(items[start:end]), said(items[end:]))
    resumed = end < len(items)
    before = said(session[: _question(session)[0] if resumed else _trailing(session, len(session))])
    if before:
        texts = json.dumps([[message["role"], message["content"]] for message in spoken(before)])
        exchange.place = f"after {hashlib.blake2b(texts.encode(), digest_size=16).hexdigest()}"
    return exchange


def said(items: Iterable[Item]) -> list[Message]:
    """Return the items that user and assistant said, without ids."""
    return [
        {"role": item["role"], "content": item.get("content")}
        for item in items
        if item.get("role") in ("user", "assistant")
    ]


def _question(items: Sequence[Item]) -> tuple[int, int]:
    """Return where the last question begins and ends."""
    end = max((n + 1 for n, item in enumerate(items) if _is_user(item)), default=0)
    return _trailing(items, end), end


def _trailing(items: Sequence[Item], end: int) -> int:
    """Return where the user's messages begin that end at `end`."""
    while end and _is_user(items[end - 1]):
        end -= 1
    return end


def _is_user(item: Item) -> bool:
    return item.get("role") == "user"
