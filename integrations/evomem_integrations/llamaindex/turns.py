"""LlamaIndex's chat messages as turns: what counts as said, what is answered, what is shown."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

from llama_index.core.base.llms.types import ChatMessage, MessageRole, ToolCallBlock

from evomem import adapter
from evomem.pairing import Message, exchanges
from evomem.records import Turn

_ROLES = {
    MessageRole.USER: "user",
    MessageRole.ASSISTANT: "assistant",
    MessageRole.CHATBOT: "assistant",
    MessageRole.MODEL: "assistant",
}


def spoken(messages: Sequence[ChatMessage]) -> list[Message]:
    """Return what the user and the assistant said to each other, as `evomem.pairing` takes it.

    System and tool messages, calls of tools and messages without text are left out; what the
    assistant says as it calls a tool is a part of its answer. Texts are cleaned for the log: the
    history keeps them as they are.
    """
    return adapter.spoken(
        {"role": _ROLES.get(message.role), "content": message.content} for message in messages
    )


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
    spoken_at = [(place, spoken([message])) for place, message in enumerate(messages)]
    groups = exchanges((place, words[0]) for place, words in spoken_at if words)
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
    """Return the turns with their session and ids."""
    counts: Counter[tuple[str, str]] = Counter()
    done = []
    for turn in turns:
        sides = (turn.user, turn.assistant)
        counts[sides] += 1
        id = _digest(session, *sides, counts[sides])
        done.append(replace(turn, id=id, session=session))
    return done


def replaced(old: Sequence[Turn], new: Sequence[Turn]) -> tuple[Turn, Turn | None] | None:
    """Return the first turn of a conversation that changed, and its counterpart in the new one.

    That is None where the new conversation ends before it, as one does whose end is to be said again.
    A conversation that lost its beginning has not changed, and neither has one that shares nothing
    with the old one.
    """
    known = [turn.id for turn in old]
    start = known.index(new[0].id) if new and new[0].id in known else 0
    pairs = zip(old[start:], new, strict=False)
    same = sum(1 for _ in takewhile(lambda pair: pair[0].id == pair[1].id, pairs))
    before, after = old[start + same :], new[same:]
    if not before or not (same or after and after[0].user == before[0].user):
        return None
    if after and before[0].id in {turn.id for turn in after}:  # something was put in between
        return None
    return before[0], (after[0] if after else None)


def question(messages: Sequence[ChatMessage]) -> str | None:
    """Return what the user said last."""
    asked = (
        message["content"] for message in reversed(spoken(messages)) if message["role"] == "user"
    )
    return next(asked, None)


def _calls_tools(message: ChatMessage) -> bool:
    calls = message.additional_kwargs.get("tool_calls")
    return bool(calls) or any(isinstance(block, ToolCallBlock) for block in message.blocks)


def _digest(*parts: object) -> str:
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()
