"""Rows of different memories in one pass: each gets what it gets alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evomem.evoembedding import EvoEmbeddingEncoder, packing
from evomem.evoembedding.packing import passes
from evomem.evoembedding.reader import Reader
from evomem.evoembedding.tokens import Segment
from evomem.state import State
from tests.evoembedding.test_streaming import LATENTS, family, segments_of

several = settings(max_examples=8)
memories = st.lists(st.lists(st.integers(1, 30), min_size=0, max_size=20), min_size=2, max_size=5)


@pytest.fixture(scope="module")
def encoder(tiny):
    return EvoEmbeddingEncoder(str(tiny.checkpoint), **tiny.where)


@pytest.fixture
def reader(encoder):
    return Reader(encoder.reader.model, encoder.spec)


def assert_same_directions(actual, want):
    cosines = (actual.astype(np.float64) * want).sum(-1)
    assert cosines.min(initial=1) > 1 - 1e-6


@several
@given(lengths=memories, data=st.data())
def test_a_memory_gets_in_company_what_it_gets_alone(reader, lengths, data):
    """At different points of their queues and chunks, with and without caches."""
    jobs = []
    for seed, length in enumerate(lengths):
        segments = segments_of(length, seed)
        state: State[Segment] = State.empty(reader.spec)
        known = data.draw(st.integers(0, len(segments)))
        for segment, reading in zip(segments, reader.read(state, segments[:known]), strict=False):
            state = state.after(segment, reading)
        jobs.append((state, segments[known:]))
    asked = [(state, [[5] * (i + 1), [7, 8]]) for i, (state, _) in enumerate(jobs)]
    if data.draw(st.booleans()):
        reader.caches.clear()
    queries = reader.embed_batch(asked)
    together = reader.read_batch(jobs)
    for job, ask, rows, readings in zip(jobs, asked, queries, together, strict=True):
        reader.caches.clear()
        assert_same_directions(rows, reader.embed(*ask))
        for one, other in zip(readings, reader.read(*job), strict=True):
            assert_same_directions(one.embedding[None], other.embedding[None])
            np.testing.assert_allclose(one.latents, other.latents, atol=LATENTS[family(reader)])
            assert one.opens_chunk == other.opens_chunk


def test_one_turn_of_each_memory_is_one_pass_for_latents_and_one_for_embeddings(reader):
    states = []
    for seed in range(6):
        state: State[Segment] = State.empty(reader.spec)
        segments = segments_of([9] * (7 + seed), seed)  # queues are full, chunks are open
        for segment, reading in zip(segments, reader.read(state, segments), strict=True):
            state = state.after(segment, reading)
        states.append(state)
    reader.embed_batch([(state, [[3]]) for state in states])
    turns = segments_of([5, 6, 7, 8, 9, 10])
    calls = []
    decoder = reader.model.decoder
    hook = decoder.norm.register_forward_pre_hook(lambda _, given: calls.append(given[0].shape))
    reader.read_batch([(state, [turn]) for state, turn in zip(states, turns, strict=True)])
    hook.remove()
    latents, texts = calls
    assert latents[1] == sum(len(turn.ids) + reader.spec.latents for turn in turns)
    assert texts[1] == sum(len(turn.text) for turn in turns)


def test_no_pass_holds_more_than_it_may(monkeypatch):
    monkeypatch.setattr(packing, "PASS_TOKENS", 100)
    monkeypatch.setattr(packing, "PASS_POSITIONS", 300)
    new, past = [30, 40, 50, 1, 500, 2, 3], [0, 0, 90, 200, 0, 90, 0]
    shared = list(passes(new, past))
    assert sorted(row for rows in shared for row in rows) == list(range(len(new)))
    for rows in shared:
        assert len(rows) == 1 or sum(new[row] for row in rows) <= 100
        assert len(rows) == 1 or len(rows) * max(new[row] + past[row] for row in rows) <= 300


def test_a_kept_cache_does_not_hold_on_to_its_pass(reader):
    rows = [torch.randn(length, reader.spec.width) for length in (3, 50)]
    with torch.no_grad():
        _, caches = reader.model.decoder.packed(rows, [None, None], "retriever", keep=True)
    for cache in caches:
        for layer in cache.layers:
            for part in (getattr(layer, name) for name in layer.__slots__):
                assert part.untyped_storage().nbytes() == part.nbytes
