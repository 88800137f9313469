"""LoCoMo: samples of long conversations between two people."""

from __future__ import annotations

from collections.abc import Iterator

from evomem.chats.shapes.base import Context, ParsedMessage, Raw, Shape, Talk, chat_message, has
from evomem.chats.shapes.stories import is_story, talks, with_caption

TIMES = "%I:%M %p on %d %B, %Y"


def _is_message(raw: Raw) -> bool:
    return has(raw, "speaker", "dia_id", "text") and "role" not in raw


def _read_messages(raw: Raw, where: str, context: Context) -> Iterator[ParsedMessage]:
    bare = {"name": raw["speaker"], "id": raw["dia_id"]}
    return chat_message(bare, where, context, role="user", content=with_caption(raw, "text"))


def _is_record(raw: Raw) -> bool:
    return is_story(raw.get("conversation"))


def _talks(raw: Raw, where: str) -> Iterator[Talk]:
    name = raw.get("sample_id")
    yield from talks(raw["conversation"], where, name if isinstance(name, str) else None, TIMES)


SHAPE = Shape(
    name="locomo",
    about="LoCoMo samples as published (locomo10.json)",
    marks=("sample_id", "conversation", "speaker", "dia_id"),
    is_message=_is_message,
    read_messages=_read_messages,
    is_record=_is_record,
    talks=_talks,
)
