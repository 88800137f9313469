"""The words in which English counts from an event: "a year before I moved", "the day after the exam"."""

from __future__ import annotations

import re
from dataclasses import dataclass

from evomem.times.date_words import OFFSET, Offset, offset


@dataclass(frozen=True)
class Event:
    """A time that is counted from something that happened."""

    text: str
    """What happened, as the query says it: "I moved"."""
    offset: Offset


_EVENT = r"(?P<event>(?!(?:that|this|it|then|now|which|what|last)\b)\w[^?!.,;:\x00]*)"
EVENTS = re.compile(rf"\b(?:about |around |roughly |exactly )?{OFFSET} {_EVENT}", re.IGNORECASE)
"""An offset and an event; a date that it is counted from must have been replaced by a mark before."""


def read_event(match: re.Match[str]) -> Event | None:
    """Return what a match of `EVENTS` means; None for no time."""
    distance = offset(match)
    return Event(match["event"].strip(), distance) if distance else None
