"""Days and sessions that an English query names: "since May", "two days ago", "our first call".

A query is read in two steps. First, every expression that stands for days by itself is found
(`_ATOMS`), the most specific kind first. Then the words around and between these expressions are
read: "since …", "before …", "between … and …", "from … to …" (`_RANGES`).

A wrong reading is worse than none. So dates whose order is unclear, such as "03/04/2024", are not
read, nor words that may be something else: "may" and "march" as verbs, "to May" as a name, "the
fall", and "today" in a question about the present ("What is my dose today?"). Times that need an
event to be looked up ("a year before I moved") are not read either. Seasons are those of the
northern hemisphere, by whole months.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

Days = tuple[date, date]
"""The first and the last day of a span of time."""
LATER = 7  # days after a span during which people still tell what happened in it

_MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_name) if name}
_MONTHS |= {name.lower(): number for number, name in enumerate(calendar.month_abbr) if name}
_MONTHS["sept"] = 9
_WEEKDAYS = {name.lower(): number for number, name in enumerate(calendar.day_name)}
_NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
).split()
_COUNTS = {word: number for number, word in enumerate(_NUMBERS)}
_COUNTS |= {"a": 1, "an": 1, "couple": 2, "couple of": 2, "a couple": 2, "a couple of": 2}
_COUNTS |= {"few": 3, "a few": 3, "several": 3}
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")  # fmt: skip
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


def _one_of(names: Iterable[str]) -> str:
    return "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))


_MONTH = rf"(?P<month>{_one_of(_MONTHS)})\b\.?"
_OTHER_MONTH = rf"(?:{_one_of(_MONTHS)})\b\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_TO_DAY = r"(?P<to_day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>(?:19|20)\d\d)"
_COUNT = rf"(?P<count>\d{{1,4}}|{_one_of(_COUNTS)})"
_UNIT = r"(?P<unit>day|week|weekend|fortnight|month|quarter|year)"
_WEEKDAY = rf"(?P<weekday>{_one_of(_WEEKDAYS)})"
_PART = r"(?:(?P<part>early|mid|late|the (?:beginning|start|middle|end) of)[ -](?:the )?)?"
_WHEN = r"(?:morning|afternoon|evening|night)"
_TO = r"\s*(?:-|–|—|to|until|till|through)\s*"


@dataclass(frozen=True)
class _Named:
    """What an expression may stand for; several spans where its year is not given."""

    spans: tuple[Days, ...]
    repeats: Literal["week", "year"] | None = None
    """How soon a day of this name comes again, where the expression does not say which one."""
    only: Literal["in ranges", "of the past"] | None = None
    """Where alone it is read: "to May" in a range, "today" in a question about the past."""


@dataclass(frozen=True)
class _Calendar:
    """What dates are counted from, and the years that a date without a year may be of."""

    today: date
    years: tuple[int, ...]


_Reader = Callable[[dict[str, str], _Calendar], "_Named | None"]


def asked_days(query: str, days: Collection[date], today: date | None = None) -> list[Days]:
    """Return the spans of days that a query names, both ends included.

    A span that has no beginning ("before June") starts at `date.min`; one that has no end ("since
    January") ends today.

    Args:
        query: The question, in English.
        days: The days on which the turns were said. A date without a year is of one of their years.
        today: The day on which the question is asked; the newest of `days` if not given.

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
    return _read_days(_plain(query), days, today)[1]


Sessions = tuple[int, int]
"""The first and the last session of a range, both included, counted as a list is indexed."""


def asked_sessions(query: str) -> list[Sessions]:
    """Return the sessions that a query names by their place: 0 is the first, -1 the newest.

    >>> asked_sessions("What did I say on our first call?")
    [(0, 0)]
    >>> asked_sessions("What was decided in the session before last?")
    [(-2, -2)]
    >>> asked_sessions("What did we discuss in the last three sessions?")
    [(-3, -1)]
    """
    return _read_sessions(_plain(query))[1]


def asks_only_when(query: str, days: Collection[date], today: date | None = None) -> bool:
    """Return whether a query names days or sessions, and asks for nothing else.

    >>> asks_only_when("What did we talk about on 22 January?", [date(2024, 2, 1)])
    True
    >>> asks_only_when("What did I cook on 22 January?", [date(2024, 2, 1)])
    False
    """
    text, sessions = _read_sessions(_plain(query))
    text, spans = _read_days(text, days, today)
    words = re.findall(r"\w+", re.sub(_MARK, " ", text).lower())
    return bool(spans or sessions) and _SAYS_NOTHING.issuperset(words)


def nearness(day: date, spans: Collection[Days]) -> float:
    """Return 1 for a day in one of the spans, less in the week after it, else 0.

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
    "told topic topics up us was we went were what which with you your".split()
)
"""Words that do not say what a question is about."""

_NOW = re.compile(
    r"\b(?:is|are|am|should|shall|can|could|will|would|do|does|must|need)\b|'(?:s|m|re|ll) ",
    re.IGNORECASE,
)
"""Words of a question about the present or the future, if none of `_PAST` is in it."""

_PAST = re.compile(
    r"\b(?:did|didn't|was|were|wasn't|weren't|had|said|told|talked|spoke|discussed|mentioned|asked|"
    r"decided|agreed|happened|conversation|session|chat|talk|call|meeting|earlier|already|so far)\b",
    re.IGNORECASE,
)

# The two steps --------------------------------------------------------------------------------

_MARK = r"\x00(\d+)\x00"  # stands in the text for an expression that was read


def _plain(query: str) -> str:
    return " ".join(query.replace("’", "'").split())


def _read_days(text: str, days: Collection[date], today: date | None) -> tuple[str, list[Days]]:
    """Return a text with marks for days and without ranges, and the spans of both."""
    if not days and today is None:
        return text, []
    now = today or max(days)
    time = _Calendar(now, tuple(sorted({day.year for day in days} or {now.year})))
    text, named = _read_atoms(text, time)
    text, spans = _read_ranges(text, named, time)
    is_of_now = bool(_NOW.search(text)) and not _PAST.search(text)
    for place in re.finditer(_MARK, text):
        meant = named[int(place[1])]
        if meant.only is None or (meant.only == "of the past" and not is_of_now):
            spans += meant.spans
    return text, sorted(set(spans), key=spans.index)


def _read_sessions(text: str) -> tuple[str, list[Sessions]]:
    """Return a text without the sessions that it names, and these."""
    sessions: list[Sessions] = []
    for pattern, reader in _SESSIONS:
        for match in pattern.finditer(text):
            span = reader({name: part.lower() for name, part in match.groupdict().items() if part})
            if span is not None:
                sessions.append(span)
        text = pattern.sub(" ", text)
    return text, sessions


def _read_atoms(text: str, time: _Calendar) -> tuple[str, list[_Named]]:
    """Replace the expressions in a text by marks; return the text and what they stand for."""
    named: list[_Named] = []
    text = text.replace("\x00", " ")
    for pattern, reader in _ATOMS:

        def mark(match: re.Match[str], reader: _Reader = reader) -> str:
            given = {name: part.lower() for name, part in match.groupdict().items() if part}
            try:
                meaning = reader(given, time)
            except (ValueError, OverflowError):  # 31 February, or a day beyond the calendar
                meaning = None
            if meaning is None:
                return match[0]
            named.append(meaning)
            lead = given.get("lead", "")
            return f"{lead} \x00{len(named) - 1}\x00" if lead else f"\x00{len(named) - 1}\x00"

        text = pattern.sub(mark, text)
    return text, named


def _read_ranges(text: str, named: list[_Named], time: _Calendar) -> tuple[str, list[Days]]:
    """Remove ranges from a text with marks; return the rest of it, and the ranges' spans."""
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


def _range(kind: _Range, ends: list[_Named], time: _Calendar) -> Days | None:
    """Return the span of days of a range; None where it is empty or leaves the calendar."""
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


def _latest(named: _Named, time: _Calendar) -> Days:
    """Return the one span that a range needs: the newest that does not begin in the future."""
    past = [span for span in named.spans if span[0] <= time.today]
    return (past or list(named.spans))[-1]


def _at_most(day: date, last: date, repeats: Literal["week", "year"] | None) -> date:
    """Return the newest day of that name which is not after `last` ("from November to February")."""
    if repeats == "week":
        return last - timedelta((last - day).days % 7)
    if repeats == "year":
        same = day.replace(year=last.year, day=min(day.day, 28) if day.month == 2 else day.day)
        return same if same <= last else same.replace(year=last.year - 1)
    return day


_RANGE_WORDS: tuple[tuple[str, _Range], ...] = (
    (rf"\b(?:between|from) (?:the )?{_MARK} (?:and|to|until|till|through|up to) (?:the )?{_MARK}", "between"),
    (rf"{_MARK}{_TO}{_MARK}", "between"),
    (rf"\b(?:since|ever since|starting(?: from| in| on)?) (?:the )?{_MARK}(?: on(?:wards?)?)?", "since"),
    (rf"\bfrom (?:the )?{_MARK} on(?:wards?)?\b", "since"),
    (rf"\b(?:before|prior to|earlier than) (?:the )?{_MARK}", "before"),
    (rf"\b(?:after|later than) (?:the )?{_MARK}", "after"),
    (rf"\b(?:until|till|up to|by) (?:the )?{_MARK}", "until"),
)  # fmt: skip
_RANGES = [(re.compile(pattern, re.IGNORECASE), kind) for pattern, kind in _RANGE_WORDS]


# The expressions ------------------------------------------------------------------------------


def _iso_week(given: dict[str, str], _: _Calendar) -> _Named:
    first = date.fromisocalendar(int(given["year"]), int(given["week"]), 1)
    return _Named(((first, first + timedelta(6)),))


def _date(given: dict[str, str], time: _Calendar) -> _Named | None:
    """Read a date whose year, month or day may be missing."""
    part = given.get("part", "")
    month = given.get("month")
    number = _MONTHS[month] if month else int(given.get("number") or 0)
    if "ordinal" in given:
        given["day"] = str(_ordinal(given["ordinal"]) + 1)
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
    return _Named(tuple(spans), repeats, "in ranges" if is_name else None)


def _years_of(given: dict[str, str], month: int, time: _Calendar) -> tuple[int]:
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


def _slashed(given: dict[str, str], _: _Calendar) -> _Named | None:
    """Read "25/12/2024" or "12/25/2024": only where one of the two cannot be a month."""
    one, other, year = int(given["one"]), int(given["other"]), int(given["year"])
    if (one > 12) == (other > 12):
        return None
    day, month = (one, other) if one > 12 else (other, one)
    span = _days(year, month, day, day)
    return _Named((span,)) if span else None


def _feast(given: dict[str, str], time: _Calendar) -> _Named:
    month, day = _FEASTS[given["feast"]]
    years = (int(given["year"]),) if "year" in given else time.years
    if "last" in given:
        years = (time.today.year - (date(time.today.year, month, day) >= time.today),)
    return _Named(
        tuple((date(year, month, day), date(year, month, day)) for year in years),
        None if "year" in given else "year",
    )


def _season(given: dict[str, str], time: _Calendar) -> _Named:
    month = _SEASONS[given["season"]]
    if "year" in given:
        starts = [date(int(given["year"]), month, 1)]
    elif "next" in given:
        starts = [date(time.today.year + (date(time.today.year, month, 1) <= time.today), month, 1)]
    else:  # the newest that has begun; "last" is one that is over
        past = [date(year, month, 1) for year in range(time.today.year - 2, time.today.year + 1)]
        over = "last" in given
        starts = [day for day in past if (_season_end(day) if over else day) < time.today][-1:]
    return _Named(tuple((start, _season_end(start)) for start in starts))


def _season_end(start: date) -> date:
    year, month = (start.year, start.month + 2) if start.month < 12 else (start.year + 1, 2)
    return _month(year, month)[1]


def _near_day(given: dict[str, str], time: _Calendar) -> _Named:
    offset = _NEAR_DAYS.get(given["word"], 0)  # "this morning" and its kind are today
    day = time.today + timedelta(offset)
    return _Named(((day, day),), only=None if offset else "of the past")


def _weekday(given: dict[str, str], time: _Calendar) -> _Named:
    """Read a day of the week: the newest one that is not in the future, unless it says "next"."""
    wanted = _WEEKDAYS[given["weekday"]]
    back = (time.today.weekday() - wanted) % 7
    if "before_last" in given:
        back = (back or 7) + 7
    elif "last" in given:
        back = back or 7
    elif "next" in given:
        back = back - 7
    elif "this" in given:
        back = time.today.weekday() - wanted
    day = time.today - timedelta(back)
    if "weeks" in given:
        day -= timedelta(7 * _number(given["weeks"]))
    if given.keys() & {"before_last", "last", "next", "weeks"}:
        return _Named(((day, day),))
    return _Named(((day, day),), None if "this" in given else "week", "of the past")


def _period(given: dict[str, str], time: _Calendar) -> _Named:
    """Read "last week", "this month", "next year", "the week before last"."""
    step = -2 if "before_last" in given else {"last": -1, "next": 1, "this": 0}[given["which"]]
    span = _whole(given["unit"], step, time.today)
    return _Named((span,), only=None if step else "of the past")


def _whole(unit: str, step: int, today: date) -> Days:
    """Return the calendar week, month, quarter or year that is `step` behind today's."""
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


def _weekend(given: dict[str, str], time: _Calendar) -> _Named:
    """Read "last weekend": the newest one that is over; "this weekend" is the week's own."""
    first, last = _whole("weekend", {"next": 1}.get(given["which"], 0), time.today)
    if given["which"] in ("last", "previous") and last >= time.today:
        first, last = first - timedelta(7), last - timedelta(7)
    return _Named(((first, last),))


def _ago(given: dict[str, str], time: _Calendar) -> _Named:
    """Read "3 weeks ago": that day, and as much around it as the unit is vague."""
    if "half" in given:
        given |= {"count": "6", "unit": "month"}
    count = _number(given["count"])
    day = _shift(time.today, -count, given["unit"])
    around = timedelta(
        {"week": 3, "fortnight": 3, "month": 15, "quarter": 45, "year": 45}.get(given["unit"], 0)
    )
    return _Named(((day - around, min(day + around, time.today)),))


def _past(given: dict[str, str], time: _Calendar) -> _Named:
    """Read "the past 3 days", "in the last two weeks": from then to today."""
    count = _number(given["count"]) if "count" in given else 1
    return _Named(((_shift(time.today, -count, given["unit"]), time.today),))


def _number(word: str) -> int:
    return int(word) if word.isdecimal() else _COUNTS[word]


def _shift(day: date, count: int, unit: str) -> date:
    if unit in ("month", "quarter", "year"):
        months = count * {"month": 1, "quarter": 3, "year": 12}[unit]
        year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
        return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))
    return day + timedelta(count * {"week": 7, "fortnight": 14, "weekend": 7}.get(unit, 1))


