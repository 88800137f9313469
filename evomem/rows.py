"""`Rows`: stored vectors, in float32 or with 8 bits per number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from evomem.state import Vectors

Form = Literal["float32", "int8"]
"""How embeddings are stored: exactly, or in a quarter of the space (docs/measurements/storage.md)."""
FORMS: tuple[Form, ...] = ("float32", "int8")

Places = slice | npt.NDArray[np.integer[Any]]
MOST = 127  # the largest 8-bit number
# Bits of a scale's fraction: its products with 8-bit numbers are exact in float32, so that quantizing
# again changes nothing.
_FRACTION = 16


def _short(
    scales: npt.NDArray[np.float64], to_whole: Callable[..., Any]
) -> npt.NDArray[np.float64]:
    fraction, exponent = np.frexp(scales)
    shortened: npt.NDArray[np.float64] = np.ldexp(
        to_whole(fraction * 2**_FRACTION) / 2**_FRACTION, exponent
    )
    return shortened


def norms(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the lengths of rows, (n,); like `np.linalg.norm`, in a third of its time for a few rows."""
    lengths: npt.NDArray[np.float64] = np.sqrt(np.add.reduce(rows * rows, axis=1))
    return lengths


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Stored vectors.

    >>> rows = Rows.quantized(np.array([[0.6, -0.8]], np.float32))
    >>> np.allclose(rows[:], [[0.6, -0.8]], atol=0.004)
    True
    >>> again = Rows.quantized(rows[:])
    >>> bool((again[:] == rows[:]).all())
    True
    """

    numbers: npt.NDArray[Any]
    """(n, D) float32, or int8 if there are `scales`."""
    scales: Vectors | None = None
    """(n,) float32: the factor of each row."""

    @classmethod
    def quantized(cls, vectors: Vectors) -> Rows:
        """Return `vectors`, (n, D), in 8 bits: numbers are rounded, lengths are kept."""
        wide = vectors.astype(np.float64)
        largest = np.maximum.reduce(np.abs(wide), axis=1, initial=0.0)
        scales = _short(largest / MOST, np.ceil)
        scales[scales == 0] = 1
        numbers = np.rint(wide / scales[:, None])
        lengths = norms(numbers)
        scaled = np.divide(norms(wide), lengths, out=scales, where=lengths > 0)
        return cls(numbers.astype(np.int8), _short(scaled, np.rint).astype(np.float32))

    @classmethod
    def of(cls, vectors: Vectors, form: Form) -> Rows:
        """Return `vectors`, (n, D) float32, in a form."""
        return cls.quantized(vectors) if form == "int8" else cls(vectors)

    @classmethod
    def joined(cls, parts: Sequence[Rows], dim: int) -> Rows:
        """Return all rows of `parts`, in 8 bits if all parts are."""
        parts = [part for part in parts if len(part)]
        if not parts:
            return cls(np.zeros((0, dim), np.float32))
        scales = [part.scales for part in parts if part.scales is not None]
        if len(scales) == len(parts):
            numbers = np.concatenate([part.numbers for part in parts])
            return cls(numbers, np.concatenate(scales))
        return cls(np.concatenate([part[:] for part in parts]))

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def largest(self) -> float:
        """The greatest absolute value; there is at least one row."""
        if self.scales is None:
            return max(float(self.numbers.max()), -float(self.numbers.min()))
        highest, lowest = self.numbers.max(axis=1), self.numbers.min(axis=1)
        return float((np.maximum(highest, -lowest) * self.scales).max())

    def cut(self, count: int) -> Rows:
        """Return the first `count` rows."""
        return Rows(self.numbers[:count], None if self.scales is None else self.scales[:count])

    def __getitem__(self, places: Places) -> Vectors:
        """Return the vectors at `places`, (m, D) float32; the caller must not change them."""
        numbers = self.numbers[places]
        if self.scales is None:
            return numbers
        return numbers * self.scales[places][:, None]
