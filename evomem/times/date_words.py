"""The words and forms in which English names days: "3 Jan 2024", "last week", "two days ago".

`ATOMS` are patterns with the functions that interpret them. `evomem.times.dates` combines their spans
into ranges.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

from evomem.patterns import lazy

Days = tuple[date, date]
"""The first and the last day of a span."""

_MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_name) if name}
_MONTHS |= {name.lower(): number for number, name in enumerate(calendar.month_abbr) if name}
_MONTHS["sept"] = 9
_WEEKDAYS = {name.lower(): number for number, name in enumerate(calendar.day_name)}
_NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_ONES = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
_COUNTS = {word: number for number, word in enumerate(_NUMBERS)}
for _number, _ten in enumerate(_TENS, 2):
    _COUNTS[_ten] = 10 * _number
    for _one, _word in enumerate(_NUMBERS[1:10], 1):
        _COUNTS |= {f"{_ten}-{_word}": 10 * _number + _one, f"{_ten} {_word}": 10 * _number + _one}
_COUNTS |= {"a": 1, "an": 1, "couple": 2, "couple of": 2, "a couple": 2, "a couple of": 2}
_COUNTS |= {"few": 3, "a few": 3, "several": 3}
ORDINALS = {word: number for number, word in enumerate(_ONES, 1)}
"""The words from "first" to "ninety-ninth"."""
ORDINALS |= {"twelfth": 12}
ORDINALS |= {f"{word}th": _COUNTS[word] for word in (*_NUMBERS[10:12], *_NUMBERS[13:20])}
for _ten in _TENS:
    ORDINALS[f"{_ten[:-1]}ieth"] = _COUNTS[_ten]
    for _one, _word in enumerate(_ONES, 1):
        ORDINALS |= {f"{_ten}{mark}{_word}": _COUNTS[_ten] + _one for mark in ("-", " ")}
_SEASONS = {"spring": 3, "summer": 6, "autumn": 9, "fall": 9, "winter": 12}  # first month
_FEASTS = {
    "christmas eve": (12, 24),
    "christmas day": (12, 25),
    "christmas": (12, 25),
    "new year's eve": (12, 31),
    "new year's day": (1, 1),
    "valentine's day": (2, 14),
    "halloween": (10, 31),
}


def one_of(names: Iterable[str]) -> str:
    """Return a pattern that matches any of these words, the longest first."""
    return "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))


_MONTH = rf"(?P<month>{one_of(_MONTHS)})\b\.?"
_OTHER_MONTH = rf"(?:{one_of(_MONTHS)})\b\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_TO_DAY = r"(?P<to_day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>(?:19|20)\d\d)"
COUNT = rf"(?P<count>\d{{1,4}}|{one_of(_COUNTS)})"
_UNIT = r"(?P<unit>day|week|weekend|fortnight|month|quarter|year)"
_WEEKDAY = rf"(?P<weekday>{one_of(_WEEKDAYS)})"
_PART = r"(?:(?P<part>early|mid|late|the (?:beginning|start|middle|end) of)[ -](?:the )?)?"
_WHEN = r"(?:morning|afternoon|evening|night)"
OFFSET = (
    rf"(?:{COUNT} {_UNIT}s?|the (?P<whole>day|night|evening|morning|week|weekend|month|year))"
    r" (?P<way>before|prior to|earlier than|after|later than|following)"
)
TO = r"\s*(?:-|–|—|to|until|till|through)\s*"


@dataclass(frozen=True)
class Named:
    """The meaning of an expression; several spans if it names no year."""

    spans: tuple[Days, ...]
    repeats: Literal["week", "year"] | None = None
    """The period after which a day of this name recurs, if the expression does not name one of them."""
    only: Literal["in ranges", "of the past"] | None = None
    """The only context in which it counts: "to May" in a range, "today" in a question about the past."""
    earlier: bool = False
    """Whether it excludes the current session, as in "earlier today"."""
    planned: bool = False
    """Whether it is the day of a plan ("the films for 6 April")."""
    otherwise: Literal["around", "a week before"] | None = None
    """The meaning if nothing was said then: "five days ago" may mean the day before or after."""


@dataclass(frozen=True)
class Calendar:
    """The day that relative dates count from, and the possible years of a date without a year."""

    today: date
    years: tuple[int, ...]


Reader = Callable[[dict[str, str], Calendar], "Named | None"]


def _iso_week(groups: dict[str, str], _: Calendar) -> Named:
    first = date.fromisocalendar(int(groups["year"]), int(groups["week"]), 1)
    return Named(((first, first + timedelta(6)),))


def _date(groups: dict[str, str], time: Calendar) -> Named | None:
    """Read a date, possibly without a year, month or day."""
    part = groups.get("part", "")
    month = groups.get("month")
    number = _MONTHS[month] if month else int(groups.get("number") or 0)
    if "ordinal" in groups:
        groups["day"] = str(ordinal(groups["ordinal"]) + 1)
    years = (int(groups["year"]),) if "year" in groups else time.years
    if "last" in groups or "next" in groups or "this" in groups:
        years = _years_of(groups, number, time)
    spans: list[Days] = []
    for year in years:
        if not number:
            span: Days | None = (date(year, 1, 1), date(year, 12, 31))
        elif not 1 <= number <= 12:
            return None
        else:
            span = _month(year, number)
            if "day" in groups:
                to_day = int(groups.get("to_day", groups["day"]))
                span = _days(year, number, int(groups["day"]), to_day)
        if span:
            spans.append(_part_of(span, part))
    if not spans:
        return None
    # May and June are also names: "a letter to May", "the dress of June"
    is_name = month in _NAMES and groups.get("lead") in ("to", "and", "of", "from", "by")
    repeats: Literal["year"] | None = None if "year" in groups or not number else "year"
    return Named(tuple(spans), repeats, "in ranges" if is_name else None)


def _years_of(groups: dict[str, str], month: int, time: Calendar) -> tuple[int]:
    """Return the year of "last May", "this May" or "next May"."""
    year, now = time.today.year, time.today.month
    if "last" in groups:
        return (year - (month >= now),)
    if "next" in groups:
        return (year + (month <= now),)
    return (year,)


def _month(year: int, month: int) -> Days:
    return date(year, month, 1), date(year, month, calendar.monthrange(year, month)[1])


def _days(year: int, month: int, first: int, last: int) -> Days | None:
    length = calendar.monthrange(year, month)[1]
    if not 1 <= first <= last <= length:
        return None
    return date(year, month, first), date(year, month, last)


def _part_of(span: Days, part: str) -> Days:
    """Return the first, middle or last third of a span, or all of it."""
    first, last = span
    third = ((last - first).days + 1) // 3
    if part.startswith(("early", "the beginning", "the start")):
        return first, first + timedelta(third - 1)
    if part.startswith(("mid", "the middle")):
        return first + timedelta(third), last - timedelta(third)
    if part.startswith(("late", "the end")):
        return last - timedelta(third - 1), last
    return span


def _slashed(groups: dict[str, str], _: Calendar) -> Named | None:
    """Read "25/12/2024" or "12/25/2024", if one of the two numbers cannot be a month."""
    first, second, year = int(groups["one"]), int(groups["other"]), int(groups["year"])
    if (first > 12) == (second > 12):
        return None
    day, month = (first, second) if first > 12 else (second, first)
    span = _days(year, month, day, day)
    return Named((span,)) if span else None


def _feast(groups: dict[str, str], time: Calendar) -> Named:
    month, day = _FEASTS[groups["feast"]]
    years = (int(groups["year"]),) if "year" in groups else time.years
    if "last" in groups:
        years = (time.today.year - (date(time.today.year, month, day) >= time.today),)
    return Named(
        tuple((date(year, month, day), date(year, month, day)) for year in years),
        None if "year" in groups else "year",
    )


def _season(groups: dict[str, str], time: Calendar) -> Named:
    month = _SEASONS[groups["season"]]
    if "year" in groups:
        starts = [date(int(groups["year"]), month, 1)]
    elif "next" in groups:
        starts = [date(time.today.year + (date(time.today.year, month, 1) <= time.today), month, 1)]
    else:  # the newest season that has begun; with "last", the newest that is over
        past = [date(year, month, 1) for year in range(time.today.year - 2, time.today.year + 1)]
        is_over = "last" in groups
        starts = [day for day in past if (_season_end(day) if is_over else day) < time.today][-1:]
    return Named(tuple((start, _season_end(start)) for start in starts))


def _season_end(start: date) -> date:
    year, month = (start.year, start.month + 2) if start.month < 12 else (start.year + 1, 2)
    return _month(year, month)[1]


def _near_day(groups: dict[str, str], time: Calendar) -> Named:
    step = _NEAR_DAYS.get(groups["word"], 0)  # "this morning" and similar words mean today
    day = time.today + timedelta(step)
    return Named(((day, day),), only=None if step else "of the past", earlier="earlier" in groups)


def ordinal(word: str) -> int:
    """Return the index of an ordinal: 0 for "first" and "1st"."""
    return (ORDINALS[word] if word in ORDINALS else int(re.sub(r"\D", "", word))) - 1


def _weekday(groups: dict[str, str], time: Calendar) -> Named:
    """Read a weekday: the newest that is not in the future, unless the query has "next"."""
    weekday = _WEEKDAYS[groups["weekday"]]
    back = (time.today.weekday() - weekday) % 7
    if "before_last" in groups:
        back = (back or 7) + 7
    elif "last" in groups:
        back = back or 7
    elif "next" in groups:
        back = back - 7
    elif "this" in groups:
        back = time.today.weekday() - weekday
    day = time.today - timedelta(back)
    if "weeks" in groups:
        day -= timedelta(7 * number(groups["weeks"]))
    if groups.keys() & {"before_last", "next", "weeks"}:
        return Named(((day, day),))
    if "last" in groups:
        return Named(((day, day),), otherwise="a week before")
    return Named(((day, day),), None if "this" in groups else "week", "of the past")


def _relative_span(groups: dict[str, str], time: Calendar) -> Named:
    """Read "last week", "this month", "next year", "the week before last"."""
    step = -2 if "before_last" in groups else {"last": -1, "next": 1, "this": 0}[groups["which"]]
    span = _calendar_span(groups["unit"], step, time.today)
    return Named((span,), only=None if step else "of the past")


def _calendar_span(unit: str, step: int, today: date) -> Days:
    """Return the calendar day, week, month, quarter or year that is `step` units after today's.

    Fortnights are two calendar weeks: 0 is last week and this week, -1 the two weeks before this week.
    """
    if unit == "day":
        return (today + timedelta(step),) * 2
    monday = today - timedelta(today.weekday())
    if unit in ("week", "weekend"):
        first = monday + timedelta(7 * step)
        return first + timedelta(5 if unit == "weekend" else 0), first + timedelta(6)
    if unit == "fortnight":
        first = monday + timedelta(14 * step - (0 if step < 0 else 7))
        return first, first + timedelta(13)
    if unit == "year":
        return date(today.year + step, 1, 1), date(today.year + step, 12, 31)
    months = 3 if unit == "quarter" else 1
    count = (today.year * 12 + today.month - 1) // months * months + step * months
    year, month = divmod(count, 12)
    end_year, end_month = divmod(count + months - 1, 12)
    return date(year, month + 1, 1), _month(end_year, end_month + 1)[1]


def _weekend(groups: dict[str, str], time: Calendar) -> Named:
    """Read "last weekend", the newest that is over, or "this weekend", that of the current week."""
    first, last = _calendar_span("weekend", {"next": 1}.get(groups["which"], 0), time.today)
    if groups["which"] in ("last", "previous") and last >= time.today:
        first, last = first - timedelta(7), last - timedelta(7)
    return Named(((first, last),))


def _ago(groups: dict[str, str], time: Calendar) -> Named:
    """Read "3 weeks ago": that day, and for larger units also days around it."""
    if "half" in groups:
        groups |= {"count": "6", "unit": "month"}
    count = number(groups["count"])
    day = _shift(time.today, -count, groups["unit"])
    around = timedelta(_AROUND.get(groups["unit"], 0))
    span = (day - around, min(day + around, time.today))
    return Named((span,), otherwise="around" if groups["unit"] == "day" and count > 1 else None)


def _past(groups: dict[str, str], time: Calendar) -> Named:
    """Read "the past 3 days", "in the last two weeks": the days from then to today."""
    count = number(groups["count"]) if "count" in groups else 1
    return Named(((_shift(time.today, -count, groups["unit"]), time.today),))


@dataclass(frozen=True)
class Offset:
    """A distance from a day: "two weeks before", "the month after"."""

    count: int | None
    """The number of units; None for the whole unit next to the day ("the week after")."""
    unit: str
    after: bool

    def of(self, span: Days) -> Days:
        """Return the days at this distance from a span. Raises `OverflowError` outside the calendar."""
        start = span[1] if self.after else span[0]
        sign = 1 if self.after else -1
        try:
            day = _shift(start, sign * (self.count or 1), self.unit)
        except ValueError as error:
            raise OverflowError(str(error)) from error
        if self.count is None:
            return (start + timedelta(1), day) if self.after else (day, start - timedelta(1))
        around = timedelta(_AROUND.get(self.unit, 0))
        return day - around, day + around


def groups_of(match: re.Match[str]) -> dict[str, str]:
    """Return the named groups of a match that are not empty, in lower case."""
    return {name: part.lower() for name, part in match.groupdict().items() if part}


def offset(match: re.Match[str]) -> Offset | None:
    """Return the offset that a match of `OFFSET` expresses; None for an offset of 0."""
    groups = groups_of(match)
    after = groups["way"] in ("after", "later than", "following")
    if "whole" in groups:
        unit = "day" if groups["whole"] in ("night", "evening", "morning") else groups["whole"]
        return Offset(None, unit, after)
    count = number(groups["count"])
    return Offset(count, groups["unit"], after) if count else None


def number(word: str) -> int:
    """Return the number of digits or of a number word."""
    return int(word) if word.isdecimal() else _COUNTS[word]


def _shift(day: date, count: int, unit: str) -> date:
    if unit in ("month", "quarter", "year"):
        months = count * {"month": 1, "quarter": 3, "year": 12}[unit]
        year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
        return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))
    return day + timedelta(count * {"week": 7, "fortnight": 14, "weekend": 7}.get(unit, 1))


def _day_of_month(groups: dict[str, str], time: Calendar) -> Named | None:
    """Read "on the 5th": the newest such day that is not in the future."""
    day = int(groups["day"])
    for step in range(0, 3):
        first, last = _calendar_span("month", -step, time.today)
        if 1 <= day <= last.day and first.replace(day=day) <= time.today:
            return Named(((first.replace(day=day),) * 2,))
    return None


_AROUND = {"week": 3, "fortnight": 3, "month": 15, "quarter": 45, "year": 45}
"""Tolerance in days on either side of a time that is counted in larger units."""
_NEAR_DAYS = {
    "the day before yesterday": -2,
    "the night before last": -2,
    "yesterday": -1,
    "last night": -1,
    "today": 0,
    "tonight": 0,
    "tomorrow": 1,
    "the day after tomorrow": 2,
}
_NAMES = ("jan", "march", "april", "may", "june", "august")
_COUNTED_NOUNS = (
    r"dollars?|euros?|pounds?|people|times|calories|steps|miles|metres|meters|km|kg|words"
)
_BEFORE_A_DATE = (
    "on",
    "of",
    "since",
    "until",
    "before",
    "after",
    "between",
    "from",
    "to",
    "and",
    "by",
)
_NOT_A_VERB = (  # "may 3 people come", "did I march 5 miles"
    rf"(?:{'|'.join(f'(?<={word} )' for word in _BEFORE_A_DATE)}"
    r"|(?!(?:may|march) \d+ (?!(?:and|to|until|through) )[a-z]))"
)
_ON_WEEKDAY = rf"(?:(?:{one_of(_WEEKDAYS)}),? (?:the )?)?"
_HABIT = rf"(?:(?:,| and| or|/|, and)+ ?(?:on )?(?:{one_of(_WEEKDAYS)}))* {_WHEN}s\b"  # "mornings"
# "the night before last" names a day; in "the night before last Friday", "last" belongs to "Friday"
_NOT_BEFORE_LAST_DATE = (
    rf"(?!(?<=before last) (?:{one_of((*_WEEKDAYS, *_MONTHS, *_FEASTS))}|week|month|year)\b)"
)
_WHICH = r"(?:(?P<last>last|past)|(?P<next>next|coming)|(?P<this>this))"
_LEAD = r"(?P<lead>in|during|since|throughout|before|after|until|till|by|from|to|and|between|of)"

ATOMS: tuple[tuple[re.Pattern[str], Reader], ...] = tuple(
    (lazy(pattern, re.IGNORECASE), reader)
    for pattern, reader in (
        (rf"\b{_YEAR}-?W(?P<week>\d\d)\b", _iso_week),
        (rf"\b{_YEAR}(?P<mark>[-/])(?P<number>\d\d?)(?P=mark){_DAY}(?:[T ]\d\d:?\d\d(?::?\d\d)?(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)?)?(?!\d)", _date),
        (rf"\b{_DAY}\.\s?(?P<number>\d\d?)\.\s?{_YEAR}\b", _date),
        (rf"\b(?P<one>\d\d?)/(?P<other>\d\d?)/{_YEAR}\b", _slashed),
        (rf"\b{_YEAR}-(?P<number>0[1-9]|1[0-2])(?![-\d])", _date),
        (rf"(?<![/\d])(?P<number>\d\d?)/{_YEAR}\b", _date),
        (rf"\b(?:between|from) (?:the )?{_DAY} (?:and|to|until|till|through) (?:the )?{_TO_DAY}(?: of)? {_MONTH}(?:,? {_YEAR})?", _date),
        (rf"\b{_DAY}{TO}{_TO_DAY}(?: of)? {_MONTH}(?:,? {_YEAR})?", _date),
        (rf"\b(?:between|from) {_MONTH} {_DAY} (?:and|to|until|till|through) (?:the )?{_TO_DAY}\b(?! {_OTHER_MONTH})(?:,? {_YEAR})?", _date),
        (rf"\b{_MONTH} {_DAY}{TO}{_TO_DAY}\b(?:,? {_YEAR})?", _date),
        (rf"\b{_ON_WEEKDAY}{_DAY}(?: of)? {_MONTH}(?:,? {_YEAR})?", _date),
        (rf"\b{_ON_WEEKDAY}the (?P<ordinal>{one_of(ORDINALS)}) of {_MONTH}(?:,? {_YEAR})?", _date),
        (rf"\b{_ON_WEEKDAY}{_NOT_A_VERB}{_MONTH} (?:the )?{_DAY}\b(?:,? {_YEAR})?", _date),
        (rf"\b{_ON_WEEKDAY}{_NOT_A_VERB}{_MONTH} (?:the )?(?P<ordinal>{one_of(ORDINALS)})\b(?:,? {_YEAR})?", _date),
        (rf"\b{_PART}{_MONTH}(?: of|,)? {_YEAR}", _date),
        (rf"\b(?P<feast>{one_of(_FEASTS)})(?: of)? {_YEAR}", _feast),
        (rf"\b(?:{_WHICH}|on|at|over|around|{_LEAD}) (?P<feast>{one_of(_FEASTS)})\b", _feast),
        (rf"\b{_WHICH} {_MONTH}", _date),
        (rf"\b(?P<part>early|mid|late|the (?:beginning|start|middle|end) of)[ -]{_MONTH}", _date),
        (rf"\b(?:(?P<last>last|past)|(?P<next>next)|this|(?:in|during|over)(?: the)?|(?P<lead>since|until|before|after)(?: the)?(?! fall)) (?P<season>{one_of(_SEASONS)})\b(?! (?:break|roll|water|onion|mattress))(?:(?: of)? {_YEAR})?", _season),
        (rf"\b(?P<season>{one_of(_SEASONS)})(?: of)? {_YEAR}\b", _season),
        (rf"\b(?P<earlier>earlier )?(?P<word>{one_of(_NEAR_DAYS)}|this {_WHEN})(?: {_WHEN})?\b{_NOT_BEFORE_LAST_DATE}", _near_day),
        (rf"\b(?P<earlier>earlier )(?P<word>in the {_WHEN})\b", _near_day),
        (rf"\bthe (?P<before_last>{_UNIT} before last)\b{_NOT_BEFORE_LAST_DATE}", _relative_span),
        (rf"\bthe (?P<before_last>{_WEEKDAY} before last)\b", _weekday),
        (rf"\b{_WEEKDAY},? (?P<weeks>\d|a|one|two|three|four) weeks? ago\b", _weekday),
        (r"\b(?:(?P<which>last|previous|this|next) )(?P<unit>weekend)\b", _weekend),
        (r"\b(?P<half>half a year) (?:ago|earlier|back)\b", _ago),
        (rf"\b{COUNT} {_UNIT}s? (?:ago|earlier|back)\b", _ago),
        (rf"\b(?:in|within|during|over|for) the (?:last|past) (?:{COUNT} )?{_UNIT}s?\b(?! of\b)", _past),
        (rf"\b(?:(?:the|these) )?(?:last|past) {COUNT} {_UNIT}s?\b", _past),
        (rf"\bthis (?:last|past) {_UNIT}\b", _past),
        (rf"\b(?P<which>last|this|next) (?!day){_UNIT}\b(?! of\b)", _relative_span),
        (rf"\bthe past {_UNIT}\b", _past),
        (rf"\b(?:{_WHICH}|on|{_LEAD}) {_WEEKDAY}\b(?: {_WHEN}\b)?(?!{_HABIT})", _weekday),
        (rf"\b{_WEEKDAY}(?: {_WHEN}\b|(?=\W*$))", _weekday),
        (rf"\b{_LEAD}(?: the)? {_MONTH}", _date),
        (rf"(?<![$€£#./-])\b{_PART}{_YEAR}\b(?![-/.]\d| (?:{_COUNTED_NOUNS})\b)", _date),
        (r"\bon the (?P<day>\d{1,2})(?:st|nd|rd|th)\b", _day_of_month),
    )
)  # fmt: skip

_UNITS_AND_PARTS = "day week fortnight month quarter year morning afternoon evening night".split()
_CUES = (*_UNITS_AND_PARTS, *_MONTHS, *_WEEKDAYS, *_SEASONS, *_FEASTS, *_NEAR_DAYS)
_DIGIT = lazy(r"\d")


def may_name_days(text: str) -> bool:
    """Return whether one of `ATOMS` may match in a text: each needs a digit or one of a few words."""
    folded = text.casefold()
    return bool(_DIGIT.search(text)) or any(cue in folded for cue in _CUES)
