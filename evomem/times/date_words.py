"""The words and forms in which English names days: "3 Jan 2024", "last week", "two days ago".

`ATOMS` are patterns with what each stands for. `evomem.times.dates` joins them to ranges.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

Days = tuple[date, date]
"""The first and the last day of a span of time."""

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
    """Return a pattern of these words, the longest first."""
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
    """What an expression may stand for; several spans if it names no year."""

    spans: tuple[Days, ...]
    repeats: Literal["week", "year"] | None = None
    """The period after which a day of this name recurs, if the expression does not say which one."""
    only: Literal["in ranges", "of the past"] | None = None
    """The only context in which it is read: "to May" in a range, "today" in a question about the past."""
    earlier: bool = False
    """Whether it is over: "earlier today" does not mean the session that is under way."""
    planned: bool = False
    """Whether the query names it as the day of a plan ("the films for 6 April")."""
    otherwise: Literal["around", "a week before"] | None = None
    """What it means where nothing was said then: "five days ago" may mean the day before or after."""


@dataclass(frozen=True)
class Calendar:
    """The day that dates are relative to, and the possible years of a date without one."""

    today: date
    years: tuple[int, ...]


Reader = Callable[[dict[str, str], Calendar], "Named | None"]


def _iso_week(given: dict[str, str], _: Calendar) -> Named:
    first = date.fromisocalendar(int(given["year"]), int(given["week"]), 1)
    return Named(((first, first + timedelta(6)),))


def _date(given: dict[str, str], time: Calendar) -> Named | None:
    """Read a date whose year, month or day may be missing."""
    part = given.get("part", "")
    month = given.get("month")
    number = _MONTHS[month] if month else int(given.get("number") or 0)
    if "ordinal" in given:
        given["day"] = str(ordinal(given["ordinal"]) + 1)
    years = (int(given["year"]),) if "year" in given else time.years
    if "last" in given or "next" in given or "this" in given:
        years = _years_of(given, number, time)
    spans: list[Days] = []
    for year in years:
        if not number:
            span: Days | None = (date(year, 1, 1), date(year, 12, 31))
        elif not 1 <= number <= 12:
            return None
        else:
            span = _month(year, number)
            if "day" in given:
                to_day = int(given.get("to_day", given["day"]))
                span = _days(year, number, int(given["day"]), to_day)
        if span:
            spans.append(_part_of(span, part))
    if not spans:
        return None
    # May and June are names, too: "a letter to May", "the dress of June"
    is_name = month in _NAMES and given.get("lead") in ("to", "and", "of", "from", "by")
    repeats: Literal["year"] | None = None if "year" in given or not number else "year"
    return Named(tuple(spans), repeats, "in ranges" if is_name else None)


def _years_of(given: dict[str, str], month: int, time: Calendar) -> tuple[int]:
    """Return the year of "last May", "this May" or "next May"."""
    year, now = time.today.year, time.today.month
    if "last" in given:
        return (year - (month >= now),)
    if "next" in given:
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


def _slashed(given: dict[str, str], _: Calendar) -> Named | None:
    """Read "25/12/2024" or "12/25/2024": only where one of the two cannot be a month."""
    first, second, year = int(given["one"]), int(given["other"]), int(given["year"])
    if (first > 12) == (second > 12):
        return None
    day, month = (first, second) if first > 12 else (second, first)
    span = _days(year, month, day, day)
    return Named((span,)) if span else None


def _feast(given: dict[str, str], time: Calendar) -> Named:
    month, day = _FEASTS[given["feast"]]
    years = (int(given["year"]),) if "year" in given else time.years
    if "last" in given:
        years = (time.today.year - (date(time.today.year, month, day) >= time.today),)
    return Named(
        tuple((date(year, month, day), date(year, month, day)) for year in years),
        None if "year" in given else "year",
    )


def _season(given: dict[str, str], time: Calendar) -> Named:
    month = _SEASONS[given["season"]]
    if "year" in given:
        starts = [date(int(given["year"]), month, 1)]
    elif "next" in given:
        starts = [date(time.today.year + (date(time.today.year, month, 1) <= time.today), month, 1)]
    else:  # the newest that has begun; "last" is one that is over
        past = [date(year, month, 1) for year in range(time.today.year - 2, time.today.year + 1)]
        over = "last" in given
        starts = [day for day in past if (_season_end(day) if over else day) < time.today][-1:]
    return Named(tuple((start, _season_end(start)) for start in starts))


def _season_end(start: date) -> date:
    year, month = (start.year, start.month + 2) if start.month < 12 else (start.year + 1, 2)
    return _month(year, month)[1]


def _near_day(given: dict[str, str], time: Calendar) -> Named:
    step = _NEAR_DAYS.get(given["word"], 0)  # "this morning" and its kind are today
    day = time.today + timedelta(step)
    return Named(((day, day),), only=None if step else "of the past", earlier="earlier" in given)


def ordinal(word: str) -> int:
    """Return 0 for "first" and "1st"."""
    return (ORDINALS[word] if word in ORDINALS else int(re.sub(r"\D", "", word))) - 1


def _weekday(given: dict[str, str], time: Calendar) -> Named:
    """Read a day of the week: the newest one that is not in the future, unless it says "next"."""
    weekday = _WEEKDAYS[given["weekday"]]
    back = (time.today.weekday() - weekday) % 7
    if "before_last" in given:
        back = (back or 7) + 7
    elif "last" in given:
        back = back or 7
    elif "next" in given:
        back = back - 7
    elif "this" in given:
        back = time.today.weekday() - weekday
    day = time.today - timedelta(back)
    if "weeks" in given:
        day -= timedelta(7 * number(given["weeks"]))
    if given.keys() & {"before_last", "next", "weeks"}:
        return Named(((day, day),))
    if "last" in given:
        return Named(((day, day),), otherwise="a week before")
    return Named(((day, day),), None if "this" in given else "week", "of the past")


def _period(given: dict[str, str], time: Calendar) -> Named:
    """Read "last week", "this month", "next year", "the week before last"."""
    step = -2 if "before_last" in given else {"last": -1, "next": 1, "this": 0}[given["which"]]
    span = _whole(given["unit"], step, time.today)
    return Named((span,), only=None if step else "of the past")


def _whole(unit: str, step: int, today: date) -> Days:
    """Return the calendar week, month, quarter or year that is `step` after today's."""
    if unit == "day":
        return (today + timedelta(step),) * 2
    if unit in ("week", "weekend", "fortnight"):
        first = today + timedelta(7 * step - today.weekday())
        return first + timedelta(5 if unit == "weekend" else 0), first + timedelta(6)
    if unit == "year":
        return date(today.year + step, 1, 1), date(today.year + step, 12, 31)
    months = 3 if unit == "quarter" else 1
    count = (today.year * 12 + today.month - 1) // months * months + step * months
    year, month = divmod(count, 12)
    end_year, end_month = divmod(count + months - 1, 12)
    return date(year, month + 1, 1), _month(end_year, end_month + 1)[1]


