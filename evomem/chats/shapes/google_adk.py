"""Google's Agent Development Kit: sessions of events, and its SQLite database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping

from evomem.chats.shapes.base import Context, ParsedMessage, Raw, Shape, Talk, header, placed
from evomem.chats.shapes.gemini import read_messages
from evomem.chats.sqlite import grouped, json_of


def _is_message(raw: Raw) -> bool:
    return (
        "author" in raw and "role" not in raw and ("invocationId" in raw or "invocation_id" in raw)
    )


def _read_messages(raw: Raw, where: str, context: Context) -> Iterator[ParsedMessage]:
    content = raw.get("content")
    if raw.get("partial"):
        context.left_out["stream chunk"] += 1
        return
    if not isinstance(content, Mapping) or not content.get("parts"):
        context.left_out["event"] += 1
        return
    # results of tools have the role "user" too: only the author tells them apart
    role = "user" if raw["author"] == "user" else "model"
    for piece in read_messages({**content, "role": role}, where, context):
        piece.id = piece.id or str(raw["id"]) if raw.get("id") else None
        piece.time = raw.get("timestamp")
        yield piece


def _is_record(raw: Raw) -> bool:
    return isinstance(raw.get("events"), list) and ("appName" in raw or "app_name" in raw)


def _talks(raw: Raw, where: str) -> Iterator[Talk]:
    given = header(raw, where) | {"title": None}
    events = placed(raw["events"], where, "events", "event")
    yield Talk(where, events, ordered=True, **given)


def _rows(file: sqlite3.Connection, name: str) -> Iterator[Talk]:
    columns = {row[1] for row in file.execute("PRAGMA table_info(events)")}
    one_column = "event_data" in columns  # since 1.22 one column holds the whole event
    names = "event_data" if one_column else "id, author, invocation_id, content"
    rows = file.execute(
        f"SELECT session_id, timestamp, {names} FROM events ORDER BY session_id, timestamp"
    )
    for session, members in grouped(rows):
        where = f"{name}, session {session!r}"
        events: list[tuple[str, object]] = []
        for number, (_, time, *row) in enumerate(members, 1):
            place = f"{where}, event {number}"
            if one_column:
                event = json_of(row[0], place)
            else:
                content = json_of(row[3], place) if row[3] else None
                event = dict(zip(("id", "author", "invocation_id"), row[:3], strict=True))
                event["content"] = content
            events.append(
                (place, {"timestamp": time, **event} if isinstance(event, dict) else event)
            )
        yield Talk(where, events, id=session, ordered=True, utc=True)


SHAPE = Shape(
    name="google-adk",
    about="session of Google's Agent Development Kit: events with author and content",
    marks=("events", "appName", "author", "invocationId"),
    is_message=_is_message,
    read_messages=_read_messages,
    is_record=_is_record,
    talks=_talks,
    tables=(
        frozenset({"session_id", "invocation_id", "author", "timestamp"}),
        frozenset({"session_id", "event_data"}),
    ),
    rows=_rows,
)
