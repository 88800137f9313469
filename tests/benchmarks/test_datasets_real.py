"""The published files themselves, where they are at hand: counts must be those that are known."""

import pytest

from benchmarks.datasets import (
    load_locomo,
    load_longmemeval,
    load_planted,
    load_realtalk,
    load_stream,
)
from benchmarks.datasets.locomo import corrected
from tests.conftest import SHARED

FOLDER = SHARED / "data" / "benchmarks"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no datasets in {FOLDER}")


def test_locomo_counts():
    counts = load_locomo(FOLDER / "locomo10.json").counts()
    assert (counts["conversations"], counts["turns"], counts["questions"]) == (10, 5882, 1986)
    assert counts["left_out"] == {"no evidence labelled": 4}
    assert (counts["evidence_repaired"], counts["evidence_dangling"]) == (6, 3)


def test_locomo_types():
    data = load_locomo(FOLDER / "locomo10.json")
    kinds = [
        question.type for conversation in data.conversations for question in conversation.questions
    ]
    assert {kind: kinds.count(kind) for kind in sorted(set(kinds))} == {
        "adversarial": 446,
        "multi-hop": 282,
        "open-domain": 96,
        "single-hop": 841,
        "temporal": 321,
    }


def test_realtalk_counts():
    """Two questions have no label; the labels of 20 more name only pictures that were dropped."""
    data = load_realtalk(FOLDER / "realtalk")
    counts = data.counts()
    assert (counts["conversations"], counts["turns"], counts["questions"]) == (10, 8944, 728)
    assert counts["left_out"] == {"no evidence labelled": 2, "its evidence names no turn": 20}
    # labels that match no id as they stand, chat by chat
    assert [
        conversation.repaired + conversation.dangling for conversation in data.conversations
    ] == [*(29, 3, 2, 1, 17, 17, 7, 51, 38, 23)]


def test_beam_counts():
    counts = load_stream(FOLDER / "beam_128k.jsonl.xz").counts()
    assert (counts["conversations"], counts["turns"], counts["questions"]) == (20, 5094, 400)
    assert counts["left_out"] == {"abstention": 40, "no evidence labelled": 5}
    assert counts["turns_cut"] == 1


def test_longmemeval_counts():
    data = load_longmemeval(FOLDER / "longmemeval_haystacks.json.xz")
    counts = data.counts()
    assert (counts["conversations"], counts["turns"], counts["questions"]) == (4, 1768, 27)
    assert counts["left_out"] == {"its sessions are labelled, its turns are not": 24}
    assert (
        sum(len({t.session for t in conversation.turns}) for conversation in data.conversations)
        == 173
    )


def test_a_longmemeval_file_in_the_official_layout_counts():
    counts = load_longmemeval(FOLDER / "longmemeval_single.json").counts()
    assert (counts["turns"], counts["scored"]) == (550, 1)


def test_covidqa_counts():
    counts = load_stream(FOLDER / "covidqa_98docs.jsonl.xz").counts()
    assert (counts["conversations"], counts["turns"], counts["scored"]) == (98, 3923, 1380)


def test_planted_counts_and_evidence():
    data = load_planted(FOLDER / "longmemeval_evidence.jsonl.xz")
    counts = data.counts()
    assert counts["conversations"] == counts["questions"] == counts["scored"] == 479
    turns = [len(conversation.turns) for conversation in data.conversations]
    assert (min(turns), max(turns), sum(turns)) == (373, 544, 200_265)
    one = next(
        conversation for conversation in data.conversations if conversation.id == "gpt4_2655b836"
    )
    evidence = [one.turns[place].user for place in one.questions[0].evidence]
    assert len(evidence) == 2
    assert "GPS" in evidence[0] or "GPS" in evidence[1]


def test_the_audit_of_locomo_changes_labels_and_not_which_questions_are_scored():
    """96 corrections: one names no turn, three name the same turns in another spelling."""
    data = load_locomo(FOLDER / "locomo10.json")
    fixed = corrected(data, FOLDER / "locomo_audit.json")
    pairs = [
        (before.evidence, after.evidence)
        for old, new in zip(data.conversations, fixed.conversations, strict=True)
        for before, after in zip(old.questions, new.questions, strict=True)
    ]
    assert sum(before != after for before, after in pairs) == 92
    assert all(bool(before) == bool(after) for before, after in pairs)
