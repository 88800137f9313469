"""Agno: runs, each of which repeats the preceding history, and sessions of runs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any

from evomem.chats.fields import label
from evomem.chats.shapes.base import (
    Context,
    ParsedMessage,
    Raw,
    Shape,
    Talk,
    chat_message,
    first_item,
    has,
    placed,
)
from evomem.chats.sqlite import grouped, json_of, tables_with


def _is_message(raw: Raw) -> bool:
    return has(raw, "role", "from_history")


def _read_messages(raw: Raw, where: str, context: Context) -> Iterator[ParsedMessage]:
    return chat_message(raw, where, context, metadata=None)


def _is_run(raw: Raw) -> bool:
    return has(raw, "run_id", "messages") and "role" not in raw


def _is_record(raw: Raw) -> bool:
    return _is_run(raw) or _is_run(first_item(raw.get("runs")))


def _talks(raw: Raw, where: str) -> Iterator[Talk]:
    runs = placed(raw["runs"], where, "runs", "run") if "runs" in raw else [(where, raw)]
    messages = [
        message
        for place, run in runs
        if has(run, "messages")
        for message in placed(_spoken(run), place)
    ]
    yield Talk(
        where,
        messages,
        id=label(where, raw, ("session_id",)),
        time=raw.get("created_at"),
        title=_title(raw),
        ordered=True,
        repeats=True,
    )


def _spoken(run: Any) -> Any:
    """Return the messages of a run, without those that a team's members write to each other."""
    return [] if run.get("parent_run_id") else run["messages"] or []


def _title(raw: Raw) -> str | None:
    data = raw.get("session_data")
    name = data.get("session_name") if isinstance(data, Mapping) else None
    return name if isinstance(name, str) else None


def _rows(file: sqlite3.Connection, name: str) -> Iterator[Talk]:
    for table in tables_with(file, _RUNS):  # version 3 and later
        rows = file.execute(
            f"SELECT session_id, run_data FROM {table} ORDER BY session_id, run_index, created_at"
        )
        for session, members in grouped(rows):
            where = f"{name}, session {session!r}"
            runs = [_decoded(data, where) for _, data in members]
            yield from _talks({"session_id": session, "runs": runs}, where)
    for table in tables_with(file, _SESSIONS):
        rows = file.execute(f"SELECT session_id, runs FROM {table} ORDER BY created_at, session_id")
        for session, data in rows:
            where = f"{name}, session {session!r}"
            yield from _talks({"session_id": session, "runs": _decoded(data, where) or []}, where)


def _decoded(data: object, where: str) -> object:
    value = json_of(data, where)
    return json_of(value, where) if isinstance(value, str) else value  # version 2 encodes twice


_RUNS = frozenset({"session_id", "run_id", "run_data", "run_index", "created_at"})
_SESSIONS = frozenset({"session_id", "runs", "created_at"})
SHAPE = Shape(
    name="agno",
    about="Agno runs and sessions; messages that a later run repeats count once",
    marks=("run_id", "session_id", "messages", "runs"),
    is_message=_is_message,
    read_messages=_read_messages,
    is_record=_is_record,
    talks=_talks,
    tables=(_RUNS, _SESSIONS),
    rows=_rows,
)
