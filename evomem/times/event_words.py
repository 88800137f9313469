"""Times that English counts from an event: "a year before I moved", "the day after the exam"."""

from __future__ import annotations

import re
from dataclasses import dataclass

from evomem.patterns import lazy
from evomem.times.date_words import OFFSET, Offset, offset


@dataclass(frozen=True)
class Event:
    """A time that is counted from an event."""

    text: str
    """The event in the query's words: "I moved"."""
    offset: Offset


_EVENT = r"(?P<event>(?!(?:that|this|it|then|now|which|what|last)\b)\w[^?!.,;:\x00]*)"
EVENTS = lazy(rf"\b(?:about |around |roughly |exactly )?{OFFSET} {_EVENT}", re.IGNORECASE)
"""Matches an offset and an event; dates must be replaced with marks first."""


def read_event(match: re.Match[str]) -> Event | None:
    """Return the event of a match of `EVENTS`; None for an offset of 0."""
    distance = offset(match)
    return Event(match["event"].strip(), distance) if distance else None
