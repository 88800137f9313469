"""Streaming equals reading at once: any split, any restart, whatever the caches still hold."""

from __future__ import annotations

import threading
from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evomem.evoembedding import EvoEmbeddingEncoder
from evomem.evoembedding.model import normalise
from evomem.evoembedding.reader import Reader
from evomem.evoembedding.tokens import Segment
from evomem.records import Turn
from evomem.state import Reading, State
from evomem.testing import EncoderContract

TOLERANCE = {"qwen3": 1e-5, "qwen3_5": 1e-4}  # a recurrence magnifies rounding
LATENTS = {"qwen3": 1e-4, "qwen3_5": 1e-3}
several = settings(max_examples=12)


@pytest.fixture(scope="module")
def encoder(tiny):
    return EvoEmbeddingEncoder(str(tiny.checkpoint), **tiny.where)


@pytest.fixture
def reader(encoder):
    return Reader(encoder.reader.model, encoder.spec)


def family(reader):
    return reader.model.decoder.config.family


class TestEncoderContract(EncoderContract):
    tolerance = 1e-4  # what a Qwen3.5 base needs: its recurrence magnifies rounding

    @pytest.fixture(name="encoder")
    def _encoder(self, encoder):
        return encoder


def segments_of(lengths, seed=0):
    generator = np.random.default_rng(seed)
    return [
        Segment.of_ids(
            generator.integers(3, 400, length).tolist(), generator.integers(3, 400, 7).tolist()
        )
        for length in lengths
    ]


@lru_cache(maxsize=1)  # for tests of one conversation with several splits or caches
def by_the_specification(model, spec, segments):
    """Sections 6 and 7.2, word for word: no caches, no prefix, one text at a time."""
    everything = torch.zeros(0, spec.width)
    boundaries, rows, done = [], [], 0
    with torch.no_grad():
        while done < len(segments):
            chunk = [segments[done]]
            for segment in segments[done + 1 :]:
                if len(chunk) == 16 or sum(len(s.ids) for s in [*chunk, segment]) > 2048:
                    break
                chunk.append(segment)
            queue = everything[max(0, len(everything) - spec.capacity) :]
            parts = [model.mem_to_latent(queue)]
            for segment in chunk:
                parts += [model.embed_ids(segment.ids), model.memory_queries[0]]
            hidden = model.decoder(torch.cat(parts)[None], None, "memory_generator")[0][0]
            at = len(queue)
            for i, segment in enumerate(chunk):
                at += len(segment.ids) + spec.latents
                new = model.latent_to_mem(hidden[at - spec.latents : at])
                seen = everything[max(0, len(everything) - spec.capacity) :]
                text = torch.cat([model.mem_to_latent(seen), model.embed_ids(segment.text)])
                last = model.decoder(text[None], None, "retriever")[0][0, -1]
                rows.append(normalise(model.mem_to_emb(model.latent_to_mem(last))))
                everything = torch.cat([everything, new])
                boundaries.append(i == 0)
            done += len(chunk)
    return torch.stack(rows).numpy(), everything.numpy(), boundaries


def assert_follows_the_specification(reader, segments, readings):
    rows, latents, boundaries = by_the_specification(reader.model, reader.spec, tuple(segments))
    assert [r.opens_chunk for r in readings] == boundaries
    actual = np.concatenate([r.latents for r in readings])
    np.testing.assert_allclose(actual, latents, atol=LATENTS[family(reader)])
    embeddings = np.stack([r.embedding for r in readings])
    np.testing.assert_allclose(embeddings, rows, atol=TOLERANCE[family(reader)])


def read_in_parts(reader, segments, sizes, between=lambda: None):
    """Read in parts; after each, rebuild the state from the readings alone, as from a log."""
    readings: list[Reading] = []
    for size in sizes:
        state: State[Segment] = State.empty(reader.spec)
        for segment, reading in zip(segments, readings, strict=False):
            state = state.after(segment, reading)
        readings += reader.read(state, segments[len(readings) : len(readings) + size])
        between()
    return readings


lengths_of_turns = st.lists(st.integers(1, 40), min_size=1, max_size=40)


@several
@given(data=st.data(), lengths=lengths_of_turns)
def test_any_split_restart_and_loss_of_caches_follows_the_specification(reader, data, lengths):
    """Up to 40 turns: the queue of 26 overflows after 6, chunks end by count after 16."""
    segments = segments_of(lengths)
    sizes: list[int] = []
    while sum(sizes) < len(segments):
        sizes.append(data.draw(st.integers(1, len(segments) - sum(sizes))))

    def perhaps_clear():
        if data.draw(st.booleans()):
            reader.caches.clear()

    readings = read_in_parts(reader, segments, sizes, perhaps_clear)
    assert_follows_the_specification(reader, segments, readings)


