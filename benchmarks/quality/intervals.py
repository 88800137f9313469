"""How far a mean can be trusted: bootstrap intervals, for one system and for two on equal questions.

Questions about one conversation share its turns and so their errors: whole conversations are drawn,
with replacement. Fewer than `FEWEST` conversations say too little about others; then questions are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

DRAWS = 2000
SEED = 0
FEWEST = 10
"""Conversations, at least, for an interval over conversations."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and where the middle 95 % of its resampled values lie."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return percent: "63.6 [60.1, 66.9]"."""
        return f"{100 * self.mean:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference is more than chance at this level."""
        return self.low > 0 or self.high < 0


class Resampling:
    """Draws of a fixed list of questions: the same for every system, so differences are paired."""

    def __init__(self, conversations: Sequence[str], types: Sequence[str]) -> None:
        """`conversations`, `types`: of every question, in the order in which values will come."""
        self.unit = "conversations" if len(set(conversations)) >= FEWEST else "questions"
        units = (
            np.unique(np.asarray(conversations), return_inverse=True)[1]
            if self.unit == "conversations"
            else np.arange(len(types))
        )
        kinds = np.unique(np.asarray(types), return_inverse=True)[1]
        self._cell = units, kinds
        self._shape = units.max() + 1, kinds.max() + 1
        rng = np.random.default_rng(SEED)
        count = self._shape[0]
        self._draws = rng.multinomial(count, np.full(count, 1 / count), DRAWS).astype(np.float64)

    def interval(self, values: Sequence[float], *, macro: bool = False) -> Interval:
        """Return the mean of `values`, or of the means of every question type, with its interval."""
        sums, counts = np.zeros(self._shape), np.zeros(self._shape)  # (unit, type)
        np.add.at(sums, self._cell, np.asarray(values, np.float64))
        np.add.at(counts, self._cell, 1.0)
        average = _macro if macro else _micro
        drawn = average(self._draws @ sums, self._draws @ counts)
        low, high = np.quantile(drawn, (0.025, 0.975))
        mean = average(sums.sum(0, keepdims=True), counts.sum(0, keepdims=True))[0]
        return Interval(float(mean), float(low), float(high))

    def difference(
        self, values: Sequence[float], others: Sequence[float], *, macro: bool = False
    ) -> Interval:
        """Return how much higher `values` are than `others`, question by question."""
        return self.interval((np.asarray(values) - np.asarray(others)).tolist(), macro=macro)


def _micro(sums: Array, counts: Array) -> Array:
    result: Array = sums.sum(1) / counts.sum(1)
    return result


def _macro(sums: Array, counts: Array) -> Array:
    """Return the mean over the types that a draw holds."""
    present = counts > 0
    means = np.divide(sums, counts, out=np.zeros_like(sums), where=present)
    result: Array = means.sum(1) / present.sum(1)
    return result
