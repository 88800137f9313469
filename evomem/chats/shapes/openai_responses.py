"""Items of OpenAI's Responses and Conversations APIs, and of its Agents SDK."""

from __future__ import annotations

from collections.abc import Iterator

from evomem.chats.parts import CALL, REASONING, RESULT, kinds
from evomem.chats.shapes.base import (
    Context,
    ParsedMessage,
    Raw,
    Shape,
    Talk,
    chat_message,
    has,
    placed,
)

FAKE_ID = "__fake_id__"
"""The id of every item that the Agents SDK makes of a chat completion."""
_TEXTS = frozenset({"input_text", "output_text"})
_OTHERS = frozenset(
    {"mcp_list_tools", "mcp_approval_request", "mcp_approval_response", "item_reference"}
    | {"compaction", "compaction_summary", "context_compaction"}
)


def is_item(raw: Raw) -> bool:
    """Return whether the value is an item that only the Responses API has."""
    kind = raw.get("type")
    if "role" in raw:
        return kind == "message" or any(kind in _TEXTS for kind in kinds(raw.get("content")))
    return isinstance(kind, str) and "data" not in raw and machinery(kind) is not None


def machinery(kind: str) -> str | None:
    """Return the name under which an item of a tool or of reasoning is counted; None for other items."""
    if kind == "reasoning":
        return REASONING
    if kind.endswith("_call"):
        return CALL
    if kind.endswith("_call_output"):
        return RESULT
    return kind if kind in _OTHERS else None


def read_messages(raw: Raw, where: str, context: Context) -> Iterator[ParsedMessage]:
    """Yield the messages of an item."""
    kind = raw.get("type")
    if "role" not in raw and isinstance(kind, str) and (counted := machinery(kind)):
        context.left_out[counted] += 1
        return
    more = {"id": None} if raw.get("id") == FAKE_ID else {}
    yield from chat_message(raw, where, context, **more)


def _is_record(raw: Raw) -> bool:
    if raw.get("object") == "response" and isinstance(raw.get("output"), list):
        return True
    return raw.get("object") == "list" and isinstance(raw.get("data"), list)


def _talks(raw: Raw, where: str) -> Iterator[Talk]:
    items = placed(raw.get("output") or raw.get("data") or [], where, "output", "item")
    asked = raw.get("input")
    if isinstance(asked, str):
        items.insert(0, (f"{where}, input", {"role": "user", "content": asked}))
    elif isinstance(asked, list):
        items = [*placed(asked, where, "input", "input"), *items]
    talk = raw.get("conversation")
    yield Talk(where, items, id=talk["id"] if has(talk, "id") else None)


SHAPE = Shape(
    name="openai-responses",
    about="items of OpenAI's Responses API: messages, tool calls and reasoning in one list",
    marks=("type", "role", "content", "output"),
    is_message=is_item,
    read_messages=read_messages,
    is_record=_is_record,
    talks=_talks,
)
