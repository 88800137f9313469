"""`Held`: the rows of a shard: those of a mapped index file, followed by new ones in memory."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from evomem.rows import Rows
from evomem.state import Vectors

Places = npt.NDArray[np.int64]


class Held:
    """Append-only rows, in two parts. Not safe for threads."""

    def __init__(self, dim: int, head: Rows | None = None) -> None:
        """Hold rows of `dim` numbers; `head` is not copied."""
        self.dim = dim
        self._head = Rows(np.zeros((0, dim), np.float32)) if head is None else head
        self._tail = Rows(self._head.numbers[:0], self._scales(self._head, 0))
        self._used = 0  # rows in the tail, which has room for more

    def __len__(self) -> int:
        return len(self._head) + self._used

    @property
    def nbytes(self) -> int:
        """Approximate bytes in memory, including those of a mapped file."""
        rows = len(self._head) + len(self._tail)
        return rows * (self._head.numbers.itemsize * self.dim + 4)

    def add(self, rows: Rows) -> None:
        """Append rows; they are stored in 8 bits if all rows are."""
        if not len(self):
            self._head, self._tail = rows, Rows(rows.numbers[:0], self._scales(rows, 0))
            return
        if self._head.scales is not None and rows.scales is None:
            self._head, self._tail = Rows(self._head[:]), Rows(self._tail[:])
        elif self._head.scales is None:
            rows = Rows(rows[:])
        end = self._used + len(rows)
        if end > len(self._tail):
            self._tail = self._grown(self._tail, self._used, 2 * end)
        self._tail.numbers[self._used : end] = rows.numbers
        if self._tail.scales is not None:
            self._tail.scales[self._used : end] = rows.scales
        self._used = end

    @property
    def parts(self) -> tuple[Rows, Rows]:
        """All rows, in order."""
        return self._head, self._tail.cut(self._used)

    def take(self, places: Places) -> Vectors:
        """Return the vectors at `places`, (m, D) float32."""
        border = len(self._head)
        if not self._used or not (places >= border).any():
            return self._head[places]
        rows = np.empty((len(places), self.dim), np.float32)
        new = places >= border
        rows[~new] = self._head[places[~new]]
        rows[new] = self._tail[places[new] - border]
        return rows

    def between(self, start: int, stop: int) -> Vectors:
        """Return the vectors from `start` up to `stop`, (m, D) float32; the caller must not change them."""
        border = len(self._head)
        parts = self._head[start:stop], self._tail.cut(self._used)[max(0, start - border) : max(0, stop - border)]  # fmt: skip
        full = [part for part in parts if len(part)]
        return full[0] if len(full) == 1 else np.concatenate(parts)

    @staticmethod
    def _scales(rows: Rows, count: int) -> Vectors | None:
        return None if rows.scales is None else np.ones(count, np.float32)

    @classmethod
    def _grown(cls, rows: Rows, used: int, size: int) -> Rows:
        numbers = np.zeros((size, rows.numbers.shape[1]), rows.numbers.dtype)
        scales = cls._scales(rows, size)
        numbers[:used] = rows.numbers[:used]
        if scales is not None and rows.scales is not None:
            scales[:used] = rows.scales[:used]
        return Rows(numbers, scales)
