"""Vercel's AI SDK: UI messages with parts (version 5 and later), and rows of version 4."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from evomem.chats.fields import TIME_FIELDS, first
from evomem.chats.parts import CALL, kinds
from evomem.chats.shapes.base import Context, ParsedMessage, Raw, Shape, chat_message

_PARTS = frozenset({"tool-call", "tool-result", "redacted-reasoning", "dynamic-tool", "step-start"})


def _is_message(raw: Raw) -> bool:
    if "role" not in raw:
        return False
    parts = raw.get("parts")
    if isinstance(parts, list) and (
        not parts or any("type" in p for p in parts if isinstance(p, Mapping))
    ):
        return True
    return "toolInvocations" in raw or any(kind in _PARTS for kind in kinds(raw.get("content")))


def _read_messages(raw: Raw, where: str, context: Context) -> Iterator[ParsedMessage]:
    content = raw.get("parts") or raw.get("content")
    if not raw.get("parts") and raw.get("toolInvocations"):
        context.left_out[CALL] += len(raw["toolInvocations"])
    metadata = raw.get("metadata")
    time = first(raw, TIME_FIELDS)
    if time is None and isinstance(metadata, Mapping):
        time = first(metadata, TIME_FIELDS)
    return chat_message(raw, where, context, content=content, time=time)


SHAPE = Shape(
    name="vercel-ai",
    about="messages of Vercel's AI SDK (UIMessage with parts, or rows of version 4)",
    marks=("role", "parts", "id"),
    is_message=_is_message,
    read_messages=_read_messages,
)
