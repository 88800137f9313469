"""Anthropic's Messages API: content in blocks, tool results in messages of the user."""

from __future__ import annotations

from evomem.chats.parts import kinds
from evomem.chats.shapes.base import Raw, Shape, chat_message

_BLOCKS = frozenset(
    {"tool_use", "tool_result", "thinking", "redacted_thinking", "server_tool_use", "mcp_tool_use"}
    | {"web_search_tool_result", "document", "search_result", "container_upload"}
)


def _is_message(raw: Raw) -> bool:
    if raw.get("role") not in ("user", "assistant"):
        return False
    if raw.get("type") == "message" and "stop_reason" in raw:
        return True
    content = raw.get("content")
    if not isinstance(content, list | tuple):
        return False
    if any(kind in _BLOCKS for kind in kinds(content)):
        return True
    return any(
        isinstance(part, dict) and ("citations" in part or "source" in part) for part in content
    )


SHAPE = Shape(
    name="anthropic",
    about="messages of Anthropic's API, with content blocks",
    marks=("role", "content", "stop_reason"),
    is_message=_is_message,
    read_messages=chat_message,
)
