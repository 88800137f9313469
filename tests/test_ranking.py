from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import evomem
from evomem.records import TimeAndSession
from evomem.scores import Scores
from evomem.search.ranking import WEIGHTS, fuse, top_k
from evomem.times.dates import asked_days
from evomem.times.when import When

START = datetime(2024, 1, 1, 12, tzinfo=timezone.utc)


def records(*texts, session=None):
    """Return when and where texts were said, one a week; a tuple is (session, text)."""
    result = {}
    for number, item in enumerate(texts, 1):
        where = item[0] if isinstance(item, tuple) else session
        result[number] = TimeAndSession(START + timedelta(weeks=number - 1), where)
    return result


def parts_of(query, cosines, told, words=()):
    beside = {seq: (seq - 1, seq + 1) for seq in told}
    when = When(tuple(asked_days(query, [item.time.date() for item in told.values()])))
    return dict(fuse(query, when, cosines, dict(words), told, beside, len(told)))


def score(query, cosines, *texts, words=()):
    parts = parts_of(query, dict(enumerate(cosines, 1)), records(*texts), words)
    return {seq: sum(item.values()) for seq, item in parts.items()}


def test_a_reply_profits_from_the_words_of_what_it_replies_to():
    told = "Which pet do you have?", "A cat.", "Mind the gap.", "A car."
    result = score("Which pet?", [0.8, 0.3, 0.3, 0.3], *told, words=[(1, 3.0)])
    assert result[2] > result[3] == result[4]


def test_turns_of_a_session_that_speaks_of_it_come_before_others_alike():
    told = records(("s1", "Miso is a cat."), ("s1", "He is black."), ("s2", "It is black."))
    parts = parts_of("Which colour?", {1: 0.8, 2: 0.3, 3: 0.3}, told)
    assert parts[2]["session"] > parts[3]["session"]


def test_turns_without_a_session_have_no_session_part():
    assert set(parts_of("cat", {1: 0.8}, records("I like cats."))[1]) == {"evolvable"}


def test_neighbours_of_another_session_have_no_part():
    told = records(("s1", "Which pet do you have?"), ("s2", "A cat."))
    parts = parts_of("Which pet?", {1: 0.8, 2: 0.3}, told, words=[(1, 3.0)])
    assert set(parts[2]) == {"evolvable", "session"}


def test_equal_turns_are_ranked_by_the_time_that_the_query_names():
    result = score("What did I eat on 8 January 2024?", [0.5, 0.5, 0.5], "Soup.", "Rice.", "Figs.")
    assert max(result, key=lambda seq: result[seq]) == 2


def test_a_query_that_names_no_time_has_no_time_part():
    parts = parts_of("What did I eat?", {1: 0.5}, records("Soup."))
    assert set(parts[1]) == {"evolvable"}


def test_shared_words_lift_a_turn():
    result = score("Miso", [0.5, 0.5], "A dog.", "A Miso.", words=[(2, 3.0)])
    assert result[2] - result[1] == pytest.approx(WEIGHTS["lexical"] - WEIGHTS["beside"])


@example({1: 5e-324, 2: -1.0}, "cat")
@given(st.dictionaries(st.integers(1, 30), st.floats(-1, 1), min_size=1), st.text())
def test_every_candidate_is_scored_and_only_by_known_parts(cosines, query):
    told = {
        seq: record
        for seq, record in records(*[("s", "So?"), "It is."] * 15).items()
        if seq in cosines
    }
    parts = parts_of(query, cosines, told)
    assert set(parts) == set(cosines)
    assert all(set(record) <= set(WEIGHTS) for record in parts.values())


@given(st.dictionaries(st.integers(1, 30), st.floats(-1, 1)), st.integers(1, 40))
def test_the_best_come_first_and_of_equals_the_newer(scores, k):
    ranked = top_k(scores, k)
    assert len(ranked) == min(k, len(scores))
    assert ranked == sorted(ranked, key=lambda item: (item[1], item[0]), reverse=True)


def test_of_equal_candidates_the_newer_come_first_and_no_more_than_asked_for():
    told = records("So?", "It is.", "I see.")
    assert [seq for seq, _ in fuse("", When(), dict.fromkeys(told, 0.5), {}, told, {}, 2)] == [3, 2]
    assert fuse("", When(), {}, {}, {}, {}, 2) == []


SCORES = st.dictionaries(st.integers(1, 60), st.sampled_from([0.25, 0.5, 1.0, 1.5]))


def as_scores(scores):
    seqs = np.array(sorted(scores), np.int64)
    return Scores(seqs, np.array([scores[seq] for seq in sorted(scores)], np.float64))


@given(SCORES, st.integers(1, 70))
def test_scores_in_arrays_come_in_the_same_order(scores, k):
    assert as_scores(scores).top(k) == top_k(scores, k)


@given(SCORES, st.sets(st.integers(1, 70)))
def test_scores_of_some_turns_are_theirs_alone(scores, chosen):
    kept = as_scores(scores).among(np.array(sorted(chosen), np.int64))
    assert dict(kept) == {seq: score for seq, score in scores.items() if seq in chosen}


@pytest.fixture
def memory():
    with evomem.open(":memory:", encoder="hash:64") as db:
        memory = db.memory("alice")
        for number, text in enumerate(["Which pet do you have?", "A cat.", "Mind the gap."]):
            memory.add(text, id=str(number), session="s1", time=START)
        yield memory


def test_a_deleted_turn_lifts_no_other(memory):
    [before] = [hit for hit in memory.search("Which pet?") if hit.record.id == "1"]
    assert before.parts["beside"] > 0
    memory.delete("0")
    assert all("beside" not in hit.parts for hit in memory.search("Which pet?"))


def test_a_turn_that_a_filter_leaves_out_has_no_part_in_the_ranking(memory):
    memory.add("What else?", id="3", role="assistant", session="s1", time=START)
    memory.add("A dog.", id="4", session="s1", time=START)
    hits = {hit.record.id: hit for hit in memory.search("What else?", role="user")}
    assert "3" not in hits
    assert "beside" not in hits["4"].parts


def test_hybrid_is_the_default_and_its_parts_make_up_the_score(memory):
    hits = memory.search("Which pet do you have?")
    assert hits == memory.search("Which pet do you have?", mode="hybrid")
    for hit in hits:
        assert hit.score == pytest.approx(sum(hit.parts.values()))
