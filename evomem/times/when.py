"""`When`: the time that a query names, and the turns of that time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo

import numpy as np

from evomem.records import TimeAndSession
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

SHORT = 3  # days: spans up to this length have full weight
BROAD = 0.31  # the weight of longer spans, which are less specific
YEARS = 100  # before the newest turn, to which a date without a year may refer

WEEKS_BEFORE = 2  # how many weeks earlier "last Friday" may be, if nothing was said on that day
UNDER_WAY = timedelta(minutes=30)  # after its newest turn, a session no longer counts as current

_PROBE = [date(2023, 1, 1), date(2024, 1, 1)]  # with a leap year, for 29 February


@dataclass(frozen=True)
class When:
    """The days and sessions that a query names; falsy if it names none."""

    spans: tuple[Days, ...] = ()
    sessions: frozenset[str] = frozenset()
    zone: tzinfo = timezone.utc
    """The time zone of days."""
    events: frozenset[int] = frozenset()
    """Seqs of turns about events from which the query counts ("a year before I moved")."""
    planned: frozenset[Days] = frozenset()
    """The spans that the query names as the time of a plan, which was made on another day."""
    dates: frozenset[date] = frozenset()
    """Single days that the query names: it may also mean turns that mention one of them."""
    mentioning: frozenset[int] = frozenset()
    """Seqs of candidates that mention one of `dates`."""
    under_way: str | None = None
    """The current session, if the query asks for something earlier."""
    is_all: bool = False
    """Whether the query asks about nothing but this time."""

    def __bool__(self) -> bool:
        """Return whether the query names a time."""
        return bool(self.spans or self.sessions)

    def share(self, turn: TimeAndSession, seq: int = 0) -> float:
        """Return the weight of a turn: 1 in a named session or short span, or if it mentions a named day.

        Less in a longer span or in the week after a span, 0 otherwise.
        """
        if not self:
            return 0.0
        if seq in self.mentioning:
            return 1.0
        if turn.session in self.sessions:
            return 1.0
        if turn.session is not None and turn.session == self.under_way:
            return 0.0
        day = day_of(turn.time, self.zone)
        short = {span for span in self.spans if (span[1] - span[0]).days < SHORT} - self.planned
        return max(nearness(day, short), BROAD * nearness(day, set(self.spans) - short))

    def turns(self, store: Store, view: View) -> Seqs:
        """Return the seqs of a view's turns that were said at this time, ascending."""
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


def names_only_time(query: str) -> bool:
    """Return whether a query asks about nothing but a time that it names.

    >>> names_only_time("What did we talk about in May?"), names_only_time("Where did I live in May?")
    (True, False)
    """
    return names_time(query) and asks_only_when(query, _PROBE, _PROBE[-1])


def read_when(store: Store, view: View, query: str, now: datetime | None, zone: tzinfo) -> When:
    """Return the time that a query names; call it only if `names_time(query)`.

    Args:
        store: The log.
        view: The turns to search. A date without a year is in one of their years, and sessions are
            counted among theirs.
        query: The question.
        now: The time of the question; None for that of the view's newest turn.
        zone: The time zone of the question.
    """
    period = store.period(view)
    if period is None:
        return When(zone=zone)
    first, last = (day_of(moment, zone) for moment in period)
    days = [date(year, 1, 1) for year in range(max(first.year, last.year - YEARS), last.year + 1)]
    today = last if now is None else day_of(now, zone)
    numbers = asked_sessions(query)
    spans, named = read_days(query, days, today)
    asks_earlier = any(meant.earlier for meant in named)
    names = store.sessions(view) if numbers or asks_earlier else []
    sessions = _at(numbers, names) if numbers else frozenset()

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
    if asks_earlier and is_under_way and names:
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
    """Return a time in readable form, with the name of its zone.

    >>> dated(datetime(2026, 3, 11, 3, tzinfo=timezone.utc), timezone.utc)
    '2026-03-11 03:00 UTC'
    """
    try:
        moment = moment.astimezone(zone)
    except OverflowError:  # at either end of the calendar
        pass
    return f"{moment:%Y-%m-%d %H:%M} {moment.tzname() or format(moment, '%z')}"


def _at(numbers: Sequence[tuple[int, int]], names: Sequence[str]) -> frozenset[str]:
    """Return the names of the sessions at these positions."""
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
    """Return the start and end of a span of days, UTC; None for an end outside the calendar."""
    return _midnight(span[0], 0, zone), _midnight(span[1], 1, zone)


def _midnight(day: date, later: int, zone: tzinfo) -> datetime | None:
    try:
        start = datetime.combine(day + timedelta(later), time(), zone)
        return None if day == date.min else start.astimezone(timezone.utc)
    except OverflowError:
        return None
