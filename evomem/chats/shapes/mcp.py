"""The Model Context Protocol: prompt and sampling messages, whose content is one object."""

from __future__ import annotations

from collections.abc import Mapping

from evomem.chats.shapes.base import Raw, Shape, chat_message


def _is_message(raw: Raw) -> bool:
    content = raw.get("content")
    return "role" in raw and isinstance(content, Mapping) and "type" in content


SHAPE = Shape(
    name="mcp",
    about="messages of the Model Context Protocol, whose content is one object",
    marks=("role", "content", "messages"),
    is_message=_is_message,
    read_messages=chat_message,
)
