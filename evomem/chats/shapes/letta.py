"""Letta: agent files (.af); older agents answer with a tool call and receive messages in JSON envelopes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from evomem.chats.parts import CALL
from evomem.chats.shapes.base import (
    Context,
    ParsedMessage,
    Raw,
    Shape,
    Talk,
    chat_message,
    first_item,
    has,
    placed,
)


def _is_message(raw: Raw) -> bool:
    if "message_type" in raw and isinstance(raw["message_type"], str):
        return raw["message_type"].endswith("_message") and "role" not in raw
    return (
        "role" in raw
        and ("tool_returns" in raw or "in_context" in raw)
        or (has(raw, "role", "agent_id", "tool_calls"))
    )


_COUNTED = re.compile(r"(agent|message)-\d+")
_TYPES = {
    "user_message": "user",
    "assistant_message": "assistant",
    "system_message": "system",
    "tool_return_message": "tool",
    "tool_call_message": "tool-call",
}


def _read_messages(raw: Raw, where: str, context: Context) -> Iterator[ParsedMessage]:
    role = raw.get("role") or _TYPES.get(raw["message_type"])
    if role is None:
        context.left_out["reasoning" if "reasoning" in raw["message_type"] else "event"] += 1
        return
    content = raw.get("content")
    calls = raw.get("tool_calls") or ()
    spoken = [text for call in calls if (text := _sent(call)) is not None]
    more: dict[str, Any] = {"metadata": None, "name": None, "id": _own(raw.get("id"))}
    if role == "assistant" and spoken:  # the content, if any, is reasoning
        context.left_out["reasoning"] += bool(content)
        context.left_out[CALL] += len(calls) - len(spoken)
        for text in spoken:
            bare = {key: value for key, value in raw.items() if key != "tool_calls"}
            yield from chat_message(bare, where, context, role=role, content=text, **more)
        return
    for piece in chat_message(raw, where, context, role=role, content=content, **more):
        text = _heard(piece.text) if piece.role == "user" else piece.text
        if text is None:
            context.left_out["event"] += 1
        else:
            piece.text = text
            yield piece


def _own(id: object) -> str | None:
    """Return an id; None if it is a number that starts at 0 in every file."""
    return id if isinstance(id, str) and not _COUNTED.fullmatch(id) else None


def _sent(call: object) -> str | None:
    """Return the message of a `send_message` call; None for any other call."""
    if not isinstance(call, Mapping) or not has(call.get("function"), "name", "arguments"):
        return None
    if call["function"]["name"] != "send_message":
        return None
    try:
        message = json.loads(call["function"]["arguments"])["message"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return message if isinstance(message, str) else None


def _heard(text: str) -> str | None:
    """Return the user's text without its envelope; None if the envelope holds an event."""
    if not text.lstrip().startswith('{"type"') and not text.lstrip().startswith("{\n"):
        return text
    try:
        envelope = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if not has(envelope, "type"):
        return text
    message = envelope.get("message")
    return message if envelope["type"] == "user_message" and isinstance(message, str) else None


def _is_record(raw: Raw) -> bool:
    if "messages" in first_item(raw.get("agents")):
        return True
    return has(raw, "messages", "agent_type") or has(raw, "messages", "core_memory")


def _talks(raw: Raw, where: str) -> Iterator[Talk]:
    agents: list[tuple[str, object]] = [(where, raw)]
    if "agents" in raw:
        agents = placed(raw["agents"], where, "agents", "agent")
    for place, agent in agents:
        if not has(agent, "messages"):
            continue
        name = agent.get("name")
        yield Talk(
            place,
            placed(agent["messages"], place),
            id=_own(agent.get("id")),
            title=name if isinstance(name, str) else None,
        )


SHAPE = Shape(
    name="letta",
    about="Letta agent files (.af), or messages of its API",
    marks=("agents", "messages", "message_type", "agent_type"),
    is_message=_is_message,
    read_messages=_read_messages,
    is_record=_is_record,
    talks=_talks,
)
