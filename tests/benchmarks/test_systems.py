import numpy as np
import pytest

from benchmarks.systems import Bm25, Evomem, Static, best, rrf, z_sum
from evomem import HashEncoder, Turn

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


SYSTEMS = [Bm25, lambda: Static(HashEncoder()), lambda: Evomem(HashEncoder())]


@pytest.mark.parametrize("make", SYSTEMS, ids=["bm25", "static", "evomem"])
def test_every_system_finds_an_evident_turn_by_each_of_its_rows(make):
    system = make()
    ranks = system.index(TURNS)
    assert tuple(ranks) == system.rows
    for name, rank in ranks.items():
        ranking = list(rank("What is the cat called?", 2))
        assert ranking[0] == 0, name
        assert len(set(ranking)) == len(ranking) <= 2


@pytest.mark.parametrize("make", SYSTEMS, ids=["bm25", "static", "evomem"])
def test_a_system_forgets_the_last_conversation(make):
    system = make()
    system.index(TURNS)
    for rank in system.index(TURNS[2:]).values():
        assert set(rank("Did you like running?", 20)) <= {0, 1}


def test_bm25_stems_and_survives_a_question_of_stop_words():
    rank = Bm25().index(TURNS)["bm25"]
    assert rank("rivers, runs", 1) == [2]
    assert sorted(rank("the of is", 20)) == [0, 1, 2, 3]


def test_the_row_that_no_encoder_changes_can_be_left_out():
    assert Evomem(HashEncoder(), Evomem.VECTOR_MODES).rows == (
        "evomem evolvable hash",
        "evomem hybrid hash",
    )
