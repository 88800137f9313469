"""The forms in which a text writes a day: "April 6", "6 April 2024", "2024-04-06"."""

from __future__ import annotations

import calendar
import re
from collections.abc import Collection
from datetime import date

MOST = 60  # days in one pattern; a date without a year stands for each year of the conversation


def mention_of(days: Collection[date]) -> re.Pattern[str] | None:
    """Return a pattern that matches texts with one of these days; None for no days.

    The text may omit the year, but a different year does not match.

    >>> pattern = mention_of([date(2024, 4, 6)])
    >>> texts = ("by April 6", "the 6th of April, 2024", "on 2024-04-06", "April 6, 2023", "April 60")
    >>> [bool(pattern.search(text)) for text in texts]
    [True, True, True, False, False]
    """
    if not days:
        return None
    years: dict[tuple[int, int], set[int]] = {}
    for day in sorted(days)[-MOST:]:
        years.setdefault((day.month, day.day), set()).add(day.year)
    return re.compile("|".join(_day(*day, of) for day, of in years.items()), re.IGNORECASE)


def _day(month: int, day: int, years: Collection[int]) -> str:
    year = "|".join(f"{number:04}" for number in sorted(years))
    name = f"(?:{calendar.month_name[month]}|{calendar.month_abbr[month]}\\.?)"
    number = rf"{day}(?:st|nd|rd|th)?"
    no_other = rf"(?!,? (?!(?:{year})\b)\d{{4}}\b)"
    return (
        rf"\b{name} (?:the )?{number}\b{no_other}|\b{number} (?:of )?{name}\b{no_other}"
        rf"|\b(?:{year})-{month:02}-{day:02}\b|\b0?{day}\.\s?0?{month}\.(?:\s?(?:{year})\b|(?!\s?\d))"
    )
