"""Days and sessions that an English query names: "since May", "two days ago", "our first call".

A query is read in two steps. First, all expressions that name days by themselves are found
(`evomem.times.date_words.ATOMS`), the most specific kinds first. Then the words around and between
these expressions are read: "since …", "before …", "between … and …", "from … to …" (`_RANGES`).

A wrong reading is worse than none. So dates of ambiguous order, such as "03/04/2024", are ignored, and
so are ambiguous words: "may" and "march" as verbs, "to May" as a name, "the fall", and "today" in a
question about the present ("What is my dose today?"). Times that are counted from an event ("a year
before I moved") are only recognized: the time of the event has to be searched for. Seasons are those
of the northern hemisphere, by whole months.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from datetime import date, timedelta
from typing import Literal

from evomem.patterns import lazy
from evomem.times.date_words import (
    ATOMS,
    OFFSET,
    TO,
    Calendar,
    Days,
    Named,
    Reader,
    groups_of,
    may_name_days,
    offset,
)
from evomem.times.event_words import EVENTS, Event, read_event
from evomem.times.session_words import SESSIONS, Sessions, may_name_sessions

LATER = 7  # days after a span in which people still talk about it


def asked_days(query: str, days: Collection[date], today: date | None = None) -> list[Days]:
    """Return the spans of days that a query names, both ends included.

    A span without a beginning ("before June") starts at `date.min`; one without an end ("since
    January") ends today.

    Args:
        query: The question, in English.
        days: The days on which the turns were said. A date without a year is in one of their years.
        today: The day of the question; by default the newest of `days`.

    >>> asked_days("What did Mei do on 3 Jan 2024?", [date(2024, 2, 1)])
    [(datetime.date(2024, 1, 3), datetime.date(2024, 1, 3))]
    >>> asked_days("What did I buy last week?", [], today=date(2024, 2, 1))
    [(datetime.date(2024, 1, 22), datetime.date(2024, 1, 28))]
    >>> asked_days("the day before yesterday", [], today=date(2024, 3, 1))
    [(datetime.date(2024, 2, 28), datetime.date(2024, 2, 28))]
    >>> asked_days("between 1 and 5 March", [date(2024, 2, 1)])
    [(datetime.date(2024, 3, 1), datetime.date(2024, 3, 5))]
    >>> asked_days("May I ask something?", [date(2024, 2, 1)])
    []
    """
    return read_days(query, days, today)[0]


def read_days(
    query: str, days: Collection[date], today: date | None = None
) -> tuple[list[Days], list[Named]]:
    """Return the result of `asked_days`, and the meanings of expressions that are in no range."""
    return _read_days(_plain(query), days, today)[1:]


def written_days(query: str, days: Collection[date], today: date | None = None) -> list[date]:
    """Return the single days of a query, including ends of ranges ("by 5 July").

    The query may also mean turns that mention such a day, whenever they were said.
    """
    now = today or max(days)
    _, named = _read_atoms(_plain(query), Calendar(now, _years(days, now)))
    return [
        first
        for meant in named
        for first, last in meant.spans
        if first == last and meant.only != "of the past"
    ]


def asked_sessions(query: str) -> list[Sessions]:
    """Return the sessions that a query names by their position: 0 is the first, -1 the newest.

    >>> asked_sessions("What did I say on our first call?")
    [(0, 0)]
    >>> asked_sessions("What was decided in the session before last?")
    [(-2, -2)]
    >>> asked_sessions("What did we discuss in the last three sessions?")
    [(-3, -1)]
    """
    return _read_sessions(_plain(query))[1]


def asked_events(query: str) -> list[Event]:
    """Return the times of a query that are counted from an event.

    >>> [event.text for event in asked_events("Where did I work a year before I moved?")]
    ['I moved']
    >>> asked_events("Where did I work a year before 2020?")
    []
    """
    text = _plain(query)
    if not _COUNTED_FROM.search(text):  # as in nearly all queries: skip reading the days
        return []
    return _read_events(_without_days(text))[1]


def asks_only_when(query: str, days: Collection[date], today: date | None = None) -> bool:
    """Return whether a query names days or sessions, and asks about nothing else.

    In a query of several sentences, those that name a time must be about talking, and those with a
    request must be about nothing else; the others do not matter.

    >>> asks_only_when("What did we talk about on 22 January?", [date(2024, 2, 1)])
    True
    >>> asks_only_when("What did I cook on 22 January?", [date(2024, 2, 1)])
    False
    >>> asks_only_when("We talked on 22 January. Can you sum it up?", [date(2024, 2, 1)])
    True
    >>> asks_only_when("We met Ann on 22 January. What did we talk about?", [date(2024, 2, 1)])
    False
    """
    sentences = [_SPEAKER.sub("", part) for part in _SENTENCE.findall(query)]
    if len(sentences) < 2:
        is_timed, words = _other_words(query, days, today)
        return is_timed and words <= _SAYS_NOTHING
    timed = asks = False
    for sentence in sentences:
        is_timed, words = _other_words(sentence, days, today)
        is_request = bool(_ASKS.search(sentence))
        nothing = _SAYS_NOTHING if is_timed and is_request else _SAYS_NOTHING | _IN_TALK
        of_talking = is_request or bool(_TALK.search(sentence))
        if (is_timed and not of_talking) or ((is_timed or is_request) and not words <= nothing):
            return False
        timed, asks = timed or is_timed, asks or is_request
    return timed and asks


def _other_words(text: str, days: Collection[date], today: date | None) -> tuple[bool, set[str]]:
    """Return whether a text names a time, and its words other than those of the time."""
    text, sessions = _read_sessions(_plain(text))
    text, spans, _ = _read_days(text, days, today)
    text, events = _read_events(text)
    words = set(re.findall(r"\w+", re.sub(_MARK, " ", text).lower()))
    return bool(spans or sessions or events), words


def nearness(day: date, spans: Collection[Days]) -> float:
    """Return 1 for a day in one of the spans, less for a day in the week after one, else 0.

    >>> spans = [(date(2024, 1, 3), date(2024, 1, 3))]
    >>> [nearness(date(2024, 1, number), spans) for number in (2, 3, 10, 11)]
    [0.0, 1.0, 0.125, 0.0]
    """
    past = [(day - last).days for first, last in spans if day >= first]
    return max((1 - max(0, days) / (LATER + 1) for days in past if days <= LATER), default=0.0)


_SAYS_NOTHING = frozenset(
    "a about again all an and any anything at back between came can chat chatted chatting come "
    "conversation conversations could d did discuss discussed discussing discussion do does during "
    "each everything for from gave give go going had happen happened happening happens have i in "
    "is it list me mention mentioned my of on other our overview please recap remind said say "
    "saying session sessions show so speak speaking spoke spoken subject subjects summaries "
    "summarise summarize summary talk talked talking tell that the there thing things to together "
    "told topic topics up us was we went were what which with you your over through throughout this "
    "these those describe detail details content contents as much sort sorts kind kinds earlier sum".split()
)
"""Words that reveal nothing about the topic of a question."""

_IN_TALK = frozenset(
    "able am bit but calendar cannot could couple enjoy enjoyed few forgot forgotten forget far if know like "
    "long lot many not notes quite recall remember remembered see several some somehow sure t that "
    "them then time times trying try too want whole would wonder wondering yes ok okay period".split()
)
"""Further such words, in a query of several sentences about talking."""

_SENTENCE = lazy(r"[^.!?\n]*[\w][^.!?\n]*(?:[.!?](?=\S)[^.!?\n]*)*[.!?\n]*")
_SPEAKER = lazy(r"^\s*[A-Z][\w' -]{0,30}:\s")
_TALK = lazy(
    r"\b(?:talk|chat|discuss|sp[eo]ak|spoke|conversation|session|call|meeting|said)", re.IGNORECASE
)
_ASKS = lazy(
    r"\?|\b(?:please|summari[sz]e|describe|recap|remind me|tell me|list|give me|sum)\b",
    re.IGNORECASE,
)
"""Matches sentences with a request."""

_NOW = lazy(
    r"\b(?:is|are|am|should|shall|can|could|will|would|do|does|must|need)\b|'(?:s|m|re|ll) ",
    re.IGNORECASE,
)
"""Words of a question about the present or the future, unless it also has a word of `_PAST`."""

_PAST = lazy(
    r"\b(?:did|didn't|was|were|wasn't|weren't|had|said|told|talked|spoke|discussed|mentioned|asked|"
    r"decided|agreed|happened|conversation|session|chat|talk|call|meeting|earlier|already|so far)\b",
    re.IGNORECASE,
)

# The two steps --------------------------------------------------------------------------------

_ANY_YEAR = (date(2024, 1, 1),)
_COUNTED_FROM = lazy(r"before|prior|earlier|after|later|following", re.IGNORECASE)
"""Matches a word that every `OFFSET` contains."""
_MARK = r"\x00(\d+)\x00"  # placeholder in the text for an expression that was read


_LIKE_ASCII = str.maketrans("’İıſ", "'iis")
"""Characters that patterns take for ASCII ones, since they ignore case, and that `str.lower` keeps."""


def _plain(query: str) -> str:
    return " ".join(query.translate(_LIKE_ASCII).split())


def _read_days(
    text: str, days: Collection[date], today: date | None
) -> tuple[str, list[Days], list[Named]]:
    """Return the text with marks for days and without ranges, the spans of both, and the days."""
    if not days and today is None:
        return text, [], []
    now = today or max(days)
    time = Calendar(now, _years(days, now))
    text, named = _read_atoms(text, time)
    if not named:
        return text, [], []
    text = _read_offsets(text, named, time)
    text, spans = _read_ranges(text, named, time)
    is_of_now = bool(_NOW.search(text)) and not _PAST.search(text)
    places = [
        replace(named[int(place[1])], planned=bool(_FOR.search(text[: place.start()])))
        for place in re.finditer(_MARK, text)
    ]
    meant = [
        day for day in places if day.only is None or (day.only == "of the past" and not is_of_now)
    ]
    spans += [span for day in meant for span in day.spans]
    return text, sorted(set(spans), key=spans.index), meant


def _years(days: Collection[date], today: date) -> tuple[int, ...]:
    return tuple(sorted({day.year for day in days} or {today.year}))


def _without_days(text: str) -> str:
    """Return the text with marks for days and without ranges."""
    return _read_days(text, _ANY_YEAR, None)[0]


def _read_events(text: str) -> tuple[str, list[Event]]:
    """Return the text without the events that it counts from, and these events."""
    if _NOW.search(text) and not _PAST.search(text):
        return text, []
    read = [event for match in EVENTS.finditer(text) if (event := read_event(match))]
    return EVENTS.sub(" ", text) if read else text, read


def _read_sessions(text: str) -> tuple[str, list[Sessions]]:
    """Return the text without the sessions that it names, and these sessions."""
    sessions: list[Sessions] = []
    if not may_name_sessions(text):
        return text, sessions
    for pattern, reader in SESSIONS:
        matches = list(pattern.finditer(text))
        spans = [reader(groups_of(match)) for match in matches]
        sessions += [span for span in spans if span is not None]
        if matches:  # rarely, and a long text takes as long to change as to search
            text = pattern.sub(" ", text)
    return text, sessions


def _read_atoms(text: str, time: Calendar) -> tuple[str, list[Named]]:
    """Replace the expressions in a text with marks; return the text and their meanings."""
    named: list[Named] = []
    text = text.replace("\x00", " ")
    if not may_name_days(text):
        return text, named
    for pattern, reader in ATOMS:

        def mark(match: re.Match[str], reader: Reader = reader) -> str:
            groups = groups_of(match)
            try:
                meaning = reader(groups, time)
            except (ValueError, OverflowError):  # 31 February, or a day beyond the calendar
                meaning = None
            if meaning is None:
                return match[0]
            named.append(meaning)
            lead = groups.get("lead", "")
            return f"{lead} \x00{len(named) - 1}\x00" if lead else f"\x00{len(named) - 1}\x00"

        text = pattern.sub(mark, text)
    return text, named


def _read_offsets(text: str, named: list[Named], time: Calendar) -> str:
    """Replace offsets from marks ("two weeks before Christmas") with marks of their own."""

    def mark(match: re.Match[str]) -> str:
        distance = offset(match)
        if distance is None:
            return match[0]
        try:
            span = distance.of(_latest(named[int(match["mark"])], time))
        except OverflowError:
            return match[0]
        named.append(Named((span,)))
        return f"\x00{len(named) - 1}\x00"

    return _OFFSET.sub(mark, text)


def _read_ranges(text: str, named: list[Named], time: Calendar) -> tuple[str, list[Days]]:
    """Remove ranges from a text with marks; return the rest of the text, and the ranges' spans."""
    spans: list[Days] = []
    for pattern, kind in _RANGES:

        def add(match: re.Match[str], kind: _Range = kind) -> str:
            ends = [named[int(number)] for number in match.groups() if number is not None]
            span = _range(kind, ends, time)
            if span is not None:
                spans.append(span)
            return " "

        text = pattern.sub(add, text)
    return text, spans


_Range = Literal["between", "since", "before", "after", "until"]


def _range(kind: _Range, ends: list[Named], time: Calendar) -> Days | None:
    """Return the span of days of a range; None if it is empty or outside the calendar."""
    day = _latest(ends[0], time)
    try:
        if kind == "between":
            last = _latest(ends[1], time)[1]
            first = _at_most(day[0], last, ends[0].repeats)
            return (first, last) if first <= last else None
        if kind == "since":
            return (day[0], max(time.today, day[1]))
        if kind == "after":
            return (day[1] + timedelta(1), max(time.today, day[1] + timedelta(1)))
        if kind == "before":
            return (date.min, day[0] - timedelta(1))
    except OverflowError:
        return None
    return (date.min, day[1])


def _latest(named: Named, time: Calendar) -> Days:
    """Return the span to use in a range: the newest that does not begin in the future."""
    past = [span for span in named.spans if span[0] <= time.today]
    return (past or list(named.spans))[-1]


def _at_most(day: date, last: date, repeats: Literal["week", "year"] | None) -> date:
    """Return the newest day of this name that is not after `last` ("from November to February")."""
    if repeats == "week":
        return last - timedelta((last - day).days % 7)
    if repeats == "year":
        same = day.replace(year=last.year, day=min(day.day, 28) if day.month == 2 else day.day)
        return same if same <= last else same.replace(year=last.year - 1)
    return day


_RANGE_WORDS: tuple[tuple[str, _Range], ...] = (
    (rf"\b(?:between|from) (?:the )?{_MARK} (?:and|to|until|till|through|up to) (?:the )?{_MARK}", "between"),
    (rf"{_MARK}{TO}{_MARK}", "between"),
    (rf"\b(?:since|ever since|starting(?: from| in| on)?) (?:the )?{_MARK}(?: on(?:wards?)?)?", "since"),
    (rf"\bfrom (?:the )?{_MARK} on(?:wards?)?\b", "since"),
    (rf"\b(?:before|prior to|earlier than) (?:the )?{_MARK}", "before"),
    (rf"\b(?:after|later than) (?:the )?{_MARK}", "after"),
    (rf"\b(?:until|till|up to|by) (?:the )?{_MARK}", "until"),
)  # fmt: skip
_FOR = lazy(r"\b(?:for|due(?: on)?|scheduled on) (?:the )?$", re.IGNORECASE)
_OFFSET = lazy(rf"\b{OFFSET} (?:the )?\x00(?P<mark>\d+)\x00", re.IGNORECASE)
_RANGES = [(lazy(pattern, re.IGNORECASE), kind) for pattern, kind in _RANGE_WORDS]
