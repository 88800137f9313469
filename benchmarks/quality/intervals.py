"""Bootstrap intervals of means, and of paired differences between two systems on the same questions.

Questions about one conversation share its turns and therefore have correlated errors, so conversations
are resampled with replacement. With fewer than `FEWEST` conversations, questions are resampled instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES = 2000
SEED = 0
FEWEST = 10
"""The minimum number of conversations for resampling conversations."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean, and the bounds of the middle 95 % of its resampled values."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return the interval in percent: "63.6 [60.1, 66.9]"."""
        return f"{100 * self.mean:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference is significant at this level."""
        return self.low > 0 or self.high < 0


class Resampling:
    """Resamples of a fixed list of questions, the same for every system, so that differences are paired."""

    def __init__(self, conversations: Sequence[str], types: Sequence[str]) -> None:
        """Draw the resamples; `conversations` and `types` are those of each question, in order."""
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
        self._draws = rng.multinomial(count, np.full(count, 1 / count), RESAMPLES).astype(
            np.float64
        )

    def interval(self, values: Sequence[float], *, macro: bool = False) -> Interval:
        """Return the mean of `values`, or the mean over question types if `macro`, with its interval."""
        sums, counts = np.zeros(self._shape), np.zeros(self._shape)  # (unit, type)
        np.add.at(sums, self._cell, np.asarray(values, np.float64))
        np.add.at(counts, self._cell, 1.0)
        average = _macro if macro else _micro
        means = average(self._draws @ sums, self._draws @ counts)
        low, high = np.quantile(means, (0.025, 0.975))
        mean = average(sums.sum(0, keepdims=True), counts.sum(0, keepdims=True))[0]
        return Interval(float(mean), float(low), float(high))

    def difference(
        self, values: Sequence[float], others: Sequence[float], *, macro: bool = False
    ) -> Interval:
        """Return the mean difference of `values` and `others`, paired by question, with its interval."""
        return self.interval((np.asarray(values) - np.asarray(others)).tolist(), macro=macro)


def _micro(sums: Array, counts: Array) -> Array:
    result: Array = sums.sum(1) / counts.sum(1)
    return result


def _macro(sums: Array, counts: Array) -> Array:
    """Return the mean over the question types that occur in each resample."""
    present = counts > 0
    means = np.divide(sums, counts, out=np.zeros_like(sums), where=present)
    result: Array = means.sum(1) / present.sum(1)
    return result
