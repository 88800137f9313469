"""Claude's data export: conversations of chat_messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from evomem.chats.shapes.base import (
    Context,
    ParsedMessage,
    Raw,
    Shape,
    Talk,
    chat_message,
    has,
    header,
    placed,
)


def _is_message(raw: Raw) -> bool:
    return "sender" in raw and "role" not in raw and ("text" in raw or "content" in raw)


def _read_messages(raw: Raw, where: str, context: Context) -> Iterator[ParsedMessage]:
    content = raw.get("content") or raw.get("text") or ""  # `text` has placeholders for tools in it
    for key in ("attachments", "files", "files_v2"):
        if isinstance(raw.get(key), list) and raw[key]:
            context.left_out["file part"] += len(raw[key])
            break
    more: dict[str, Any] = {"id": raw.get("uuid"), "metadata": None}
    before = context.left_out.total()
    messages = list(chat_message(raw, where, context, role=raw["sender"], content=content, **more))
    text = raw.get("text")
    if not messages and isinstance(text, str) and text.strip() and content is not text:
        if context.left_out.total() == before + 1 and context.left_out["empty"]:
            context.left_out["empty"] -= 1
        messages = list(chat_message(raw, where, context, role=raw["sender"], content=text, **more))
    yield from messages


def _is_record(raw: Raw) -> bool:
    return has(raw, "chat_messages")


def _talks(raw: Raw, where: str) -> Iterator[Talk]:
    given = header(raw, where) | {"id": raw.get("uuid")}
    messages = _branch(raw, placed(raw["chat_messages"], where, "chat_messages"))
    yield Talk(where, messages, ordered=True, **given)


def _branch(raw: Raw, messages: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Return the branch that was shown last, if the export names its last message."""
    nodes = {item.get("uuid"): (where, item) for where, item in messages if isinstance(item, dict)}
    key = raw.get("current_leaf_message_uuid")
    if key not in nodes or not all("parent_message_uuid" in item for _, item in nodes.values()):
        return messages
    branch: list[tuple[str, Any]] = []
    while key in nodes and len(branch) <= len(nodes):
        branch.append(nodes[key])
        key = nodes[key][1].get("parent_message_uuid")
    return branch[::-1]


SHAPE = Shape(
    name="claude-export",
    about="Claude's data export (conversations.json, or the zip as it comes)",
    marks=("uuid", "name", "chat_messages", "sender"),
    is_message=_is_message,
    read_messages=_read_messages,
    is_record=_is_record,
    talks=_talks,
)
