"""Contracts as test classes: subclass one, define its fixture, and run pytest.

>>> class TestMyEncoder(EncoderContract):  # doctest: +SKIP
...     @pytest.fixture
...     def encoder(self): return MyEncoder()
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evomem.batching import embed_batch, read_batch
from evomem.encoder import Encoder
from evomem.records import Turn
from evomem.state import Reading, State

STORY = [
    Turn(user="I live in Bergen.", assistant="A rainy place!"),
    Turn(user="I adopted a cat called Miso."),
    Turn(assistant="Did you book the vet?"),
    Turn(user="Hello from Bergen \N{SNOWMAN}", speaker="Caroline"),
    Turn(user="I moved to Oslo last week. " * 12, assistant="How do you like it?"),
    Turn(
        user="What did you do there? " * 30,
        assistant="Nothing much, and then the same again. " * 20,
    ),
    Turn(user="أعيش الآن في أوسلو", assistant="جميل"),
    *(Turn(user=f"Note {i}: I ran {i} km.", assistant="Well done.") for i in range(30)),
    Turn(user="Miso sleeps all day."),
]
QUERIES = ["Where do I live?", "What is the cat called?"]


class EncoderContract:
    """The contract of every encoder. Subclass it and define a fixture `encoder`."""

    tolerance = 1e-5
    """The largest difference that the order of floating-point operations may cause."""

    _kept: tuple[Encoder, list[Reading], State[Turn]] | None = None

    def _story(self, encoder: Encoder) -> tuple[list[Reading], State[Turn]]:
        """Return what is read of the whole story, and the state after it.

        It is kept for the next test if that has the same encoder, since some take seconds to read.
        """
        kept = self._kept
        if kept is None or kept[0] is not encoder:
            kept = type(self)._kept = (encoder, *_read(encoder, [len(STORY)]))
        return kept[1:]

    def test_readings_have_the_shapes_of_the_spec(self, encoder: Encoder) -> None:
        spec = encoder.spec
        for reading in self._story(encoder)[0]:
            assert reading.embedding.shape == (spec.dim,)
            assert reading.embedding.dtype == np.float32
            assert reading.latents.shape == (spec.latents, spec.width)
            assert reading.latents.dtype == np.float32
            assert abs(float(np.linalg.norm(reading.embedding)) - 1) < 1e-3
            for passage in reading.passages:
                assert passage.shape == (spec.dim,)
                assert passage.dtype == np.float32
                assert float(np.linalg.norm(passage)) < 1 + 1e-3

    def test_any_split_of_the_turns_gives_the_same_readings(self, encoder: Encoder) -> None:
        expected, state = self._story(encoder)
        for split in ([1] * len(STORY), [5, 15, len(STORY) - 20]):
            parts, end = _read(encoder, split)
            _assert_same(expected, parts, self.tolerance)
            assert end.key == state.key

    def test_a_state_holds_no_more_than_the_queue_and_the_open_chunk(
        self, encoder: Encoder
    ) -> None:
        _, state = self._story(encoder)
        spec = encoder.spec
        assert len(state.queue) == min(spec.capacity, len(STORY) * spec.latents)
        assert len(state.latents) <= spec.capacity + len(state.open) * spec.latents

    def test_reading_and_asking_leave_the_given_state_as_it_was(self, encoder: Encoder) -> None:
        _, state = self._story(encoder)
        before = state.latents.copy(), state.key, state.open
        first = encoder.embed_queries(state, QUERIES)
        encoder.read(state, STORY[:3])
        again = encoder.embed_queries(state, QUERIES)
        np.testing.assert_allclose(first, again, atol=self.tolerance)
        assert np.array_equal(before[0], state.latents)
        assert before[1:] == (state.key, state.open)

    def test_queries_are_unit_rows_one_for_each(self, encoder: Encoder) -> None:
        state: State[Turn] = State.empty(encoder.spec)
        rows = encoder.embed_queries(state, QUERIES)
        assert rows.shape == (2, encoder.spec.dim)
        assert rows.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-3)
        alone = encoder.embed_queries(state, QUERIES[1:])
        np.testing.assert_allclose(rows[1:], alone, atol=self.tolerance)
        assert encoder.embed_queries(state, []).shape == (0, encoder.spec.dim)

    def test_results_do_not_depend_on_other_memories_in_the_batch(self, encoder: Encoder) -> None:
        split = [1, 7, 40]
        jobs, asked = [], []
        for start in range(len(split)):  # memories of other lengths, at other places of the story
            turns = STORY[start * 3 :]
            state = _after(encoder, turns[: split[start]])
            jobs.append((state, turns[split[start] :][: 20 - 5 * start]))
            asked.append((state, QUERIES[start:]))
        together = read_batch(encoder, jobs)
        for job, readings in zip(jobs, together, strict=True):
            _assert_same(readings, encoder.read(*job), self.tolerance)
        for query, rows in zip(asked, embed_batch(encoder, asked), strict=True):
            alone = encoder.embed_queries(*query)
            assert rows.shape == alone.shape
            np.testing.assert_allclose(rows, alone, atol=self.tolerance)

    def test_no_turns_give_no_readings(self, encoder: Encoder) -> None:
        assert encoder.read(State.empty(encoder.spec), []) == []

    def test_memory_is_used_if_and_only_if_the_spec_says_so(self, encoder: Encoder) -> None:
        empty: State[Turn] = State.empty(encoder.spec)
        _, state = self._story(encoder)
        fresh = encoder.embed_queries(empty, QUERIES)
        later = encoder.embed_queries(state, QUERIES)
        assert bool(np.abs(fresh - later).max() > self.tolerance) == bool(encoder.spec.capacity)

    def test_counts_tokens(self, encoder: Encoder) -> None:
        assert 0 < encoder.count_tokens("one two") < encoder.count_tokens("one two three four five")


def _read(encoder: Encoder, split: list[int]) -> tuple[list[Reading], State[Turn]]:
    state: State[Turn] = State.empty(encoder.spec)
    readings: list[Reading] = []
    for size in split:
        turns = STORY[len(readings) : len(readings) + size]
        part = encoder.read(state, turns)
        for turn, reading in zip(turns, part, strict=True):
            state = state.after(turn, reading)
        readings += part
    return readings, state


def _after(encoder: Encoder, turns: Sequence[Turn]) -> State[Turn]:
    state: State[Turn] = State.empty(encoder.spec)
    for turn, reading in zip(turns, encoder.read(state, turns), strict=True):
        state = state.after(turn, reading)
    return state


def _assert_same(left: list[Reading], right: list[Reading], tolerance: float) -> None:
    for first, second in zip(left, right, strict=True):
        np.testing.assert_allclose(first.embeddings, second.embeddings, atol=tolerance)
        np.testing.assert_allclose(first.latents, second.latents, atol=max(tolerance, 1e-4))
        assert first.opens_chunk == second.opens_chunk
