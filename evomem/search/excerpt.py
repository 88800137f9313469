"""`excerpt`: the longest part of a text that fits a limit, chosen by the words of a query."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

CUT = "[…]"
"""Marks an omission."""

_UNITS = (
    re.compile(r"\S.*?(?:[.!?…]+(?=\s|$)|[。！？]|$)", re.MULTILINE),  # sentences
    re.compile(r"\S+"),
    re.compile(r"\S"),
)


def excerpt(
    text: str, query: str, fits: Callable[[str], bool], labels: Sequence[int] = (0,)
) -> str | None:
    """Return the longest part of a text that fits, around the words that it shares with the query.

    A word counts for less the more often the text repeats it. Whole sentences if one fits, else
    words, else characters. Omissions are marked (`CUT`).

    Args:
        text: The text.
        query: The question that the part should be about.
        fits: Whether a part, with its marks, is short enough.
        labels: The positions of speakers' names with a colon in the text, ascending: the part
            begins with the name of its speaker.

    Returns:
        The part, or None if not even one character fits.

    >>> text = "User: Hello there. My cat is Miso. She is two. Bye."
    >>> excerpt(text, "Which cat?", lambda part: len(part) < 40)
    'User: […] My cat is Miso. […]'
    """
    names = [(place, text.find(": ", place) + 2) for place in labels]

    def part(spans: Sequence[tuple[int, int]], best: int, size: int) -> str:
        first = max(0, min(best - (size - 1) // 4, len(spans) - size))
        start, end = spans[first][0], spans[first + size - 1][1]
        label, content = max((name for name in names if name[0] <= start), default=names[0])
        lead = f"{CUT} " if start > content else ""
        tail = f" {CUT}" if text[end:].strip() else ""
        return f"{text[label:content]}{lead}{text[start:end]}{tail}"

    counts = Counter(_words(text))
    weights = {word: 1 / counts[word] for word in _words(query) if word in counts}
    begin, end = 0, len(text)
    for pattern in _UNITS:
        spans = [match.span() for match in pattern.finditer(text, begin, end)]
        for first, last in names:  # a speaker's name is not part of the sentence
            spans = [(last if first <= start < last else start, stop) for start, stop in spans]
        spans = [span for span in spans if span[0] < span[1]]
        if not spans:
            return None
        scores = [sum(weights.get(w, 0.0) for w in set(_words(text[a:b]))) for a, b in spans]
        best = scores.index(max(scores))
        low, high = (
            0,
            len(spans),
        )  # binary search for the greatest size that fits; `low` fits, or is 0
        while low < high:
            size = (low + high + 1) // 2
            low, high = (size, high) if fits(part(spans, best, size)) else (low, size - 1)
        if low:
            return part(spans, best, low)
        begin, end = spans[best]
    return None


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