def _weekend(given: dict[str, str], time: Calendar) -> Named:
    """Read "last weekend": the newest one that is over; "this weekend" is the week's own."""
    first, last = _whole("weekend", {"next": 1}.get(given["which"], 0), time.today)
    if given["which"] in ("last", "previous") and last >= time.today:
        first, last = first - timedelta(7), last - timedelta(7)
    return Named(((first, last),))


def _ago(given: dict[str, str], time: Calendar) -> Named:
    """Read "3 weeks ago": that day, and more days around it for larger units."""
    if "half" in given:
        given |= {"count": "6", "unit": "month"}
    count = number(given["count"])
    day = _shift(time.today, -count, given["unit"])
    around = timedelta(_AROUND.get(given["unit"], 0))
    span = (day - around, min(day + around, time.today))
    return Named((span,), otherwise="around" if given["unit"] == "day" and count > 1 else None)


def _past(given: dict[str, str], time: Calendar) -> Named:
    """Read "the past 3 days", "in the last two weeks": from then to today."""
    count = number(given["count"]) if "count" in given else 1
    return Named(((_shift(time.today, -count, given["unit"]), time.today),))


@dataclass(frozen=True)
class Offset:
    """How far from a day another time is: "two weeks before", "the month after"."""

    count: int | None
    """How many units; None for all of the unit next to the day ("the week after")."""
    unit: str
    after: bool

    def of(self, span: Days) -> Days:
        """Return the days that are so far from a span. Raise OverflowError beyond the calendar."""
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


def given_by(match: re.Match[str]) -> dict[str, str]:
    """Return the groups of a match that took part in it, in lower case."""
    return {name: part.lower() for name, part in match.groupdict().items() if part}


def offset(match: re.Match[str]) -> Offset | None:
    """Return the offset that a match of `OFFSET` stands for; None for none at all."""
    given = given_by(match)
    after = given["way"] in ("after", "later than", "following")
    if "whole" in given:
        unit = "day" if given["whole"] in ("night", "evening", "morning") else given["whole"]
        return Offset(None, unit, after)
    count = number(given["count"])
    return Offset(count, given["unit"], after) if count else None


def number(word: str) -> int:
    """Return the number that digits or a word stand for."""
    return int(word) if word.isdecimal() else _COUNTS[word]


def _shift(day: date, count: int, unit: str) -> date:
    if unit in ("month", "quarter", "year"):
        months = count * {"month": 1, "quarter": 3, "year": 12}[unit]
        year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
        return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))
    return day + timedelta(count * {"week": 7, "fortnight": 14, "weekend": 7}.get(unit, 1))


def _day_of_month(given: dict[str, str], time: Calendar) -> Named | None:
    """Read "on the 5th": the newest one that is not in the future."""
    day = int(given["day"])
    for step in range(0, 3):
        first, last = _whole("month", -step, time.today)
        if 1 <= day <= last.day and first.replace(day=day) <= time.today:
            return Named(((first.replace(day=day),) * 2,))
    return None


