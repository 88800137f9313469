"""Amazon Bedrock's Converse API: parts without a type."""

from __future__ import annotations

from evomem.chats.shapes.base import Raw, Shape, chat_message

_PARTS = frozenset({"toolUse", "toolResult", "reasoningContent", "guardContent", "cachePoint"})


def is_converse(raw: Raw) -> bool:
    """Return whether a message has content parts that only the Converse API has."""
    content = raw.get("content")
    if raw.get("role") not in ("user", "assistant") or not isinstance(content, list):
        return False
    parts = [part for part in content if isinstance(part, dict)]
    return any(_PARTS & part.keys() for part in parts) or (
        len(parts) == len(content) > 0 and all(part.keys() == {"text"} for part in parts)
    )


SHAPE = Shape(
    name="bedrock-converse",
    about="messages of Amazon Bedrock's Converse API, whose parts have no type",
    marks=("role", "content", "toolUse"),
    is_message=is_converse,
    read_messages=chat_message,
)