def _day_of_month(given: dict[str, str], time: _Calendar) -> _Named | None:
    """Read "on the 5th": the newest one that is not in the future."""
    day = int(given["day"])
    for step in range(0, 3):
        first, last = _whole("month", -step, time.today)
        if 1 <= day <= last.day and first.replace(day=day) <= time.today:
            return _Named(((first.replace(day=day),) * 2,))
    return None


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
_ON_WEEKDAY = rf"(?:(?:{_one_of(_WEEKDAYS)}),? (?:the )?)?"
_WHICH = r"(?:(?P<last>last|past)|(?P<next>next|coming)|(?P<this>this))"
_LEAD = r"(?P<lead>in|during|since|throughout|before|after|until|till|by|from|to|and|between|of)"

_ATOMS: tuple[tuple[re.Pattern[str], _Reader], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), reader)
    for pattern, reader in (
        (rf"\b{_YEAR}-?W(?P<week>\d\d)\b", _iso_week),
        (rf"\b{_YEAR}(?P<mark>[-/])(?P<number>\d\d?)(?P=mark){_DAY}(?:[T ]\d\d:?\d\d(?::?\d\d)?(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)?)?(?!\d)", _date),
        (rf"\b{_DAY}\.\s?(?P<number>\d\d?)\.\s?{_YEAR}\b", _date),
        (rf"\b(?P<one>\d\d?)/(?P<other>\d\d?)/{_YEAR}\b", _slashed),
        (rf"\b{_YEAR}-(?P<number>0[1-9]|1[0-2])(?![-\d])", _date),
        (rf"(?<![/\d])(?P<number>\d\d?)/{_YEAR}\b", _date),
        (rf"\b(?:between|from) (?:the )?{_DAY} (?:and|to|until|till|through) (?:the )?{_TO_DAY}(?: of)? {_MONTH}(?:,? {_YEAR})?", _date),
        (rf"\b{_DAY}{_TO}{_TO_DAY}(?: of)? {_MONTH}(?:,? {_YEAR})?", _date),
        (rf"\b(?:between|from) {_MONTH} {_DAY} (?:and|to|until|till|through) (?:the )?{_TO_DAY}\b(?! {_OTHER_MONTH})(?:,? {_YEAR})?", _date),
        (rf"\b{_MONTH} {_DAY}{_TO}{_TO_DAY}\b(?:,? {_YEAR})?", _date),
        (rf"\b{_ON_WEEKDAY}{_DAY}(?: of)? {_MONTH}(?:,? {_YEAR})?", _date),
        (rf"\b{_ON_WEEKDAY}the (?P<ordinal>{_one_of(_ORDINALS)}) of {_MONTH}(?:,? {_YEAR})?", _date),
        (rf"\b{_ON_WEEKDAY}{_NO_VERB}{_MONTH} (?:the )?{_DAY}\b(?:,? {_YEAR})?", _date),
        (rf"\b{_PART}{_MONTH}(?: of|,)? {_YEAR}", _date),
        (rf"\b(?P<feast>{_one_of(_FEASTS)})(?: of)? {_YEAR}", _feast),
        (rf"\b(?:{_WHICH}|on|at|over|around|{_LEAD}) (?P<feast>{_one_of(_FEASTS)})\b", _feast),
        (rf"\b{_WHICH} {_MONTH}", _date),
        (rf"\b(?P<part>early|mid|late|the (?:beginning|start|middle|end) of)[ -]{_MONTH}", _date),
        (rf"\b(?:(?P<last>last|past)|(?P<next>next)|this|(?:in|during|over)(?: the)?|(?P<lead>since|until|before|after)(?: the)?(?! fall)) (?P<season>{_one_of(_SEASONS)})\b(?! (?:roll|water|onion|mattress))(?:(?: of)? {_YEAR})?", _season),
        (rf"\b(?P<season>{_one_of(_SEASONS)})(?: of)? {_YEAR}\b", _season),
        (rf"\b(?P<word>{_one_of(_NEAR_DAYS)}|this {_WHEN})(?: {_WHEN})?\b", _near_day),
        (rf"\bthe (?P<before_last>{_UNIT} before last)\b", _period),
        (rf"\bthe (?P<before_last>{_WEEKDAY} before last)\b", _weekday),
        (rf"\b{_WEEKDAY},? (?P<weeks>\d|a|one|two|three|four) weeks? ago\b", _weekday),
        (r"\b(?:(?P<which>last|previous|this|next) )(?P<unit>weekend)\b", _weekend),
        (r"\b(?P<half>half a year) (?:ago|earlier|back)\b", _ago),
        (rf"\b{_COUNT} {_UNIT}s? (?:ago|earlier|back)\b", _ago),
        (rf"\b(?:in|within|during|over|for) the (?:last|past) (?:{_COUNT} )?{_UNIT}s?\b", _past),
        (rf"\b(?:(?:the|these) )?(?:last|past) {_COUNT} {_UNIT}s?\b", _past),
        (rf"\b(?P<which>last|this|next) {_UNIT}\b", _period),
        (rf"\bthe past {_UNIT}\b", _past),
        (rf"\b(?:{_WHICH}|on|{_LEAD}) {_WEEKDAY}\b(?: {_WHEN}\b)?(?! {_WHEN}s)", _weekday),
        (rf"\b{_WEEKDAY}(?: {_WHEN}\b|(?=\W*$))", _weekday),
        (rf"\b{_LEAD}(?: the)? {_MONTH}", _date),
        (rf"(?<![$€£#./-])\b{_PART}{_YEAR}\b(?![-/.]\d| (?:{_NO_YEAR})\b)", _date),
        (r"\bon the (?P<day>\d{1,2})(?:st|nd|rd|th)\b", _day_of_month),
    )
)  # fmt: skip


