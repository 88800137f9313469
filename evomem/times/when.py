"""`When`: the time that a query names, and the turns of that time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo

import numpy as np

from evomem.records import Said
from evomem.store import Filter, Seqs, Store, View
from evomem.times.date_words import Days
from evomem.times.dates import (
    asked_days,
    asked_events,
    asked_sessions,
    asks_only_when,
    nearness,
    read_days,
    written_days,
)

SHORT = 3  # days of a span, at most, that counts in full
BROAD = 0.31  # what a longer span counts: it says less about which turn is meant
YEARS = 100  # of the newest turns, that a date without a year may be of

WEEKS_BEFORE = 2  # that "last Friday" may be further back, if nothing was said on it
UNDER_WAY = timedelta(minutes=30)  # since the newest turn, while its session goes on

_PROBE = [date(2023, 1, 1), date(2024, 1, 1)]  # a leap year, too, for 29 February


@dataclass(frozen=True)
class When:
    """The days and sessions that a query names; false if it names none."""

    spans: tuple[Days, ...] = ()
    sessions: frozenset[str] = frozenset()
    zone: tzinfo = timezone.utc
    """The time zone of days."""
    events: frozenset[int] = frozenset()
    """The turns (seqs) that tell of events from which the query counts ("a year before I moved")."""
    planned: frozenset[Days] = frozenset()
    """Those spans that the query names as the time of a plan: it was made on another day."""
    dates: frozenset[date] = frozenset()
    """Single days that the query names: turns that write one of them may be meant, too."""
    mentioning: frozenset[int] = frozenset()
    """The candidates (seqs) that write one of `dates`."""
    under_way: str | None = None
    """The session in which the query is asked, if it asks for something earlier."""
    is_all: bool = False
    """Whether the query asks for nothing but this time."""

    def __bool__(self) -> bool:
        """Return whether the query names a time."""
        return bool(self.spans or self.sessions)

    def share(self, said: Said, seq: int = 0) -> float:
        """Return 1 for a turn of a named session, a short span, or that writes a named day.

        Less for a turn of a longer span or of the week after, 0 for most.
        """
        if not self:
            return 0.0
        if seq in self.mentioning:
            return 1.0
        if said.session in self.sessions:
            return 1.0
        if said.session is not None and said.session == self.under_way:
            return 0.0
        day = day_of(said.time, self.zone)
        short = {span for span in self.spans if (span[1] - span[0]).days < SHORT} - self.planned
        return max(nearness(day, short), BROAD * nearness(day, set(self.spans) - short))

    def turns(self, store: Store, view: View) -> Seqs:
        """Return the turns of a view that were said then, ascending."""
        conditions = [Filter(*_moments(span, self.zone)) for span in self.spans]
        conditions += [Filter(session=name) for name in sorted(self.sessions)]
        parts = [np.zeros(0, np.int64)]
        parts += [
            seqs
            for condition in conditions
            if condition != Filter() and (seqs := store.select(view, condition).allowed) is not None
        ]
        parts.append(np.array(sorted(self.events), np.int64))
        seqs = np.unique(np.concatenate(parts))
        if self.under_way is None:
            return seqs
        now = store.select(view, Filter(session=self.under_way)).allowed
        earlier = seqs if now is None else np.setdiff1d(seqs, now)
        return earlier if len(earlier) else seqs


def names_time(query: str) -> bool:
    """Return whether a query names days or sessions.

    >>> names_time("Where did I live in May?"), names_time("Where do I live?")
    (True, False)
    """
    return bool(
        asked_sessions(query) or asked_days(query, _PROBE, _PROBE[-1]) or asked_events(query)
    )


def read_when(store: Store, view: View, query: str, now: datetime | None, zone: tzinfo) -> When:
    """Return the time that a query names. Call it only if it `names_time`.

    Args:
        store: The log.
        view: The turns to search. Their years are those of a date without a year; sessions are
        numbered in it.
        query: The question.
        now: The time of the question; None for the time of the view's newest turn.
        zone: The time zone of who asks.
    """
    numbers = asked_sessions(query)
    period = store.period(view)
    if period is None:
        return When(zone=zone)
    first, last = (day_of(moment, zone) for moment in period)
    days = [date(year, 1, 1) for year in range(max(first.year, last.year - YEARS), last.year + 1)]
    today = last if now is None else day_of(now, zone)
    names = store.sessions(view)
    sessions = _at(numbers, names) if numbers else frozenset()
    spans, named = read_days(query, days, today)

    def said_on(span: Days) -> bool:
        seqs = store.select(view, Filter(*_moments(span, zone))).allowed
        return seqs is None or len(seqs) > 0

    for meant in named:
        if meant.otherwise and not any(said_on(span) for span in meant.spans):
            [(day, _)] = meant.spans
            if meant.otherwise == "around":
                spans[spans.index((day, day))] = (day - timedelta(1), day + timedelta(1))
            else:
                before = [(day - timedelta(7 * n),) * 2 for n in range(1, WEEKS_BEFORE + 1)]
                spans += [span for span in before if said_on(span)][:1]
    is_under_way = now is None or timedelta() <= now - period[1] <= UNDER_WAY
    under_way = None
    if any(meant.earlier for meant in named) and is_under_way and names:
        under_way = names[-1]
    is_all = asks_only_when(query, days, today)
    planned = frozenset(span for meant in named if meant.planned for span in meant.spans)
    dates = frozenset(written_days(query, days, today))
    return When(
        tuple(spans),
        sessions,
        zone,
        planned=planned,
        dates=dates,
        under_way=under_way,
        is_all=is_all,
    )


def dated(moment: datetime, zone: tzinfo) -> str:
    """Return a time for people, with the name of its zone.

    >>> dated(datetime(2026, 3, 11, 3, tzinfo=timezone.utc), timezone.utc)
    '2026-03-11 03:00 UTC'
    """
    try:
        moment = moment.astimezone(zone)
    except OverflowError:  # at either end of the calendar
        pass
    return f"{moment:%Y-%m-%d %H:%M} {moment.tzname() or format(moment, '%z')}"


def _at(numbers: Sequence[tuple[int, int]], names: Sequence[str]) -> frozenset[str]:
    """Return the sessions at these places."""
    named: set[str] = set()
    for first, last in numbers:
        start, end = (place if place >= 0 else len(names) + place for place in (first, last))
        named.update(names[max(start, 0) : max(end + 1, 0)])
    return frozenset(named)


def day_of(moment: datetime, zone: tzinfo) -> date:
    """Return the day of a moment in a time zone."""
    try:
        return moment.astimezone(zone).date()
    except OverflowError:  # at either end of the calendar
        return moment.date()


def _moments(span: Days, zone: tzinfo) -> tuple[datetime | None, datetime | None]:
    """Return when a span of days begins and ends, UTC; None for an end outside of the calendar."""
    return _midnight(span[0], 0, zone), _midnight(span[1], 1, zone)


def _midnight(day: date, later: int, zone: tzinfo) -> datetime | None:
    try:
        start = datetime.combine(day + timedelta(later), time(), zone)
        return None if day == date.min else start.astimezone(timezone.utc)
    except OverflowError:
        return None
