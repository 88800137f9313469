"""Passages: dividing a text that is longer than an encoder reads at once."""

from __future__ import annotations

WEIGHT = 0.9
"""The length of a passage's embedding. A long turn has many passages, one of which is more likely to be
close to a query by chance than a short turn: with length 1, long turns crowd out others
(docs/measurements/benchmarks.md, chosen on BEAM)."""


def divide(count: int, first: int, size: int, overlap: int) -> list[range]:
    """Return the token ranges of the passages that follow the first `first` tokens.

    Each passage begins `overlap` tokens before the end of the previous one, so that text at a
    border is complete in one of them. The last passage ends with the text and has `size` tokens, too.

    Args:
        count: Tokens of the text.
        first: Tokens covered by the turn's own embedding.
        size: Tokens of a passage.
        overlap: Tokens shared with the previous passage; fewer than `size`.

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
