"""`Hit.relevance` and `min_relevance`: whether a turn answers a question at all."""

import json

import numpy as np
import pytest

import evomem
from benchmarks.quality.relevance import HALVES, SearchedQuestion, auc, fit, measure
from benchmarks.quality.relevance import main as benchmark
from evomem.cli import main
from evomem.errors import QueryError
from evomem.scores import Scores
from evomem.search.relevance import BY_WORDS, CALIBRATIONS, Calibration, calibration_of

TURNS = [
    "I live in a small flat near the harbour in Bergen.",
    "My cat is called Miso and sleeps on the radiator.",
    "On Sunday I ran ten kilometres along the fjord.",
    "My sister Ingrid studies medicine in Graz.",
    "We had pizza with mushrooms last night.",
]
ANSWERED = ["Where do I live?", "What is the name of my cat?", "What does my sister study?"]
UNANSWERED = [
    "Which tax form does the plumber in Chicago need?",
    "When was the warranty of Derek's lawn mower extended?",
    "What did the orchestra play at the embassy?",
]


@pytest.fixture(scope="module")
def memory():
    with evomem.open(":memory:") as database:
        memory = database.memory("alice")
        for text in TURNS:
            memory.add(text)
        yield memory


@pytest.mark.parametrize("mode", ["hybrid", "evolvable"])
def test_every_hit_of_a_search_by_vectors_has_a_relevance(memory, mode):
    hits = memory.search(ANSWERED[0], mode=mode, min_relevance=0)
    assert hits
    assert all(0 <= hit.relevance <= 1 for hit in hits)


def test_a_search_by_vectors_alone_has_no_relevance_unless_a_minimum_is_given(memory):
    assert {hit.relevance for hit in memory.search(ANSWERED[0], mode="evolvable")} == {None}


def test_the_relevance_of_a_turn_is_the_same_in_both_modes(memory):
    hybrid, evolvable = (
        {
            hit.seq: hit.relevance
            for hit in memory.search(ANSWERED[0], 5, mode=mode, min_relevance=0)
        }
        for mode in ("hybrid", "evolvable")
    )
    assert hybrid == pytest.approx(evolvable)


def test_lexical_hits_have_none(memory):
    assert {hit.relevance for hit in memory.search("cat Miso", mode="lexical")} == {None}


def test_questions_that_a_turn_answers_have_a_hit_that_is_more_relevant_than_any_of_the_others(
    memory,
):
    answered, unanswered = (
        [max(hit.relevance for hit in memory.search(question)) for question in questions]
        for questions in (ANSWERED, UNANSWERED)
    )
    assert min(answered) > 0.02 > 5 * max(unanswered)


def test_less_relevant_hits_are_left_out(memory):
    hits = memory.search(ANSWERED[1], 5)
    least = hits[0].relevance
    kept = memory.search(ANSWERED[1], 5, min_relevance=least)
    assert [hit.seq for hit in kept] == [hit.seq for hit in hits if hit.relevance >= least]
    assert memory.search(ANSWERED[1], 5, min_relevance=0) == hits
    assert memory.search(ANSWERED[1], 5, min_relevance=1.0) == []


def test_a_context_is_empty_where_nothing_is_relevant(memory):
    least = memory.search(ANSWERED[0], 1)[0].relevance / 2
    assert memory.context(ANSWERED[0], min_relevance=least)
    assert not memory.context(UNANSWERED[0], min_relevance=least)


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan"), True, "0.5"])
def test_a_value_outside_of_0_to_1_is_refused(memory, value):
    with pytest.raises(QueryError, match=r"min_relevance must be a number from 0 to 1"):
        memory.search("x", min_relevance=value)


def test_search_by_words_alone_has_no_least_relevance(memory):
    with pytest.raises(QueryError, match="use mode='hybrid' or 'evolvable'"):
        memory.search("x", mode="lexical", min_relevance=0.5)