# Sessions -------------------------------------------------------------------------------------


def _ordinal(word: str) -> int:
    """Return 0 for "first" and "1st"."""
    return _ORDINALS.index(word) if word in _ORDINALS else int(re.sub(r"\D", "", word)) - 1


def _session_range(given: dict[str, str]) -> Sessions | None:
    first, last = _ordinal(given["first"]), _ordinal(given["to"])
    return (first, last) if 0 <= first <= last else None


def _one_session(given: dict[str, str]) -> Sessions | None:
    place = _ordinal(given["first"])
    return (place, place) if place >= 0 else None


def _sessions_ago(given: dict[str, str]) -> Sessions | None:
    count = _number(given["count"])
    return (-count, -count) if count else None


def _many_sessions(given: dict[str, str]) -> Sessions | None:
    count = _number(given["count"])
    if not count:
        return None
    return (0, count - 1) if given["which"] == "first" else (-count, -1)


_MEETING = r"(?:phone |video |voice )?(?:call|session|conversation|chat|meeting|talk|discussion)"
_ORDINAL = rf"{_one_of(_ORDINALS)}|\d{{1,4}}(?:st|nd|rd|th)"
_SESSION_WORDS: tuple[tuple[str, Callable[[dict[str, str]], Sessions | None]], ...] = (
    (rf"\bsessions? (?P<first>\d{{1,4}})(?:{_TO}| and )(?:session )?(?P<to>\d{{1,4}})\b", _session_range),
    (rf"\b(?P<first>{_ORDINAL})(?: {_MEETING})?(?:{_TO}| and )(?:the |our )?(?P<to>{_ORDINAL}) {_MEETING}s?\b", _session_range),
    (rf"\b(?:(?:the )?{_MEETING} before last|(?:second|next)[ -]to[ -]last {_MEETING}|penultimate {_MEETING})\b", lambda _: (-2, -2)),
    (rf"\b{_COUNT} {_MEETING}s? (?:ago|back)\b", _sessions_ago),
    (rf"\b(?P<which>first|last|past|latest|previous|most recent) {_COUNT} {_MEETING}s\b", _many_sessions),
    (r"\bsession (?:number |no\.? ?|# ?)?(?P<first>\d{1,4})\b", _one_session),
    (rf"\b(?:our|the|my|your|this|in|during)(?: very)? (?P<first>{_ORDINAL}) {_MEETING}\b", _one_session),
    (rf"\b(?:our|the|my|your|in|during|from)(?: very)? (?:last|latest|previous|most recent) {_MEETING}\b", lambda _: (-1, -1)),
    (r"\b(?:the )?(?:last|previous) time (?:we|I|you) (?:talked|spoke|chatted|met|called)\b", lambda _: (-1, -1)),
    (r"\b(?:talk|speak|say|tell|discuss|mention)\w*(?: \w+){0,3} last time\b", lambda _: (-1, -1)),
)  # fmt: skip
_SESSIONS = [(re.compile(pattern, re.IGNORECASE), reader) for pattern, reader in _SESSION_WORDS]
