"""Exact inner products of one query with many rows, computed by one thread."""

from __future__ import annotations

from typing import Any

import numpy as np

from evomem.state import Vectors
from evomem_stores.vectors.codes import faiss, single_threaded
from evomem_stores.vectors.held import Held, Places

ROWS_PER_BLOCK = 1024  # 8-bit rows widened together: few enough for the CPU's cache


def nearest(vectors: Vectors, query: Vectors, count: int, selector: Any) -> tuple[Places, Vectors]:
    """Return the places and products of the `count` best rows that a selector selects.

    Args:
        vectors: (n, D) float32, contiguous.
        query: (D,) float32.
        count: At most the number of selected rows.
        selector: A FAISS selector.
    """
    places = np.empty((1, count), np.int64)
    products = np.empty((1, count), np.float32)
    queries = np.ascontiguousarray(query[None], np.float32)
    with single_threaded():
        faiss.knn_inner_product(
            faiss.swig_ptr(queries),
            faiss.swig_ptr(vectors),
            vectors.shape[1],
            1,
            len(vectors),
            count,
            faiss.swig_ptr(products),
            faiss.swig_ptr(places),
            selector,
        )
    return places[0], products[0]


def products(held: Held, places: Places, query: Vectors) -> Vectors:
    """Return the query's products with the rows at `places`, (m,) float32."""
    scores = np.empty(len(places), np.float32)
    for start in range(0, len(places), ROWS_PER_BLOCK):
        part = slice(start, start + ROWS_PER_BLOCK)
        # Not BLAS, whose other threads would spin like FAISS's (`single_threaded`).
        np.einsum("nd,d->n", held.take(places[part]), query, out=scores[part])
    return scores
