"""What the tests of memory say about encoders whose use of it is known."""

import numpy as np
import pytest

from benchmarks.datasets.base import Conversation, Question
from benchmarks.quality import memory
from benchmarks.quality.memory import TESTS, counterfactual, measure
from benchmarks.quality.memory_cases import CASES
from benchmarks.systems.encoders import Memo
from evomem import HashEncoder, Turn

TOPICS = ("violin", "submarine", "orchid", "passport", "glacier", "tractor", "saffron", "lantern")


@pytest.fixture(scope="module")
def conversations():
    made = []
    for number in range(2):
        told = Conversation(str(number))
        for topic in TOPICS * 3:
            told.turns.append(Turn(user=f"The {topic} of {number}."))
            told.turns.append(Turn(user="It is broken."))
        told.questions = [
            Question(f"What about the {topic}?", "a", (2 * n + 1,), place=30)
            for n, topic in enumerate(TOPICS)
        ]
        made.append(told)
    return made


class Recalling(HashEncoder):
    """A turn is embedded as the turn before it."""

    def _embed(self, words, state):
        return state.latents[-1] if len(state.latents) and self.looks else words

    looks = True

    def embed_queries(self, state, queries):
        self.looks = False
        rows = super().embed_queries(state, queries)
        self.looks = True
        return rows


class Alone(HashEncoder):
    """Nothing depends on what was said before."""

    def _embed(self, words, state):
        return words


def test_an_encoder_that_reads_the_turn_before_is_right_and_one_without_memory_is_not():
    right = counterfactual(Recalling(), CASES[:20])["0"]
    assert right["apart"][0] > 0.9
    assert right["movement"][0] > 0.05
    alone = counterfactual(Alone(), CASES[:20])
    assert {tuple(item["apart"]) for item in alone.values()} == {(0.5, 0.5, 0.5)}
    assert {tuple(item["together"]) for item in alone.values()} == {(0.5, 0.5, 0.5)}


def test_a_gain_from_history_dies_with_it_and_there_is_none_without_memory(conversations):
    used = measure(Recalling(), conversations, 80, TESTS)
    assert set(used["gain"]) == {"memory off", "shuffled", "replaced"}
    assert used["questions"] == 16
    for test in ("memory off", "shuffled"):
        assert used["gain"][test][0] > 0.3, test
    unused = measure(Alone(), conversations, 80, TESTS)
    assert {value[0] for value in unused["gain"].values()} == {0.0}


class Ordered(Alone):
    """The last coordinate encodes order: a question about one topic prefers turns that have it."""

    order = 1

    def embed_queries(self, state, queries):
        rows = super().embed_queries(state, queries)
        rows[:, -1] = [1.0 if "violin" in query else 0.0 for query in queries]
        return rows


def test_constant_order_replaces_the_coordinates_of_order_by_their_mean(conversations, monkeypatch):
    seen = []
    recalls = memory._recalls

    def recorded(scored, pairs, k):
        seen.append(pairs[0][1].copy())
        return recalls(scored, pairs, k)

    monkeypatch.setattr(memory, "_recalls", recorded)
    measured = measure(Memo(Ordered()), conversations, 80, ["constant order"])
    assert set(measured["gain"]) == {"constant order"}
    as_it_is, constant = seen
    assert set(as_it_is[:, -1]) == {0.0, 1.0}
    np.testing.assert_allclose(constant[:, -1], 1 / len(TOPICS))
    np.testing.assert_array_equal(as_it_is[:, :-1], constant[:, :-1])


def test_questions_are_asked_where_they_stand_and_of_earlier_turns_alone(conversations):
    encoder = Alone()
    _, queries = memory._as_it_is(encoder, conversations[0].turns, conversations[0].questions, [])
    later = [Question("What about the violin?", "a", (1,), place=1)]
    rows = memory._recalls(
        [(Conversation("x", [], later), later)],
        [(np.eye(4, dtype=np.float32), np.eye(4, dtype=np.float32)[:1])],
        10,
    )
    assert queries.shape == (8, encoder.spec.dim)
    assert rows == [0.0]  # the evidence is behind the question


def test_there_are_two_hundred_cases_each_with_openings_that_differ():
    assert len(CASES) == len({case.follow_up for case in CASES}) == 100
    for case in CASES:
        assert case.openings[0] != case.openings[1]
        assert len(set(case.questions)) == 2
