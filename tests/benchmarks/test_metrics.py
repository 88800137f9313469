"""Known answers, worked out by hand."""

from math import log2

import pytest

from benchmarks.quality import metrics

RANKING = [4, 0, 7, 2, 9]


def test_recall_is_the_share_of_the_evidence_that_was_found():
    assert metrics.recall(RANKING, {0, 2, 5}, k=1) == 0
    assert metrics.recall(RANKING, {0, 2, 5}, k=2) == pytest.approx(1 / 3)
    assert metrics.recall(RANKING, {0, 2, 5}, k=5) == pytest.approx(2 / 3)


def test_recall_all_asks_for_every_piece_of_evidence():
    assert metrics.recall_all(RANKING, {0, 2}, k=3) == 0
    assert metrics.recall_all(RANKING, {0, 2}, k=4) == 1


def test_a_hit_is_any_piece_of_evidence():
    assert metrics.hit(RANKING, {2, 99}, k=3) == 0
    assert metrics.hit(RANKING, {2, 99}, k=4) == 1


def test_ndcg_discounts_by_rank_and_compares_with_the_best_order():
    # evidence at ranks 2 and 4 of an ideal 1 and 2
    expected = (1 / log2(3) + 1 / log2(5)) / (1 / log2(2) + 1 / log2(3))
    assert metrics.ndcg(RANKING, {0, 2}, k=10) == pytest.approx(expected)
    assert metrics.ndcg([0, 2], {0, 2}, k=10) == 1
    assert metrics.ndcg(RANKING, {99}, k=10) == 0


def test_ndcg_is_1_when_more_evidence_than_places_fills_every_place():
    assert metrics.ndcg([1, 2], {1, 2, 3}, k=2) == 1


def test_mrr_looks_at_the_first_evidence_within_the_depth():
    assert metrics.reciprocal_rank(RANKING, {7, 9}) == pytest.approx(1 / 3)
    assert metrics.reciprocal_rank(RANKING, {99}) == 0
    assert metrics.score(list(range(30)), {metrics.MRR_DEPTH})["mrr"] == 0


def test_an_empty_ranking_scores_nothing_and_does_not_fail():
    assert set(metrics.score([], {1}).values()) == {0.0}


def test_a_perfect_ranking_scores_1_everywhere():
    assert set(metrics.score([3], {3}).values()) == {1.0}


def test_macro_counts_every_type_the_same_and_all_every_question():
    scored = [("a", {"m": 1.0}), ("a", {"m": 1.0}), ("a", {"m": 1.0}), ("b", {"m": 0.0})]
    summary = metrics.summarise(scored)
    assert summary["overall"] == {"all": {"m": 0.75}, "macro": {"m": 0.5}}
    assert summary["types"] == {"a": {"m": 1.0}, "b": {"m": 0.0}}
