"""Passages: dividing a text that is longer than an encoder reads at once."""

from __future__ import annotations

WEIGHT = 0.9
"""The length of a passage's embedding. One of many passages is close to a query by chance more often
than a short turn is: with 1, long turns crowd out others (docs/measurements/benchmarks.md, chosen on BEAM)."""


def divide(count: int, first: int, size: int, overlap: int) -> list[range]:
    """Return which tokens belong to each passage after the first `first` ones.

    Each passage begins `overlap` tokens before the end of the previous one, so that text at a
    border is whole in one of them. The last one ends with the text and is as long as the others.

    Args:
        count: Tokens of the text.
        first: Tokens that are read as its beginning.
        size: Tokens of a passage.
        overlap: How many of these also belong to the previous passage; fewer than `size`.

    >>> divide(10, 4, 4, 1)
    [range(3, 7), range(6, 10)]
    >>> divide(8, 4, 4, 1), divide(4, 4, 4, 1)
    ([range(3, 7), range(4, 8)], [])
    """
    passages = []
    end = first
    while end < count:
        end = min(end - overlap + size, count)
        passages.append(range(end - size, end))
    return passages
