"""`excerpt`: the part of a text that says most about a query, as long as it may be."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

CUT = "[…]"
"""Stands where something was left out."""

_UNITS = (
    re.compile(r"\S.*?(?:[.!?…]+(?=\s|$)|[。！？]|$)", re.MULTILINE),  # sentences
    re.compile(r"\S+"),
    re.compile(r"\S"),
)


def excerpt(
    text: str, query: str, fits: Callable[[str], bool], labels: Sequence[int] = (0,)
) -> str | None:
    """Return the longest part of a text that fits, around what shares most words with the query.

    Whole sentences if one fits, else words, else characters. What is left out is marked (`CUT`).

    Args:
        text: The text.
        query: What the part should say something about.
        fits: Whether a part, with its marks, is short enough.
        labels: Where in the text a speaker's name with a colon stands, ascending: the part begins
            with the name of its speaker.

    Returns:
        The part, or None if not even one character fits.

    >>> text = "User: Hello there. My cat is Miso. She is two. Bye."
    >>> excerpt(text, "Which cat?", lambda part: len(part) < 40)
    'User: […] My cat is Miso. […]'
    """

    def part(spans: Sequence[tuple[int, int]], best: int, size: int) -> str:
        first = max(0, min(best - (size - 1) // 4, len(spans) - size))
        start, end = spans[first][0], spans[first + size - 1][1]
        label = max((place for place in labels if place <= start), default=0)
        name = text[label : text.find(": ", label) + 2]
        lead = "" if start <= label + len(name) else f"{CUT} "
        start = max(start, label + len(name))
        tail = f" {CUT}" if text[end:].strip() else ""
        return f"{name}{lead}{text[start:end]}{tail}"

    wanted = set(_words(query))
    begin, end = 0, len(text)
    for pattern in _UNITS:
        spans = [match.span() for match in pattern.finditer(text, begin, end)]
        if not spans:
            return None
        best = _best([set(_words(text[slice(*span)])) & wanted for span in spans])
        low, high = 0, len(spans)  # the greatest size that fits: `low` does, or is 0
        while low < high:
            size = (low + high + 1) // 2
            low, high = (size, high) if fits(part(spans, best, size)) else (low, size - 1)
        if low:
            return part(spans, best, low)
        begin, end = spans[best]
    return None


def _best(shared: Sequence[set[str]]) -> int:
    """Return the place of the unit that shares most with a query; a rare word counts for more."""
    counts = Counter(word for words in shared for word in words)
    scores = [sum(1 / counts[word] for word in words) for words in shared]
    return scores.index(max(scores))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