_AROUND = {"week": 3, "fortnight": 3, "month": 15, "quarter": 45, "year": 45}
"""Days on either side of a time that is counted in larger units."""
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
_NO_YEAR = r"dollars?|euros?|pounds?|people|times|calories|steps|miles|metres|meters|km|kg|words"
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
_NO_VERB = (  # "may 3 people come", "did I march 5 miles"
    rf"(?:{'|'.join(f'(?<={word} )' for word in _BEFORE_A_DATE)}"
    r"|(?!(?:may|march) \d+ (?!(?:and|to|until|through) )[a-z]))"
)
_ON_WEEKDAY = rf"(?:(?:{one_of(_WEEKDAYS)}),? (?:the )?)?"
_HABIT = rf"(?:(?:,| and| or|/|, and)+ ?(?:on )?(?:{one_of(_WEEKDAYS)}))* {_WHEN}s\b"  # "mornings"
_LAST_WHAT = (
    rf"(?!(?<=before last) (?:{one_of((*_WEEKDAYS, *_MONTHS, *_FEASTS))}|week|month|year)\b)"
)
_WHICH = r"(?:(?P<last>last|past)|(?P<next>next|coming)|(?P<this>this))"
_LEAD = r"(?P<lead>in|during|since|throughout|before|after|until|till|by|from|to|and|between|of)"

ATOMS: tuple[tuple[re.Pattern[str], Reader], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), reader)
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
        (rf"\b{_ON_WEEKDAY}{_NO_VERB}{_MONTH} (?:the )?{_DAY}\b(?:,? {_YEAR})?", _date),
        (rf"\b{_ON_WEEKDAY}{_NO_VERB}{_MONTH} (?:the )?(?P<ordinal>{one_of(ORDINALS)})\b(?:,? {_YEAR})?", _date),
        (rf"\b{_PART}{_MONTH}(?: of|,)? {_YEAR}", _date),
        (rf"\b(?P<feast>{one_of(_FEASTS)})(?: of)? {_YEAR}", _feast),
        (rf"\b(?:{_WHICH}|on|at|over|around|{_LEAD}) (?P<feast>{one_of(_FEASTS)})\b", _feast),
        (rf"\b{_WHICH} {_MONTH}", _date),
        (rf"\b(?P<part>early|mid|late|the (?:beginning|start|middle|end) of)[ -]{_MONTH}", _date),
        (rf"\b(?:(?P<last>last|past)|(?P<next>next)|this|(?:in|during|over)(?: the)?|(?P<lead>since|until|before|after)(?: the)?(?! fall)) (?P<season>{one_of(_SEASONS)})\b(?! (?:break|roll|water|onion|mattress))(?:(?: of)? {_YEAR})?", _season),
        (rf"\b(?P<season>{one_of(_SEASONS)})(?: of)? {_YEAR}\b", _season),
        (rf"\b(?P<earlier>earlier )?(?P<word>{one_of(_NEAR_DAYS)}|this {_WHEN})(?: {_WHEN})?\b{_LAST_WHAT}", _near_day),
        (rf"\b(?P<earlier>earlier )(?P<word>in the {_WHEN})\b", _near_day),
        (rf"\bthe (?P<before_last>{_UNIT} before last)\b{_LAST_WHAT}", _period),
        (rf"\bthe (?P<before_last>{_WEEKDAY} before last)\b", _weekday),
        (rf"\b{_WEEKDAY},? (?P<weeks>\d|a|one|two|three|four) weeks? ago\b", _weekday),
        (r"\b(?:(?P<which>last|previous|this|next) )(?P<unit>weekend)\b", _weekend),
        (r"\b(?P<half>half a year) (?:ago|earlier|back)\b", _ago),
        (rf"\b{COUNT} {_UNIT}s? (?:ago|earlier|back)\b", _ago),
        (rf"\b(?:in|within|during|over|for) the (?:last|past) (?:{COUNT} )?{_UNIT}s?\b(?! of\b)", _past),
        (rf"\b(?:(?:the|these) )?(?:last|past) {COUNT} {_UNIT}s?\b", _past),
        (rf"\bthis (?:last|past) {_UNIT}\b", _past),
        (rf"\b(?P<which>last|this|next) (?!day){_UNIT}\b(?! of\b)", _period),
        (rf"\bthe past {_UNIT}\b", _past),
        (rf"\b(?:{_WHICH}|on|{_LEAD}) {_WEEKDAY}\b(?: {_WHEN}\b)?(?!{_HABIT})", _weekday),
        (rf"\b{_WEEKDAY}(?: {_WHEN}\b|(?=\W*$))", _weekday),
        (rf"\b{_LEAD}(?: the)? {_MONTH}", _date),
        (rf"(?<![$€£#./-])\b{_PART}{_YEAR}\b(?![-/.]\d| (?:{_NO_YEAR})\b)", _date),
        (r"\bon the (?P<day>\d{1,2})(?:st|nd|rd|th)\b", _day_of_month),
    )
)  # fmt: skip
