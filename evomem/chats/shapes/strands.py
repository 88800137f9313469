"""Strands Agents: Converse messages, and the folder in which a session keeps them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from evomem.chats.shapes.base import Context, ParsedMessage, Raw, Shape, chat_message, has
from evomem.chats.shapes.bedrock import is_converse


def _is_message(raw: Raw) -> bool:
    if has(raw.get("message"), "role", "content"):
        return "message_id" in raw and "redact_message" in raw
    return "tracking_id" in raw and is_converse(raw)


def _read_messages(raw: Raw, where: str, context: Context) -> Iterator[ParsedMessage]:
    if "message_id" not in raw:
        yield from chat_message(raw, where, context, metadata=None)
        return
    message = raw.get("redact_message") or raw["message"]
    more: dict[str, Any] = {"time": raw.get("created_at"), "id": None, "metadata": None}
    yield from chat_message(message, where, context, **more)


SHAPE = Shape(
    name="strands",
    about="messages of Strands Agents, or the folder of its file sessions",
    marks=("message", "message_id", "redact_message"),
    is_message=_is_message,
    read_messages=_read_messages,
)
