"""Days that a query speaks of, such as "on 3 Jan 2024", "in May" or "yesterday".

Plain regular expressions for English dates and numbers whose order is plain; "03/04/2024" is left
alone, because nobody knows which of the two is the month.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Collection
from datetime import date, timedelta

Days = tuple[date, date]
"""The first and the last day of a span of time."""
LATER = 7  # days after a span in which what happened then is still told

_MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_name) if name}
_MONTHS |= {name.lower(): number for number, name in enumerate(calendar.month_abbr) if name}
_MONTH = rf"(?P<month>{'|'.join(sorted(_MONTHS, key=len, reverse=True))}|sept)\b\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>(?:19|20)\d\d)"
_DATES = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\b{_YEAR}-(?P<number>\d\d?)-{_DAY}\b",
        rf"\b{_DAY}\.(?P<number>\d\d?)\.{_YEAR}\b",
        rf"\b{_DAY}(?: of)? {_MONTH}(?:,? {_YEAR})?",
        rf"\b{_MONTH} {_DAY}\b(?:,? {_YEAR})?",
        rf"\b{_MONTH}(?: of|,)? {_YEAR}",
        rf"\b(?:in|during|last|this|early|late|since|throughout)(?: the)? {_MONTH}",
        rf"\b{_YEAR}\b",
        r"\b(?P<relative>today|yesterday|(?:last|this) (?:week|month|year))\b",
    )
]


def asked_days(query: str, days: Collection[date]) -> list[Days]:
    """Return the spans of time that a query names.

    Args:
        query: The question.
        days: When the turns were said; a date without a year is one of their years, and the newest
            of them is "today".

    >>> asked_days("What did Mei do on 3 Jan 2024?", [date(2024, 2, 1)])
    [(datetime.date(2024, 1, 3), datetime.date(2024, 1, 3))]
    >>> asked_days("What did I buy last week?", [date(2024, 2, 1)])
    [(datetime.date(2024, 1, 22), datetime.date(2024, 1, 28))]
    >>> asked_days("May I ask something?", [date(2024, 2, 1)])
    []
    """
    found: list[Days] = []
    for pattern in _DATES if days else ():
        for match in pattern.finditer(query):
            parts = match.groupdict()
            if parts.get("relative"):
                spans = [_relative(parts["relative"].lower(), max(days))]
            else:
                years = {int(parts["year"])} if parts.get("year") else {day.year for day in days}
                spans = [_span(year, parts) for year in sorted(years)]
            found += [span for span in spans if span]
        query = pattern.sub(" ", query)  # a year that belongs to a day is no year by itself
    return found


def nearness(day: date, spans: Collection[Days]) -> float:
    """Return 1 for a day in one of the spans, less in the week after it, else 0.

    >>> spans = [(date(2024, 1, 3), date(2024, 1, 3))]
    >>> [nearness(date(2024, 1, number), spans) for number in (2, 3, 10, 11)]
    [0.0, 1.0, 0.125, 0.0]
    """
    past = [(day - last).days for first, last in spans if day >= first]
    return max((1 - max(0, days) / (LATER + 1) for days in past if days <= LATER), default=0.0)


def _span(year: int, parts: dict[str, str | None]) -> Days | None:
    """Return the days of a date, None if there is no such day."""
    name, number, day = parts.get("month"), parts.get("number"), parts.get("day")
    if not name and not number:
        return date(year, 1, 1), date(year, 12, 31)
    month = _MONTHS[name.lower()[:3]] if name else int(number or 0)
    if not 1 <= month <= 12:
        return None
    last = calendar.monthrange(year, month)[1]
    if not day:
        return date(year, month, 1), date(year, month, last)
    if not 1 <= int(day) <= last:
        return None
    return date(year, month, int(day)), date(year, month, int(day))


def _relative(words: str, today: date) -> Days | None:
    """Return the days of a span that ends near `today`, None where the calendar does not reach."""
    which, _, unit = words.partition(" ")
    last = which == "last"
    try:
        if not unit:
            day = today - timedelta(days=words == "yesterday")
            return day, day
        if unit == "week":
            first = today - timedelta(days=today.weekday() + 7 * last)
            return first, first + timedelta(days=6)
        if unit == "year":
            return date(today.year - last, 1, 1), date(today.year - last, 12, 31)
        first = (today.replace(day=1) - timedelta(days=last)).replace(day=1)
        return first, first.replace(day=calendar.monthrange(first.year, first.month)[1])
    except (ValueError, OverflowError):
        return None
