"""LongMemEval: questions, each with the history that contains the answer."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest

from evomem.chats.shapes.base import Raw, Shape, Talk, has, placed
from evomem.chats.shapes.stories import parsed

TIMES = "%Y/%m/%d (%a) %H:%M"


def _is_record(raw: Raw) -> bool:
    return has(raw, "haystack_sessions", "question")


def _talks(raw: Raw, where: str) -> Iterator[Talk]:
    sessions = placed(raw["haystack_sessions"], where, "haystack_sessions", "session")
    names = raw.get("haystack_session_ids")
    dates = raw.get("haystack_dates")
    for (place, messages), name, date in zip_longest(
        sessions, names if isinstance(names, list) else [], dates if isinstance(dates, list) else []
    ):
        if place is None:
            return
        time = parsed(date, TIMES, place)
        id = name if isinstance(name, str) else None
        yield Talk(place, placed(messages, place), id=id, time=time, ordered=True, utc=True)


SHAPE = Shape(
    name="longmemeval",
    about="LongMemEval questions with their histories as published",
    marks=("question_id", "haystack_sessions", "haystack_dates"),
    is_record=_is_record,
    talks=_talks,
)
