"""LlamaIndex's chat messages as turns: what counts as said, what is answered, what is shown."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from llama_index.core.base.llms.types import ChatMessage, MessageRole, ToolCallBlock

from evomem.pairing import Message, as_turns
from evomem.records import MAX_CHARS, Turn

SAID = "llamaindex_said"
"""Metadata: which message of which session a turn begins with (`shown`)."""

_ROLES = {
    MessageRole.USER: "user",
    MessageRole.ASSISTANT: "assistant",
    MessageRole.CHATBOT: "assistant",
    MessageRole.MODEL: "assistant",
}


def spoken(messages: Sequence[ChatMessage]) -> list[Message]:
    """Return what the user and the assistant said to each other, as `evomem.pairing` takes it.

    System and tool messages, calls of tools and messages without text are left out. A text longer
    than a turn can hold is cut, and NUL characters are dropped: the history keeps them.
    """
    return [said for said in map(_said, messages) if said]


def complete(messages: Sequence[ChatMessage], session: str | None) -> list[Turn]:
    """Return the turns of a conversation, with ids; a last message of the user still waits.

    Ids are made of what was said, so the same conversation gives the same ids however often it is
    written; an exchange that a conversation holds twice has two.
    """
    return identified([turn for turn, _ in placed(messages)], session)


def placed(messages: Sequence[ChatMessage]) -> list[tuple[Turn, range]]:
    """Return the complete turns of a conversation with the places of their messages.

    What follows a turn up to the next one, such as the calls of tools, belongs to it.
    """
    said = [
        {**words, "id": str(place)}
        for place, message in enumerate(messages)
        if (words := _said(message))
    ]
    turns = as_turns(said)
    starts = [int(turn.id or 0) for turn in turns]
    ends = [*starts, len(messages)][1:]
    found = [(turn, range(*span)) for turn, *span in zip(turns, starts, ends, strict=True)]
    if said and said[-1]["role"] == "user":
        found.pop()
    return found


def identified(turns: Sequence[Turn], session: str | None) -> list[Turn]:
    """Return the turns with their session, ids and the mark that `shown` looks for."""
    counts: Counter[tuple[str, str]] = Counter()
    done = []
    for turn in turns:
        sides = (turn.user, turn.assistant)
        counts[sides] += 1
        begins = ("user", turn.user) if turn.user else ("assistant", turn.assistant)
        done.append(
            replace(
                turn,
                id=_digest(session, *sides, counts[sides]),
                session=session,
                metadata={SAID: _digest(session, *begins)},
            )
        )
    return done


def shown(messages: Sequence[ChatMessage], session: str | None) -> set[str]:
    """Return the marks of all that was said in `messages`: turns a prompt need not repeat.

    The message that waits for its answer is among them, so a turn that begins with it is never
    found by it.
    """
    return {_digest(session, said["role"], said["content"]) for said in spoken(messages)}


def question(messages: Sequence[ChatMessage]) -> str | None:
    """Return what the user said last."""
    asked = (said["content"] for said in reversed(spoken(messages)) if said["role"] == "user")
    return next(asked, None)


def _said(message: ChatMessage) -> dict[str, str] | None:
    role = _ROLES.get(message.role)
    text = (message.content or "").replace("\x00", "")[:MAX_CHARS]
    if role and text.strip() and not _calls_tools(message):
        return {"role": role, "content": text}
    return None


def _calls_tools(message: ChatMessage) -> bool:
    calls = message.additional_kwargs.get("tool_calls")
    return bool(calls) or any(isinstance(block, ToolCallBlock) for block in message.blocks)


def _digest(*parts: object) -> str:
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()
