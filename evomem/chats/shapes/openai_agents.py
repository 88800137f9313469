"""OpenAI's Agents SDK: items with its placeholders, and the SQLite file of its sessions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from evomem.chats.shapes.base import Raw, Shape, Talk
from evomem.chats.shapes.openai_responses import FAKE_ID, read_messages
from evomem.chats.sqlite import grouped, json_of, tables_with


def _is_message(raw: Raw) -> bool:
    return raw.get("id") == FAKE_ID or ("provider_data" in raw and "type" in raw)


def _rows(file: sqlite3.Connection, name: str) -> Iterator[Talk]:
    for table in tables_with(file, _COLUMNS):
        rows = file.execute(
            f"SELECT session_id, id, message_data, created_at FROM {table} ORDER BY session_id, id"
        )
        for session, members in grouped(rows):
            where = f"{name}, session {session!r}"
            messages: list[tuple[str, object]] = []
            for _, number, data, time in members:
                item = json_of(data, place := f"{where}, row {number}")
                if isinstance(item, dict):
                    item = {"created_at": time, **item}
                messages.append((place, item))
            yield Talk(where, messages, id=session, ordered=True, utc=True)


_COLUMNS = frozenset({"session_id", "id", "message_data", "created_at"})
SHAPE = Shape(
    name="openai-agents",
    about="sessions of OpenAI's Agents SDK: its items, or the SQLite file of its sessions",
    marks=("type", "role", "content", "provider_data"),
    is_message=_is_message,
    read_messages=read_messages,
    beside=("openai-responses",),
    tables=(_COLUMNS,),
    rows=_rows,
)
