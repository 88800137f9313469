"""LlamaIndex: chat messages with blocks, chat stores, buffers, and `Memory` in SQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping

from evomem.chats.parts import kinds
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
from evomem.chats.sqlite import grouped, json_of, tables_with


def _is_message(raw: Raw) -> bool:
    return has(raw, "role", "additional_kwargs") and ("blocks" in raw or "content" in raw)


def _read_messages(raw: Raw, where: str, context: Context) -> Iterator[ParsedMessage]:
    blocks = raw.get("blocks")
    content = blocks if blocks else raw.get("content")
    extra = raw.get("additional_kwargs")
    message = {key: value for key, value in raw.items() if key != "content"}
    if isinstance(extra, Mapping) and "tool_call" not in kinds(blocks):
        message["tool_calls"] = extra.get("tool_calls")
    return chat_message(message, where, context, content=content)


def _store(raw: Raw) -> Raw | None:
    """Return the messages by key; None if the value is not a chat store."""
    for value in (raw, raw.get("chat_store")):
        if has(value, "store") and isinstance(value["store"], Mapping):
            if all(isinstance(messages, list) for messages in value["store"].values()):
                return dict(value["store"])
    return None


def _is_record(raw: Raw) -> bool:
    return _store(raw) is not None


def _talks(raw: Raw, where: str) -> Iterator[Talk]:
    for key, messages in (_store(raw) or {}).items():
        place = f"{where}, key {key!r}"
        yield Talk(place, placed(messages, place), id=key)


def _rows(file: sqlite3.Connection, name: str) -> Iterator[Talk]:
    # rows that `Memory` has moved to its long-term blocks are archived, but part of the chat
    for table in tables_with(file, _COLUMNS):
        rows = file.execute(
            f"SELECT key, id, data, timestamp FROM {table} ORDER BY key, timestamp, id"
        )
        for key, members in grouped(rows):
            where = f"{name}, key {key!r}"
            messages: list[tuple[str, object]] = []
            for _, number, data, time in members:
                item = json_of(data, place := f"{where}, row {number}")
                messages.append((place, {"time": time, **item} if isinstance(item, dict) else item))
            yield Talk(where, messages, id=key, ordered=True)


_COLUMNS = frozenset({"key", "timestamp", "role", "status", "data"})
SHAPE = Shape(
    name="llamaindex",
    about="LlamaIndex chat messages, chat stores and buffers, or the SQL table of Memory",
    marks=("role", "blocks", "additional_kwargs", "store"),
    is_message=_is_message,
    read_messages=_read_messages,
    is_record=_is_record,
    talks=_talks,
    tables=(_COLUMNS,),
    rows=_rows,
)
