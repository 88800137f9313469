"""Rows of different memories in one forward pass, one after another, without padding.

Everything that works on single positions (projections, norms, MLPs: nearly all of the work) sees one
long row. Only what mixes positions must know where a row ends: attention and linear attention, which
get the rows laid out side by side, or flash-attn's own form of this.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor

PASS_TOKENS = 8192
"""New positions of one pass. Enough to fill a large card; numerically free."""
PASS_POSITIONS = 32768
"""Positions of one pass, cached ones and padding in attention included: they take memory."""


class Packing:
    """Where the rows of one pass lie: B rows of T new positions each, S with what came before."""

    def __init__(self, new: Sequence[int], past: Sequence[int], device: torch.device) -> None:
        """Lay out rows of `new` positions after `past` ones; worked out on the CPU."""
        self.new, self.past = list(new), list(past)
        self.device = device
        place, real, self.aside, self.back = _side_by_side(self.new, device)
        self.real = real.to(device)
        """(B, T) False in the padding."""
        self.positions = (torch.tensor(self.past)[:, None] + place)[real].to(device)
        """(sum of T,) the place of each new position in its own row."""

    @cached_property
    def totals(self) -> list[int]:
        """S of each row."""
        return [past + new for past, new in zip(self.past, self.new, strict=True)]

    @cached_property
    def keys_aside(self) -> Tensor:
        """(B, S) where packed keys go when rows lie side by side."""
        return _side_by_side(self.totals, self.device)[2]

    @cached_property
    def mask(self) -> Tensor:
        """(B, 1, T, S) whether a new position sees a key: its past and itself.

        Positions after a row's end are later than all of its own.
        """
        own = torch.tensor(self.past)[:, None] + torch.arange(max(self.new))
        return (torch.arange(max(self.totals)) <= own[:, None, :, None]).to(self.device)

    def side_by_side(self, x: Tensor) -> Tensor:
        """Lay packed values (1, sum of T, ...) out as (B, T, ...); the padding is undefined."""
        return x[0][self.aside]

    def packed(self, x: Tensor) -> Tensor:
        """Undo `side_by_side`."""
        return x.flatten(0, 1)[self.back][None]

    def ends(self, lengths: Sequence[int]) -> Tensor:
        """Return where rows begin and end, (B + 1,) int32, as flash-attn takes it."""
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
    """Share rows out to passes, by length: no more than one pass may hold, one row at least.

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
