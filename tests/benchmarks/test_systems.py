from typing import cast

import numpy as np
import pytest

from benchmarks.systems.base import Bm25, Recency, Scorer, Shuffled, best, rrf, z_sum
from benchmarks.systems.encoders import Encoders, ReadHistory, read_all
from benchmarks.systems.naming import system_named
from evomem import HashEncoder, Turn
from evomem.errors import EncoderError, QueryError

TURNS = [
    Turn(user="I adopted a cat called Miso.", speaker="Ann"),
    Turn(user="The weather is grey today.", speaker="Bob"),
    Turn(user="We were running along the river.", speaker="Ann"),
    Turn(assistant="How do you like Oslo?"),
]


def test_the_best_come_first_and_of_equals_the_newer_one():
    assert best(np.array([0.1, 0.5, 0.5, 0.0]), 3) == [2, 1, 0]


def test_z_scores_weigh_two_scales_alike():
    cosine, lexical = np.array([0.0, 0.1]), np.array([50.0, 0.0])
    assert z_sum(cosine, lexical, share=0.5).tolist() == pytest.approx([0.0, 0.0])
    assert best(z_sum(cosine, lexical, share=0.6), 1) == [1]
    assert z_sum(cosine, np.zeros(2)).tolist() == pytest.approx([-0.6, 0.6])


def test_reciprocal_ranks_are_added():
    scores = rrf(np.array([0.9, 0.5]), np.array([0.0, 2.0]))
    assert scores.tolist() == pytest.approx([1 / 61 + 1 / 62] * 2)


NAMES = ["bm25", "hash", "hash+bm25", "hash+bm25@rrf", "evomem/hybrid/hash", "shuffled/hash"]


@pytest.mark.parametrize("name", NAMES)
def test_every_system_finds_an_evident_turn(name):
    rank = system_named(name, Encoders()).index(TURNS)
    ranking = list(rank("What is the cat called?", 2))
    assert ranking[0] == 0
    assert len(set(ranking)) == len(ranking) <= 2


@pytest.mark.parametrize("name", NAMES)
def test_a_system_forgets_the_last_conversation(name):
    system = system_named(name, Encoders())
    system.index(TURNS)
    assert set(system.index(TURNS[2:])("Did you like running?", 20)) <= {0, 1}


PLACED = [*NAMES, "recency", "full", "shuffled/bm25"]


@pytest.mark.parametrize("name", PLACED)
def test_a_message_of_the_conversation_is_answered_from_the_turns_before_it(name):
    rank = system_named(name, Encoders()).index(TURNS)
    assert list(rank("How do you like Oslo?", 9, 4))[0] == 3 or name in ("recency", "full")
    for place in (3, 1, 2):
        assert set(rank("How do you like Oslo?", 9, place)) <= set(range(place))


@pytest.mark.parametrize("name", ["bm25", "hash"])
def test_later_turns_change_no_score_of_an_earlier_turn(name):
    system = cast(Scorer, system_named(name, Encoders()))
    score = system.scorer(TURNS)
    for text, place in (("by the river?", 3), ("Miso at the river", 3), ("grey Miso", 2)):
        earlier = system.scorer(TURNS[:place])(text)
        assert score(text, place).tolist() == pytest.approx(earlier.tolist())
        assert score(text).tolist() != pytest.approx([*earlier, *score(text)[place:]])


def test_the_state_after_any_number_of_turns_is_that_of_reading_no_more():
    encoder = HashEncoder()
    history = ReadHistory(encoder, TURNS)
    for place in (2, 4, 1, 3):
        _, state = read_all(encoder, TURNS[:place])
        assert history.state(place).key == state.key
        assert np.array_equal(history.state(place).latents, state.latents)
    assert history.state().key == history.state(4).key


def test_bm25_stems_and_survives_a_question_of_stop_words():
    rank = Bm25().index(TURNS)
    assert rank("rivers, runs", 1) == [2]
    assert sorted(rank("the of is", 20)) == [0, 1, 2, 3]


def test_recency_returns_the_newest_turns():
    assert list(Recency().index(TURNS)("anything", 3)) == [3, 2, 1]


def test_a_shuffled_history_is_read_in_another_order_and_ranked_in_the_true_one():
    seen = []

    class Newest(Recency):
        def index(self, turns):
            seen.extend(turns)
            return super().index(turns)

    turns = [Turn(user=f"number {n}") for n in range(9)]
    ranking = Shuffled(Newest()).index(turns)("anything", 9)
    assert seen != turns
    assert [turns[int(hit)] for hit in ranking] == seen[::-1]


def test_a_number_in_an_encoders_name_is_an_option():
    encoders = Encoders()
    assert encoders["mini?turns=3"].spec.capacity == 3 * encoders["mini?turns=1"].spec.capacity
    assert encoders["mini?turns=0"].spec.latents == 0


def test_an_unknown_mode_or_encoder_is_refused():
    with pytest.raises(QueryError, match="got 'best'"):
        system_named("evomem/best/hash", Encoders())
    with pytest.raises(EncoderError, match="no encoder 'nobody'"):
        system_named("nobody", Encoders())
