"""`Codes`: 4-bit codes of a large shard's vectors, which choose the candidates for exact scores.

Every code is compared with every query, so nothing depends on how vectors cluster or on what a
question has in common with them, and rows are added without building anything again. Two numbers
of a vector share a code of 4 bits, so that a scan reads a sixteenth of what an exact one does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

from evomem._extras import require
from evomem._forking import reset_in_child
from evomem.state import Vectors
from evomem.store import Seqs

faiss = require("faiss", extra="cpu")

ROWS = 20_000  # more are worth codes (docs/measurements/scale.md)
SAMPLE = 4096  # rows that the codes are learned from: more, FAISS would leave out
ROUNDS = 7  # of learning: after more, codes are hardly any better
MANY = 1000  # rows are coded by all threads at once
GROWTH = 4  # times as many rows as when they were learned: they are learned again

# OpenMP's threads do not survive a fork, and the thread that forked would wait for them for ever.
reset_in_child(lambda: faiss.omp_set_num_threads(1))


@contextmanager
def single_threaded() -> Iterator[None]:
    """Keep FAISS to this thread.

    One query, or one new turn, is nothing to share out. FAISS's other threads would only wait for
    more, spinning, on the cores that the encoder needs next: it took twice as long.
    """
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


class Codes:
    """Codes of a shard's first rows. Not safe for threads."""

    def __init__(self, index: Any, learned: int) -> None:
        self.index = index
        self.learned = learned
        """How many rows there were when the codes were learned."""

    @classmethod
    def learn(cls, sample: Vectors, count: int) -> Codes:
        """Return codes without rows, learned on `sample`, (n, D), of a shard of `count` rows."""
        dim = sample.shape[1]
        codes = dim if dim % 2 else dim // 2
        index = faiss.IndexPQFastScan(dim, codes, 4, faiss.METRIC_INNER_PRODUCT)
        index.pq.cp.niter = ROUNDS
        index.train(np.ascontiguousarray(sample))
        return cls(index, count)

    def __len__(self) -> int:
        return int(self.index.ntotal)

    @property
    def nbytes(self) -> int:
        """Bytes in memory, about."""
        return len(self) * int(self.index.code_size)

    def add(self, vectors: Vectors) -> None:
        """Append rows, (n, D)."""
        with single_threaded() if len(vectors) < MANY else nullcontext():
            self.index.add(np.ascontiguousarray(vectors, np.float32))

    def nearest(self, query: Vectors, count: int) -> tuple[Seqs, Vectors]:
        """Return the places of the `count` best rows by their codes, best first, and rough scores."""
        with single_threaded():
            scores, places = self.index.search(query[None], count)
        return places[0], scores[0]

    def fits(self, vectors: Vectors) -> bool:
        """Return whether the codes are those of `vectors`, (n, D)."""
        again = faiss.clone_index(self.index)
        again.reset()
        again.add(np.ascontiguousarray(vectors, np.float32))
        codes = [faiss.vector_to_array(index.codes) for index in (self.index, again)]
        return np.array_equal(*codes)
