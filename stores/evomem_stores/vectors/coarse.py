"""`Coarse`: the rows of a small shard as 8-bit numbers with one scale, to select candidates.

FAISS multiplies 8-bit numbers several times as fast as float32, and reads a quarter of the bytes. The
error of a coarse product is bounded, so candidates that include all hits are known to do so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from evomem.state import Vectors
from evomem_stores.vectors.codes import RETRAIN_GROWTH, faiss, single_threaded
from evomem_stores.vectors.held import Held, Places

LARGEST = 127
ZERO = 128  # the code of 0
ROWS_PER_BLOCK = 256  # few enough for the CPU's cache


class Coarse:
    """The rows of a shard, up to where `follow` was called last. Not safe for threads."""

    def __init__(self, held: Held) -> None:
        """Choose the scale for rows, and add them."""
        self._chosen_for = len(held)
        self._scale = _scale(max(part.largest for part in held.parts if len(part)))
        kind = faiss.ScalarQuantizer.QT_8bit_direct_signed
        self._index = faiss.IndexScalarQuantizer(held.dim, kind, faiss.METRIC_INNER_PRODUCT)
        self._error = 0.0  # the greatest length of a row's rounding error
        self._length = 0.0  # the greatest length of a rounded row
        self.follow(held)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def nbytes(self) -> int:
        """Approximate bytes in memory."""
        return len(self) * int(self._index.code_size)

    def is_outgrown(self, held: Held) -> bool:
        """Return whether there are so many more rows that the scale should be chosen again."""
        return len(held) >= RETRAIN_GROWTH * self._chosen_for

    def follow(self, held: Held) -> None:
        """Add the rows that were added since."""
        for rows in _blocks(held, len(self)):
            numbers = _rounded(rows, self._scale)
            self._index.add_sa_codes((numbers + ZERO).astype(np.uint8))
            numbers *= np.float32(self._scale)
            self._length = max(self._length, _longest(numbers))
            numbers -= rows
            self._error = max(self._error, _longest(numbers))

    def nearest(self, query: Vectors, count: int, selector: Any) -> tuple[Places, Vectors, float]:
        """Return the places of the best rows that a selector selects, best first.

        Args:
            query: (D,) float32.
            count: The number of rows, at most the number of selected ones.
            selector: A FAISS selector.

        Returns:
            The places, the coarse products, and the greatest error that a coarse product can have.
        """
        scale = _scale(float(np.abs(query).max()))
        numbers = _rounded(query, scale)
        # row·query - rounded row·rounded query = error of row·query + rounded row·error of query
        error = self._error * float(np.linalg.norm(query))
        error += self._length * float(np.linalg.norm(query - scale * numbers))
        parameters = faiss.SearchParameters(sel=selector)
        with single_threaded():
            products, places = self._index.search(numbers[None], count, params=parameters)
        return places[0], products[0] * np.float32(self._scale * scale), error


def _blocks(held: Held, start: int) -> Iterator[Vectors]:
    """Yield the rows from `start` on."""
    for first in range(start, len(held), ROWS_PER_BLOCK):
        yield held.between(first, min(first + ROWS_PER_BLOCK, len(held)))


def _scale(largest: float) -> float:
    """Return the scale for numbers up to `largest`; any scale is right if all are 0."""
    return largest / LARGEST or 1.0


def _longest(vectors: Vectors) -> float:
    return math.sqrt(float(np.einsum("nd,nd->n", vectors, vectors).max()))


def _rounded(vectors: Vectors, scale: float) -> Vectors:
    numbers: Vectors = vectors / np.float32(scale)
    np.rint(numbers, out=numbers)
    return np.clip(numbers, -LARGEST, LARGEST, out=numbers)
