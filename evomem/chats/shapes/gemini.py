"""Google's Gemini API: contents with parts; and prompts saved by AI Studio."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from evomem.chats.parts import REASONING
from evomem.chats.shapes.base import (
    Context,
    ParsedMessage,
    Raw,
    Shape,
    Talk,
    chat_message,
    first_item,
    has,
    header,
    placed,
)


def _is_message(raw: Raw) -> bool:
    parts = raw.get("parts")
    if raw.get("role", "user") not in ("user", "model", "function") or not parts:
        return False
    if isinstance(parts, str):
        return "content" not in raw
    return isinstance(parts, list) and all(
        isinstance(part, str) or (isinstance(part, Mapping) and "type" not in part)
        for part in parts
    )


def read_messages(raw: Raw, where: str, context: Context) -> Iterator[ParsedMessage]:
    """Yield the messages of a content."""
    parts = raw.get("parts")
    if isinstance(parts, list):
        parts = [_bare(part) for part in parts]
    yield from chat_message(raw, where, context, role=raw.get("role") or "user", content=parts)


def _bare(part: Any) -> Any:
    """Return a part without the fields that are not set, as the Python SDK dumps them."""
    if isinstance(part, Mapping):
        return {key: value for key, value in part.items() if value is not None}
    return part


def _is_record(raw: Raw) -> bool:
    if any("parts" in first_item(raw.get(key)) for key in ("contents", "history")):
        return True
    if "content" in first_item(raw.get("candidates")):
        return True
    return has(raw.get("chunkedPrompt"), "chunks")


def _talks(raw: Raw, where: str) -> Iterator[Talk]:
    if has(raw.get("chunkedPrompt"), "chunks"):
        messages = placed(raw["chunkedPrompt"]["chunks"], where, "chunks", "chunk")
    else:
        key = next((key for key in ("contents", "history") if key in raw), None)
        messages = placed(raw[key], where, key, "content") if key else []
        if answer := first_item(raw.get("candidates")).get("content"):
            messages.append((f"{where}, candidate 1", answer))
    yield Talk(where, messages, **header(raw, where))


def _is_chunk(raw: Raw) -> bool:
    return _is_message(raw) or (
        raw.get("role") in ("user", "model") and "text" in raw and "content" not in raw
    )


def _read_messages(raw: Raw, where: str, context: Context) -> Iterator[ParsedMessage]:
    if "parts" in raw and not isinstance(raw.get("text"), str):
        yield from read_messages(raw, where, context)
    elif raw.get("isThought"):
        context.left_out[REASONING] += 1
    else:
        time = raw.get("createTime")
        yield from chat_message(raw, where, context, content=raw.get("text"), time=time)


SHAPE = Shape(
    name="gemini",
    about="contents of Google's Gemini API (role user or model, parts), or an AI Studio prompt",
    marks=("role", "parts", "contents"),
    is_message=_is_chunk,
    read_messages=_read_messages,
    is_record=_is_record,
    talks=_talks,
)
