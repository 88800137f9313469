"""Segment batching: texts of many histories, packed by length, go through one forward pass."""

from __future__ import annotations

from collections.abc import Sequence


def packs(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Group rows of similar length, to reduce padding.

    Args:
        lengths: The length of each row.
        budget: Maximum positions of a group: the number of its rows times its longest. A longer row
            forms its own group; so does every row if the budget is 1.

    Returns:
        Groups of indices of rows, the shortest rows first.

    >>> packs([3, 9, 4, 3], budget=12)
    [[0, 3, 2], [1]]
    """
    groups: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row]):
        if groups and (len(groups[-1]) + 1) * lengths[row] <= budget:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups
