"""LlamaIndex's chat messages as turns: what counts as said, what is answered, what is shown."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from llama_index.core.base.llms.types import ChatMessage, MessageRole, ToolCallBlock

from evomem.pairing import Message, as_turns, exchanges
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

    System and tool messages, calls of tools and messages without text are left out; what the
    assistant says as it calls a tool is a part of its answer. A text longer than a turn can hold is
    cut, and NUL characters are dropped: the history keeps them.
    """
    return [said for said in map(_said, messages) if said]


def complete(messages: Sequence[ChatMessage], session: str | None) -> list[Turn]:
    """Return the turns of a conversation, with ids; what is not answered yet still waits.

    Ids are made of what was said, so the same conversation gives the same ids however often it is
    written; an exchange that a conversation holds twice has two.
    """
    return identified([turn for turn, _ in placed(messages)], session)


def placed(messages: Sequence[ChatMessage]) -> list[tuple[Turn, range]]:
    """Return the complete turns of a conversation with the places of their messages.

    What follows a turn up to the next one, such as the calls of tools, belongs to it.
    """
    said = [(place, _said(message)) for place, message in enumerate(messages)]
    groups = exchanges((place, words) for place, words in said if words)
    starts = [exchange.messages[0][0] for exchange in groups]
    spans = [range(*span) for span in zip(starts, [*starts, len(messages)][1:], strict=False)]
    if groups and groups[-1].answered and _is_open(messages):
        groups.pop()
    while groups and not groups[-1].answered:
        groups.pop()
    return [(exchange.turn(), span) for exchange, span in zip(groups, spans, strict=False)]


def _is_open(messages: Sequence[ChatMessage]) -> bool:
    """Return whether the assistant has called tools and has not answered since."""
    for message in reversed(messages):
        if message.role in _ROLES and (_calls_tools(message) or (message.content or "").strip()):
            return _calls_tools(message)
    return False


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
    said = spoken(messages)
    marks = {_digest(session, message["role"], message["content"]) for message in said}
    marks.update(_digest(session, "user", turn.user) for turn in as_turns(said) if turn.user)
    return marks


def question(messages: Sequence[ChatMessage]) -> str | None:
    """Return what the user said last."""
    asked = (said["content"] for said in reversed(spoken(messages)) if said["role"] == "user")
    return next(asked, None)


def _said(message: ChatMessage) -> dict[str, str] | None:
    role = _ROLES.get(message.role)
    text = (message.content or "").replace("\x00", "")[:MAX_CHARS]
    if role and text.strip():
        return {"role": role, "content": text}
    return None


def _calls_tools(message: ChatMessage) -> bool:
    calls = message.additional_kwargs.get("tool_calls")
    return bool(calls) or any(isinstance(block, ToolCallBlock) for block in message.blocks)


def _digest(*parts: object) -> str:
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()
