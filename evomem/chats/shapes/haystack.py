"""Haystack: chat messages whose parts have no type; before 2.9 their keys begin with underscores."""

from __future__ import annotations

from collections.abc import Iterator

from evomem.chats.shapes.base import Context, ParsedMessage, Raw, Shape, chat_message, has


def _is_message(raw: Raw) -> bool:
    return has(raw, "_role", "_content") or (has(raw, "role", "meta", "content") and "name" in raw)


def _read_messages(raw: Raw, where: str, context: Context) -> Iterator[ParsedMessage]:
    bare = {key.removeprefix("_"): value for key, value in raw.items()}
    return chat_message(bare, where, context)


SHAPE = Shape(
    name="haystack",
    about="Haystack chat messages (ChatMessage.to_dict)",
    marks=("role", "content", "meta", "name"),
    is_message=_is_message,
    read_messages=_read_messages,
)
