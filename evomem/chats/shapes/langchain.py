"""LangChain: `messages_to_dict`, `dumpd`, and messages dumped as they are."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any

from evomem.chats.fields import first
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
from evomem.chats.sqlite import grouped, json_of, tables_with

_ROLES = {
    "human": "user",
    "ai": "assistant",
    "system": "system",
    "tool": "tool",
    "function": "function",
    "remove": "remove",
    "HumanMessageChunk": "user",
    "AIMessageChunk": "assistant",
    "SystemMessageChunk": "system",
    "ToolMessageChunk": "tool",
    "FunctionMessageChunk": "function",
    "chat": "chat",
    "ChatMessageChunk": "chat",
}


def _is_message(raw: Raw) -> bool:
    return _message(raw) is not None


def _message(raw: Raw) -> tuple[str, Raw] | None:
    """Return the type and the fields of a message; None if the value is not a message."""
    if raw.get("lc") == 1 and has(raw.get("kwargs"), "content"):
        kind = raw["kwargs"].get("type")
        names = raw.get("id")
        name = names[-1] if isinstance(names, list) and names else ""
        if not isinstance(kind, str) and isinstance(name, str):
            kind = name.removesuffix("Chunk").removesuffix("Message").lower()
        return (kind, raw["kwargs"]) if kind in _ROLES else None
    kind = raw.get("type")
    if not isinstance(kind, str) or kind not in _ROLES:
        return None
    if has(raw.get("data"), "content"):
        return kind, raw["data"]
    return (kind, raw) if "content" in raw and ("role" not in raw or "Chunk" in kind) else None


def _read_messages(raw: Raw, where: str, context: Context) -> Iterator[ParsedMessage]:
    typed = _message(raw)
    if typed is None:
        return
    kind, message = typed
    role = message.get("role") if _ROLES[kind] == "chat" else _ROLES[kind]
    if role == "remove":
        context.left_out["removal"] += 1
        return
    message = {**message, "tool_calls": _calls(message)}
    more = first(message.get("additional_kwargs") or {}, ("timestamp", "created_at", "time"))
    given: dict[str, Any] = {"metadata": None} | ({"time": more} if more else {})
    yield from chat_message(message, where, context, role=role, **given)


def _calls(message: Raw) -> object:
    """Return the tool calls that the content does not repeat."""
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    in_parts = any(
        isinstance(part, Mapping) and part.get("type") in ("tool_use", "tool_call", "function_call")
        for part in parts
    )
    return None if in_parts else message.get("tool_calls")


def _is_record(raw: Raw) -> bool:
    if has(raw.get("values"), "messages"):
        return True
    return raw.get("lc") == 1 and bool(first_item((raw.get("kwargs") or {}).get("messages")))


def _talks(raw: Raw, where: str) -> Iterator[Talk]:
    if raw.get("lc") == 1:
        yield Talk(where, placed(raw["kwargs"]["messages"], where))
        return
    given = header(raw, where)
    if given["id"] is None and has(raw.get("config"), "configurable"):  # a state of LangGraph
        given = header(raw["config"]["configurable"], where) | {"time": given["time"]}
    yield Talk(where, placed(raw["values"]["messages"], where), **given)


def _rows(file: sqlite3.Connection, name: str) -> Iterator[Talk]:
    for table in tables_with(file, _COLUMNS):
        rows = file.execute(f"SELECT session_id, id, message FROM {table} ORDER BY session_id, id")
        for session, members in grouped(rows):
            where = f"{name}, session {session!r}"
            places = [(f"{where}, row {number}", data) for _, number, data in members]
            messages = [(place, json_of(data, place)) for place, data in places]
            yield Talk(where, messages, id=session, ordered=True)


_COLUMNS = frozenset({"session_id", "id", "message"})
SHAPE = Shape(
    name="langchain",
    about="LangChain messages: messages_to_dict, dumpd, model_dump, or its SQL chat history",
    marks=("type", "data", "lc", "kwargs", "content"),
    is_message=_is_message,
    read_messages=_read_messages,
    is_record=_is_record,
    talks=_talks,
    tables=(_COLUMNS,),
    rows=_rows,
)
