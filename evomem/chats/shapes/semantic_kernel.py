"""Semantic Kernel: chat histories with items, from Python and .NET."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from evomem.chats.shapes.base import Context, ParsedMessage, Raw, Shape, chat_message, has


def _is_message(raw: Raw) -> bool:
    if isinstance(raw.get("items"), list):
        return "role" in raw
    return has(raw.get("Role"), "Label") and isinstance(raw.get("Items"), list)


def _read_messages(raw: Raw, where: str, context: Context) -> Iterator[ParsedMessage]:
    more: dict[str, Any] = {"name": raw.get("name") or raw.get("AuthorName"), "metadata": None}
    items = [_typed(item) for item in raw.get("items") or raw.get("Items") or []]
    role = raw.get("role") or raw["Role"]["Label"]
    return chat_message(raw, where, context, role=role, content=items, **more)


def _typed(item: Any) -> Any:
    """Return an item with its `content_type` as `type`, which otherwise holds a media type."""
    if isinstance(item, Mapping) and isinstance(item.get("content_type"), str):
        return {**item, "type": item["content_type"]}
    return item


SHAPE = Shape(
    name="semantic-kernel",
    about="chat history of Semantic Kernel, whose messages have items",
    marks=("role", "items", "content_type"),
    is_message=_is_message,
    read_messages=_read_messages,
)
