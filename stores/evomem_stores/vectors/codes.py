"""`Codes`: 4-bit codes of a large shard's vectors, which select candidates for exact scoring.

Every query is compared with every code, so results do not depend on how vectors cluster, and rows are
added without a rebuild. Two numbers of a vector share a 4-bit code, so that a scan reads a sixteenth
of the bytes of an exact one.
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

MAX_EXACT_ROWS = 20_000  # larger shards get codes (docs/measurements/scale.md)
SAMPLE_ROWS = 4096  # rows to learn the codes from: FAISS would ignore more
TRAINING_ROUNDS = 7  # further rounds hardly improve the codes
THREADED_ROWS = 1000  # batches of at least this many rows are coded by all threads
RETRAIN_GROWTH = 4  # growth of a shard after which its codes are learned again

# OpenMP's threads do not survive a fork, and the forking thread would wait for them for ever.
reset_in_child(lambda: faiss.omp_set_num_threads(1))


@contextmanager
def single_threaded() -> Iterator[None]:
    """Keep FAISS to this thread.

    One query, or one new turn, is too little work to divide. FAISS's other threads would spin while
    they wait, on the cores that the encoder needs next.
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
        """The shard's number of rows when the codes were learned."""

    @classmethod
    def learn(cls, sample: Vectors, count: int) -> Codes:
        """Return codes without rows, learned from `sample`, (n, D), of a shard of `count` rows."""
        dim = sample.shape[1]
        codes = dim if dim % 2 else dim // 2
        index = faiss.IndexPQFastScan(dim, codes, 4, faiss.METRIC_INNER_PRODUCT)
        index.pq.cp.niter = TRAINING_ROUNDS
        index.train(np.ascontiguousarray(sample))
        return cls(index, count)

    def __len__(self) -> int:
        return int(self.index.ntotal)

    @property
    def nbytes(self) -> int:
        """Approximate bytes in memory."""
        return len(self) * int(self.index.code_size)

    def add(self, vectors: Vectors) -> None:
        """Append rows, (n, D)."""
        with single_threaded() if len(vectors) < THREADED_ROWS else nullcontext():
            self.index.add(np.ascontiguousarray(vectors, np.float32))

    def nearest(self, query: Vectors, count: int) -> tuple[Seqs, Vectors]:
        """Return the `count` best rows by their codes, best first: their places and approximate scores."""
        with single_threaded():
            scores, places = self.index.search(query[None], count)
        return places[0], scores[0]

    def fits(self, vectors: Vectors) -> bool:
        """Return whether the codes match `vectors`, (n, D)."""
        again = faiss.clone_index(self.index)
        again.reset()
        again.add(np.ascontiguousarray(vectors, np.float32))
        codes = [faiss.vector_to_array(index.codes) for index in (self.index, again)]
        return np.array_equal(*codes)