@pytest.mark.parametrize("step", [1, 3, 100])
@pytest.mark.parametrize(
    "lengths",
    [
        [5] * 17,
        [5] * 33,
        [1024, 1024, 1, 3],
        [1024, 1025, 3],
        [2048, 1, 1],
        [2500, 3, 3],
        [3, 2500, 3, 3],
        [700, 700, 700, 700, 5],
    ],
    ids=str,
)
def test_chunks_end_by_count_and_by_length(reader, lengths, step):
    segments = segments_of(lengths)
    sizes = [min(step, len(segments) - i) for i in range(0, len(segments), step)]
    assert_follows_the_specification(reader, segments, read_in_parts(reader, segments, sizes))


def test_caches_hold_no_more_than_their_limit_and_change_nothing(encoder):
    segments = segments_of([9] * 24)
    small = Reader(encoder.reader.model, encoder.spec, cache_bytes=60_000)
    none = Reader(encoder.reader.model, encoder.spec, cache_bytes=0)
    for reader in (small, none):
        readings = read_in_parts(reader, segments, [1] * len(segments))
        assert reader.caches.nbytes <= reader.caches.limit
        assert_follows_the_specification(reader, segments, readings)


def test_the_state_handed_in_is_never_changed(reader):
    segments = segments_of([9] * 20)
    state: State[Segment] = State.empty(reader.spec)
    for segment, reading in zip(segments, reader.read(state, segments), strict=True):
        state = state.after(segment, reading)
    state.latents.setflags(write=False)  # as bytes from a database are
    before = state.latents.copy(), state.key
    first = reader.embed(state, [[5, 6, 7]])
    reader.read(state, segments[:3])
    assert np.array_equal(state.latents, before[0])
    np.testing.assert_array_equal(reader.embed(state, [[5, 6, 7]]), first)


def costs(reader, segments, ask_first):
    """Positions that each turn and the query behind it put through the decoder, and the states."""
    state: State[Segment] = State.empty(reader.spec)
    seen = []
    for segment in segments:
        if ask_first:
            reader.embed(state, [[1, 2, 3]])
        start = reader.tokens
        [reading] = reader.read(state, [segment])
        middle, before = reader.tokens, state
        state = state.after(segment, reading)
        reader.embed(state, [[1, 2, 3], [4]])
        seen.append((before, reading.opens_chunk, middle - start, reader.tokens - middle))
    return seen


def test_a_turn_and_a_query_cost_their_own_tokens_and_each_queue_once(reader):
    """Architecture 4: the floor. A queue is read once a state, whoever asks first."""
    spec = reader.spec
    for before, opens, turn, query in costs(reader, segments_of([9] * 20), ask_first=True):
        queue = len(before.queue)
        grows = queue + spec.latents <= spec.capacity
        chunk = queue if opens else 0
        assert turn == (9 + spec.latents) + chunk + 7 + (spec.latents if grows else 0)
        assert query == 4 + (0 if grows else spec.capacity)


def test_turns_read_together_cost_what_they_cost_one_by_one_while_the_queue_grows(reader):
    segments = segments_of([9] * 6)  # 24 of 26 latents
    costs(reader, segments, ask_first=False)
    singly = reader.tokens - 6 * 4  # without the queries
    reader.caches.clear()
    reader.tokens = 0
    reader.read(State.empty(reader.spec), segments)
    assert reader.tokens == singly


def test_many_threads_may_read_different_memories_at_once(reader):
    memories = [segments_of([9] * 8, seed=seed) for seed in range(4)]
    alone = [read_in_parts(reader, segments, [1] * 8) for segments in memories]
    reader.caches.clear()
    actual: list[list[Reading]] = [[] for _ in memories]

    def work(i):
        actual[i] += read_in_parts(reader, memories[i], [1] * 8)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for mine, theirs in zip(actual, alone, strict=True):
        for one, other in zip(mine, theirs, strict=True):
            np.testing.assert_allclose(one.embedding, other.embedding, atol=1e-4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sixteen_bits_stream_and_keep_latents_exactly(tiny, encoder, dtype):
    half = EvoEmbeddingEncoder(str(tiny.checkpoint), dtype=dtype, **tiny.where)
    assert half.spec.dtype == dtype
    turns = [Turn(user=f"I visited Paris in April {i}.", assistant="Noted.") for i in range(20)]
    readings = half.read(State.empty(half.spec), turns)
    exact = encoder.read(State.empty(encoder.spec), turns)
    kind = {"bfloat16": torch.bfloat16, "float16": torch.float16}[dtype]
    for reading, want in zip(readings, exact, strict=True):
        assert float(reading.embedding @ want.embedding) > 0.95
        stored = torch.from_numpy(reading.latents)
        assert torch.equal(stored.to(kind).float(), stored)
