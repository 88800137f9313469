"""The words in which English names sessions by their position: "our first call", "session 4"."""

from __future__ import annotations

import re
from collections.abc import Callable

from evomem.patterns import lazy
from evomem.times.date_words import COUNT, ORDINALS, TO, number, one_of, ordinal

Sessions = tuple[int, int]
"""The first and the last session of a range, inclusive, as list indices."""


def _session_range(groups: dict[str, str]) -> Sessions | None:
    first, last = ordinal(groups["first"]), ordinal(groups["to"])
    return (first, last) if 0 <= first <= last else None


def _one_session(groups: dict[str, str]) -> Sessions | None:
    place = ordinal(groups["first"])
    return (place, place) if place >= 0 else None


def _sessions_ago(groups: dict[str, str]) -> Sessions | None:
    count = number(groups["count"])
    return (-count, -count) if count else None


def _many_sessions(groups: dict[str, str]) -> Sessions | None:
    count = number(groups["count"])
    if not count:
        return None
    return (0, count - 1) if groups["which"] == "first" else (-count, -1)


_MEETING = r"(?:phone |video |voice )?(?:call|session|conversation|chat|meeting|talk|discussion)"
_ORDINAL = rf"{one_of(ORDINALS)}|\d{{1,4}}(?:st|nd|rd|th)"
_SESSION_WORDS: tuple[tuple[str, Callable[[dict[str, str]], Sessions | None]], ...] = (
    (rf"\bsessions? (?P<first>\d{{1,4}})(?:{TO}| and )(?:session )?(?P<to>\d{{1,4}})\b", _session_range),
    (rf"\b(?P<first>{_ORDINAL})(?: {_MEETING})?(?:{TO}| and )(?:the |our )?(?P<to>{_ORDINAL}) {_MEETING}s?\b", _session_range),
    (rf"\b(?:(?:the )?{_MEETING} before last|(?:second|next)[ -]to[ -]last {_MEETING}|penultimate {_MEETING})\b", lambda _: (-2, -2)),
    (rf"\b{COUNT} {_MEETING}s? (?:ago|back)\b", _sessions_ago),
    (rf"\b(?P<which>first|last|past|latest|previous|most recent) {COUNT} {_MEETING}s\b", _many_sessions),
    (r"\bsession (?:number |no\.? ?|# ?)?(?P<first>\d{1,4})\b", _one_session),
    (rf"\b(?:our|the|my|your|this|in|during)(?: very)? (?P<first>{_ORDINAL}) {_MEETING}\b", _one_session),
    (rf"\b(?:our|the|my|your|in|during|from)(?: very)? (?:last|latest|previous|most recent) {_MEETING}\b", lambda _: (-1, -1)),
    (r"\b(?:last|previous) (?:session|discussion|conversation|chat)\b", lambda _: (-1, -1)),
    (r"\b(?:the )?(?:last|previous) time (?:we|I|you) (?:talked|spoke|chatted|met|called)\b", lambda _: (-1, -1)),
    (r"\b(?:talk|speak|say|tell|discuss|mention)\w*(?: \w+){0,3} last time\b", lambda _: (-1, -1)),
)  # fmt: skip
SESSIONS = [(lazy(pattern, re.IGNORECASE), reader) for pattern, reader in _SESSION_WORDS]
_CUES = "call session conversation chat meeting talk discussion time".split()


def may_name_sessions(text: str) -> bool:
    """Return whether one of `SESSIONS` may match in a text: each needs one of a few words."""
    folded = text.casefold()
    return any(cue in folded for cue in _CUES)
