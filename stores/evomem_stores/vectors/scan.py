"""Exact products of one query with many rows, by one thread."""

from __future__ import annotations

from typing import Any

import numpy as np

from evomem.state import Vectors
from evomem_stores.vectors.codes import faiss, single_threaded
from evomem_stores.vectors.held import Held, Places

AT_ONCE = 1024  # rows in 8 bits that are made wide together: few enough to stay in the cache


def nearest(vectors: Vectors, query: Vectors, count: int, selector: Any) -> tuple[Places, Vectors]:
    """Return the places of the `count` best of the rows that a selector names, and their products.

    Args:
        vectors: (n, D) float32, contiguous.
        query: (D,) float32.
        count: No more than the selector names.
        selector: One of FAISS's.
    """
    places = np.empty((1, count), np.int64)
    products = np.empty((1, count), np.float32)
    asked = np.ascontiguousarray(query[None], np.float32)
    with single_threaded():
        faiss.knn_inner_product(
            faiss.swig_ptr(asked),
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
    """Return the products with the rows at `places`, (m,) float32."""
    scores = np.empty(len(places), np.float32)
    for start in range(0, len(places), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        # BLAS's other threads would spin as FAISS's (`single_threaded`).
        np.einsum("nd,d->n", held.take(places[part]), query, out=scores[part])
    return scores