def test_the_command_shows_relevance_and_takes_a_minimum(tmp_path, capsys):
    file = str(tmp_path / "agent.db")
    with evomem.open(file, encoder="hash") as database:
        database.memory("default").add("My cat is called Miso.")
    arguments = ["search", "the cat called Miso", "--db", file, "--json"]
    assert main(arguments) == 0
    [hit] = json.loads(capsys.readouterr().out)["hits"]
    assert 0 < hit["relevance"] < 1
    assert main([*arguments, "--min-relevance", "1"]) == 1
    assert json.loads(capsys.readouterr().out)["hits"] == []


def test_an_encoder_that_nobody_calibrated_has_the_relevance_of_its_words():
    assert calibration_of("mini?dtype=bfloat16") == CALIBRATIONS["mini"]
    assert calibration_of("hash") == calibration_of("static:other") == BY_WORDS
    assert BY_WORDS.cosine == 0


def test_relevance_rises_with_cosine_and_words():
    for calibration in CALIBRATIONS.values():
        assert calibration.relevance(0.2, 0.1) < calibration.relevance(0.6, 0.1)
        assert calibration.relevance(0.4, 0.0) < calibration.relevance(0.4, 0.3)


def test_extreme_signals_give_0_and_1():
    steep = Calibration(cosine=10_000.0, words=0.0, bias=0.0)
    assert steep.relevance(-1.0, 0.0) == 0
    assert steep.relevance(1.0, 0.0) == 1


def test_a_part_of_the_scores_keeps_the_most_that_the_query_can_have():
    scores = Scores(np.array([1, 2]), np.array([0.5, 1.0]), most=2.0)
    assert scores.among(np.array([2])).most == 2.0


def test_the_fit_finds_the_weights_that_made_the_data():
    true = Calibration(cosine=8.0, words=4.0, bias=-9.0)
    rng = np.random.default_rng(0)
    asked = []
    for number in range(300):
        signals = rng.uniform(0, 1, (10, 2))
        chance = np.array([true.relevance(*row) for row in signals])
        right = (rng.uniform(size=10) < chance).astype(np.float64)
        asked.append(SearchedQuestion(number, "", bool(right.any()), signals, right, 0.0))
    found = fit(asked)
    assert found.cosine == pytest.approx(8, rel=0.15)
    assert found.words == pytest.approx(4, rel=0.25)
    for _, _, _, predicted, observed in measure(asked, found)["bins"]:
        assert predicted == pytest.approx(observed, abs=0.07)


def test_auc_is_the_chance_that_an_answered_question_is_above_another():
    assert auc(np.array([0.9, 0.8]), np.array([0.1, 0.2])) == 1
    assert auc(np.array([0.5]), np.array([0.5])) == 0.5


def test_the_benchmark_measures_both_halves_and_draws_the_reliability(tmp_path, capsys):
    chats = [
        {
            "id": str(number),
            "turns": [
                {"speaker": "Ann", "text": f"My {pet} is called {pet}-{number}."}
                for pet in ("cat", "dog")
            ],
            "queries": [
                {"question": "What is my cat called?", "type": "fact", "evidence": [0]},
                {"question": "Which tax form did I file?", "type": "abstention", "evidence": []},
            ],
        }
        for number in range(4)
    ]
    data, out, plot = tmp_path / "chats.jsonl", tmp_path / "out.json", tmp_path / "plot.svg"
    data.write_text("".join(json.dumps(chat) + "\n" for chat in chats), "utf-8")
    argv = ["--stream", str(data), "--encoder", "hash", "--out", str(out), "--plot", str(plot)]
    assert benchmark(argv) == 0
    assert "fitted on the even conversations" in capsys.readouterr().out
    result = json.loads(out.read_text("utf-8"))
    for half in HALVES:
        assert result[half]["chats"]["fitted"]["auc by conversation"] == [1, 1]
        assert sum(hits for _, _, hits, _, _ in result[half]["chats"]["fitted"]["bins"]) == 8
    assert plot.read_text("utf-8").count("<!-- chats, fitted on the ") == len(HALVES)  # the legend
