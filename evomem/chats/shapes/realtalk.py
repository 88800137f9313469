"""REALTALK: one file per chat of two people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from evomem.chats.shapes.base import Context, ParsedMessage, Raw, Shape, Talk, chat_message, has
from evomem.chats.shapes.stories import is_story, parsed, talks, with_caption

TIMES = "%d.%m.%Y, %H:%M:%S"


def _is_message(raw: Raw) -> bool:
    return has(raw, "speaker", "clean_text") and "role" not in raw


def _read_messages(raw: Raw, where: str, context: Context) -> Iterator[ParsedMessage]:
    bare = {"name": raw["speaker"], "id": raw.get("dia_id")}
    text = with_caption(raw, "clean_text")
    time = parsed(raw.get("date_time"), TIMES, where)
    return chat_message(bare, where, context, role="user", content=text, time=time)


def _is_record(raw: Raw) -> bool:
    return is_story(raw) and "conversation" not in raw


def _talks(raw: Raw, where: str) -> Iterator[Talk]:
    names = raw.get("name")
    name = "-".join(map(str, names.values())) if isinstance(names, Mapping) else None
    yield from talks(raw, where, name, TIMES)


SHAPE = Shape(
    name="realtalk",
    about="REALTALK chats as published (Chat_*.json)",
    marks=("session_1", "speaker", "clean_text", "dia_id"),
    is_message=_is_message,
    read_messages=_read_messages,
    is_record=_is_record,
    talks=_talks,
)
