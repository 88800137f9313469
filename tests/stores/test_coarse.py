"""Coarse products select the candidates of an exact search: their error never exceeds its bound."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evomem.rows import Rows
from evomem_stores.vectors.coarse import Coarse
from evomem_stores.vectors.codes import RETRAIN_GROWTH, faiss
from evomem_stores.vectors.held import Held

DIM = 2  # with more numbers, errors come closer to their bound only by chance


def unit(count, seed, *, peaks=0.0):
    """Vectors of length 1; with `peaks`, the first number of each is much larger than the others."""
    rows = np.random.default_rng(seed).standard_normal((count, DIM))
    rows[:, 0] += peaks
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10**6),
    form=st.sampled_from(["int8", "float32"]),
    peaks=st.sampled_from([0.0, 20.0]),  # more than the scale of the first rows allows
    factor=st.sampled_from([1.0, 1e-3, 40.0]),
)
def test_no_product_is_farther_from_the_exact_one_than_its_bound(seed, form, peaks, factor):
    held = Held(DIM)
    held.add(Rows.of(unit(50, seed), form))
    coarse = Coarse(held)
    held.add(Rows.of(unit(20, seed + 1, peaks=peaks), form))
    coarse.follow(held)
    query = np.float32(factor) * unit(1, seed + 2)[0]
    places, products, error = coarse.nearest(query, 60, faiss.IDSelectorRange(5, 70))
    exact = held.take(places) @ query
    assert places.min() >= 5
    assert len(set(places.tolist())) == 60
    assert (np.diff(products) <= 0).all()
    assert np.abs(products - exact).max() <= error + 1e-6 * factor
    assert np.abs(products - exact).max() > 0


def test_rows_of_zeros_have_products_of_zero():
    held = Held(DIM)
    held.add(Rows(np.zeros((3, DIM), np.float32)))
    _, products, error = Coarse(held).nearest(unit(1, 0)[0], 3, faiss.IDSelectorRange(0, 3))
    assert products.tolist() == [0, 0, 0]
    assert error == pytest.approx(0)


def test_the_scale_is_chosen_again_once_the_shard_has_grown():
    held = Held(DIM)
    held.add(Rows(unit(10, 0)))
    coarse = Coarse(held)
    held.add(Rows(unit(10 * RETRAIN_GROWTH - 11, 1)))
    assert not coarse.is_outgrown(held)
    held.add(Rows(unit(1, 2)))
    assert coarse.is_outgrown(held)
