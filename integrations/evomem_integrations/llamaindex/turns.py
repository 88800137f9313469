"""LlamaIndex's chat messages as turns of a memory."""

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
    """Return the texts of user and assistant, in the form that `evomem.pairing` takes.

    System and tool messages, tool calls and messages without text are left out; text that the
    assistant writes along with a tool call is part of its answer. Texts are cleaned for the log; the
    history keeps the originals.
    """
    return adapter.spoken(
        {"role": _ROLES.get(message.role), "content": message.content} for message in messages
    )


def complete(messages: Sequence[ChatMessage], session: str | None) -> list[Turn]:
    """Return the answered turns of a conversation, with ids.

    Ids are derived from the texts, so a conversation has the same ids however often it is written. An
    exchange that occurs twice in a conversation has two ids.
    """
    return identified([turn for turn, _ in placed(messages)], session)


def placed(messages: Sequence[ChatMessage]) -> list[tuple[Turn, range]]:
    """Return the complete turns of a conversation with the indices of their messages.

    Messages between a turn and the next one, such as tool calls, belong to the turn.
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
    """Return whether the assistant has called tools and not answered yet."""
    for message in reversed(messages):
        if message.role in _ROLES and (_calls_tools(message) or (message.content or "").strip()):
            return _calls_tools(message)
    return False


def identified(turns: Sequence[Turn], session: str | None) -> list[Turn]:
    """Return the turns with their session and ids."""
    counts: Counter[tuple[str, str]] = Counter()
    result = []
    for turn in turns:
        sides = (turn.user, turn.assistant)
        counts[sides] += 1
        id = _digest(session, *sides, counts[sides])
        result.append(replace(turn, id=id, session=session))
    return result


def replaced(old: Sequence[Turn], new: Sequence[Turn]) -> tuple[Turn, Turn | None] | None:
    """Return the first turn of a conversation that changed, and its counterpart in the new version.

    The counterpart is None if the new version ends before it, for example because the end is to be
    regenerated. Return None if nothing changed, if only the beginning was removed, or if the two
    versions have nothing in common.
    """
    known = [turn.id for turn in old]
    start = known.index(new[0].id) if new and new[0].id in known else 0
    pairs = zip(old[start:], new, strict=False)
    same = sum(1 for _ in takewhile(lambda pair: pair[0].id == pair[1].id, pairs))
    before, after = old[start + same :], new[same:]
    if not before or not (same or after and after[0].user == before[0].user):
        return None
    if after and before[0].id in {turn.id for turn in after}:  # turns were inserted before it
        return None
    return before[0], (after[0] if after else None)


def question(messages: Sequence[ChatMessage]) -> str | None:
    """Return the text of the user's last message."""
    questions = (
        message["content"] for message in reversed(spoken(messages)) if message["role"] == "user"
    )
    return next(questions, None)


def _calls_tools(message: ChatMessage) -> bool:
    calls = message.additional_kwargs.get("tool_calls")
    return bool(calls) or any(isinstance(block, ToolCallBlock) for block in message.blocks)


def _digest(*parts: object) -> str:
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()
