"""Rows of several memories, concatenated in one forward pass without padding.

Operations on single positions (projections, norms, MLPs: nearly all of the work) process one long row.
Only attention and linear attention mix positions and need the ends of rows: they process rows that are
padded to equal length, or use flash-attn's format for packed rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor

PASS_TOKENS = 8192
"""Maximum new positions of one pass: enough to fill a large GPU. It does not affect the results."""
PASS_POSITIONS = 32768
"""Maximum positions of one pass, including cached ones and padding in attention; it limits the memory used."""


class Packing:
    """The layout of one pass: B rows of T new positions each, and of S positions with the past."""

    def __init__(self, new: Sequence[int], past: Sequence[int], device: torch.device) -> None:
        """Lay out rows of `new` positions after `past` ones; computed on the CPU."""
        self.new, self.past = list(new), list(past)
        self.device = device
        place, real, self.aside, self.back = _side_by_side(self.new, device)
        self.real = real.to(device)
        """(B, T) False in the padding."""
        self.positions = (torch.tensor(self.past)[:, None] + place)[real].to(device)
        """(sum of T,) the index of each new position in its row."""

    @cached_property
    def totals(self) -> list[int]:
        """S of each row."""
        return [past + new for past, new in zip(self.past, self.new, strict=True)]

    @cached_property
    def keys_aside(self) -> Tensor:
        """(B, S) the index of each key among the packed keys."""
        return _side_by_side(self.totals, self.device)[2]

    @cached_property
    def mask(self) -> Tensor:
        """(B, 1, T, S) whether a new position sees a key: it sees its past and itself.

        Padding comes after all positions of a row, so none of them sees it.
        """
        own = torch.tensor(self.past)[:, None] + torch.arange(max(self.new))
        return (torch.arange(max(self.totals)) <= own[:, None, :, None]).to(self.device)

    def side_by_side(self, x: Tensor) -> Tensor:
        """Return packed values (1, sum of T, ...) as (B, T, ...); the padding is undefined."""
        return x[0][self.aside]

    def packed(self, x: Tensor) -> Tensor:
        """Return values (B, T, ...) as packed ones: the inverse of `side_by_side`."""
        return x.flatten(0, 1)[self.back][None]

    def ends(self, lengths: Sequence[int]) -> Tensor:
        """Return the cumulative lengths of rows, (B + 1,) int32, as flash-attn expects them."""
        return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=self.device)


def _side_by_side(
    lengths: Sequence[int], device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return places (T,), which are real (B, T), and the way there (B, T) and back (sum of T,)."""
    count = torch.tensor(lengths)[:, None]
    place = torch.arange(max(lengths))
    real = place < count
    positions = torch.where(real, count.cumsum(0) - count + place, 0)
    return place, real, positions.to(device), real.flatten().nonzero()[:, 0].to(device)


def passes(new: Sequence[int], past: Sequence[int]) -> Iterator[list[int]]:
    """Divide rows into passes, by length. A pass stays below its limits unless it has a single row.

    >>> list(passes([7, 5000, 4000, 3], [0, 0, 0, 512]))
    [[3, 0, 2], [1]]
    """
    rows: list[int] = []
    tokens = longest = 0
    for row in sorted(range(len(new)), key=lambda row: (new[row], past[row])):
        longest = max(longest, new[row] + past[row])
        full = tokens + new[row] > PASS_TOKENS or longest * (len(rows) + 1) > PASS_POSITIONS
        if rows and full:
            yield rows
            rows, tokens, longest = [], 0, new[row] + past[row]
        rows.append(row)
        tokens += new[row]
    if rows:
        yield rows
