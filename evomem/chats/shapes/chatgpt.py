"""ChatGPT's data export: each conversation is a tree, of which one branch was shown last."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from evomem.chats.parts import CALL, REASONING, RESULT
from evomem.chats.shapes.base import (
    LEFT_OUT_ROLES,
    Context,
    ParsedMessage,
    Raw,
    Shape,
    Talk,
    chat_message,
    has,
    header,
)
from evomem.errors import InputError

_KINDS = {
    "user_editable_context": "hidden",
    "model_editable_context": "hidden",
    "thoughts": REASONING,
    "reasoning_recap": REASONING,
    "code": CALL,
    "execution_output": RESULT,
    "tether_browsing_display": RESULT,
    "tether_quote": RESULT,
    "sonic_webpage": RESULT,
    "system_error": RESULT,
}
"""Types of content that are not messages, each with the name under which it is counted."""


_MARKER = re.compile("\ue200([^\ue201]*)\ue201")


def _is_message(raw: Raw) -> bool:
    return has(raw.get("author"), "role") and has(raw.get("content"), "content_type")


def _read_messages(raw: Raw, where: str, context: Context) -> Iterator[ParsedMessage]:
    content, extra = raw["content"], raw.get("metadata") or {}
    kind, role = content["content_type"], raw["author"]["role"]
    counted = _KINDS.get(kind) if isinstance(kind, str) else None
    if isinstance(extra, Mapping) and extra.get("is_visually_hidden_from_conversation"):
        counted = "hidden"
    if role in LEFT_OUT_ROLES:
        counted = "hidden" if counted == "hidden" else LEFT_OUT_ROLES[role]
    elif counted is None and raw.get("recipient", "all") not in ("all", None):
        counted = CALL
    if counted:
        context.left_out[counted] += 1
        return
    parts = content.get("parts", content.get("text"))
    if isinstance(parts, list):
        parts = [part for part in parts if part != ""]
    more: dict[str, Any] = {"name": None, "metadata": None}
    for message in chat_message(raw, where, context, role=role, content=parts, **more):
        message.text = _MARKER.sub(_shown, message.text)
        yield message


def _shown(marker: re.Match[str]) -> str:
    """Return the text that ChatGPT displays for a marker; empty for a citation."""
    kind, *fields = marker[1].split("\ue202")
    if kind == "url" and fields:
        return fields[0]
    if kind == "entity" and fields:
        try:
            return str(json.loads(fields[0])[1])
        except (ValueError, LookupError, TypeError, RecursionError):
            return ""
    return ""


def _is_record(raw: Raw) -> bool:
    return isinstance(raw.get("mapping"), Mapping) and (
        "current_node" in raw or any(has(node, "message") for node in raw["mapping"].values())
    )


def _talks(raw: Raw, where: str) -> Iterator[Talk]:
    given = header(raw, where) | {"id": raw.get("conversation_id") or raw.get("id")}
    yield Talk(where, _branch(raw, where), ordered=True, **given)


def _branch(raw: Raw, where: str) -> list[tuple[str, object]]:
    """Return the messages from the root to the current node."""
    nodes: Mapping[str, Any] = raw["mapping"]
    key = raw.get("current_node")
    if key not in nodes:
        key = _newest_leaf(nodes)
    messages: list[tuple[str, object]] = []
    seen = set()
    while key is not None and isinstance(node := nodes.get(key), Mapping):
        if key in seen:
            raise InputError(f"{where}: node {key!r} is its own ancestor: the tree is damaged")
        seen.add(key)
        if node.get("message"):
            messages.append((f"{where}, node {key!r}", node["message"]))
        key = node.get("parent")
    return messages[::-1]


def _newest_leaf(nodes: Mapping[str, Any]) -> str | None:
    """Return the most recent leaf, for exports that name no current node."""
    parents = {node.get("parent") for node in nodes.values() if isinstance(node, Mapping)}
    leaves = [key for key, node in nodes.items() if key not in parents and has(node, "message")]

    def written(key: str) -> float:
        message = nodes[key]["message"]
        time = message.get("create_time") if isinstance(message, Mapping) else None
        return time if isinstance(time, int | float) else 0.0

    return max(leaves, key=written, default=None)


SHAPE = Shape(
    name="chatgpt-export",
    about="ChatGPT's data export (conversations.json, or the zip as it comes)",
    marks=("mapping", "current_node", "title", "create_time"),
    is_message=_is_message,
    read_messages=_read_messages,
    is_record=_is_record,
    talks=_talks,
)
