"""Exact inner products of one query with many rows, computed by one thread."""

from __future__ import annotations

import numpy as np

from evomem.state import Vectors
from evomem_stores.vectors.held import Held, Places

ROWS_PER_BLOCK = 512  # 8-bit rows widened together: few enough for the CPU's cache


def products(held: Held, places: Places, query: Vectors) -> Vectors:
    """Return the query's products with the rows at `places`, (m,) float32."""
    scores = np.empty(len(places), np.float32)
    for start in range(0, len(places), ROWS_PER_BLOCK):
        part = slice(start, start + ROWS_PER_BLOCK)
        # Not BLAS, whose other threads would spin like FAISS's (`codes.single_threaded`).
        np.einsum("nd,d->n", held.take(places[part]), query, out=scores[part])
    return scores
