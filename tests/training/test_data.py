from functools import cache
from itertools import islice
from random import Random

import pytest

from evomem.errors import InputError
from evomem.training.corpora import CORPORA, convert, documents, facts, spoken, streams
from evomem.training.dialogues import multiwoz, sgd
from evomem.training.histories import History, chain, chained, excerpt
from evomem.training.personas import persona_chat
from evomem.training.stories import stories
from tests.conftest import SHARED


def assert_sound(history):
    assert history.questions
    for question in history.questions:
        assert question.evidence
        assert not set(question.evidence) & set(question.rivals)
        assert all(0 <= turn < len(history.turns) for turn in question.evidence + question.rivals)
    assert all(thread == tuple(sorted(thread)) for thread in history.threads)


def test_stories_are_sound_and_repeat_with_their_seed():
    told = stories(20, 60, seed=3)
    for history in told:
        assert_sound(history)
    again = stories(20, 60, seed=3)
    assert [h.turns for h in told] == [h.turns for h in again]
    assert [h.questions for h in told] == [h.questions for h in again]
    assert told[0].turns != stories(1, 60, seed=4)[0].turns


def test_answers_of_stories_stand_in_the_turns_that_hold_them():
    answered = 0
    for history in stories(20, 60, seed=3):
        for question in history.questions:
            evidence = " ".join(history.turns[turn] for turn in question.evidence).lower()
            assert all(part.lower() in evidence for part in question.answer.split(", "))
            answered += bool(question.answer)
    assert answered > 100


def test_first_and_latest_questions_ask_for_the_ends_of_a_thread():
    for history in stories(20, 60, seed=3):
        for question in history.questions:
            if question.kind == "first":
                assert all(question.evidence[0] < rival for rival in question.rivals)
            if question.kind == "latest":
                assert all(question.evidence[0] > rival for rival in question.rivals)


def test_questions_in_the_first_person_are_grammatical():
    asked = [q.text for h in stories(40, 60, seed=8) for q in h.questions]
    for wrong in ("does I ", "has I ", "is I ", "keeps I ", "{", "for I?"):
        assert not [text for text in asked if wrong in text], wrong


def small(name, count):
    history = History(name)
    for number in range(count):
        history.say(name, f"turn {number}")
    history.ask("last?", [count - 1], "latest", thread=[0, count - 1])
    history.threads.append((0, count - 1))
    return history


def test_chained_histories_keep_their_evidence():
    complete = chain([small("a", 3), small("b", 4)], "both")
    assert [complete.turns[q.evidence[0]] for q in complete.questions] == ["a: turn 2", "b: turn 3"]
    assert complete.questions[1].rivals == (3,)
    assert complete.threads == [(0, 2), (3, 6)]


def test_chains_are_as_long_as_asked():
    longer = chained([small(str(i), 5) for i in range(10)], 12, Random(0), "x")
    assert [len(history.turns) for history in longer] == [15, 15, 15]


def test_an_excerpt_keeps_only_questions_that_it_can_answer():
    part = excerpt(small("a", 6), 2, 5)
    assert part.turns[0] == "a: turn 2"
    assert part.questions[0].evidence == (3,)
    assert part.questions[0].rivals == ()
    assert part.threads == []
    assert excerpt(small("a", 6), 0, 4).questions == []


def frame(slot, value, act="INFORM"):
    delta = {"state_delta": {slot: [value]}}
    return {"frames": [{"service": "Restaurants_1", "acts": [[act, slot, [value]]], **delta}]}


def test_a_slot_that_changes_over_dialogues_asks_for_first_and_latest():
    def dialogue(city):
        text = {"speaker": "user", "text": f"In {city}, please.", **frame("city", city)}
        return {"id": city, "services": ["Restaurants_1"], "turns": [text]}

    [history] = sgd([dialogue("Oslo"), dialogue("Graz")], Random(1))
    assert_sound(history)
    kinds = {q.kind: history.turns[q.evidence[0]] for q in history.questions}
    assert kinds["first"] == history.turns[0]
    assert kinds["latest"] == history.turns[1]


def test_an_accepted_offer_has_two_turns_of_evidence():
    offer = {"speaker": "system", "text": "How about Graz?", "frames": []}
    accept = {"speaker": "user", "text": "Fine.", **frame("city", "Graz", "SELECT")}
    given = [{"id": "x", "services": ["Restaurants_1"], "turns": [offer, accept]} for _ in range(2)]
    [history] = sgd(given, Random(1))
    assert {q.evidence for q in history.questions} == {(0, 1)}


@pytest.mark.skipif(not (SHARED / "data" / "train").exists(), reason="needs the corpora")
class TestCorpora:
    FOLDER = SHARED / "data" / "train"

    def test_every_corpus_gives_sound_histories_that_repeat_with_the_seed(self, monkeypatch):
        read_once = cache(lambda file: list(islice(streams(file), 1000)))
        monkeypatch.setattr("evomem.training.corpora.streams", read_once)
        histories = convert(self.FOLDER, 400, 40, seed=2)
        assert {h.id.rpartition("-")[0] for h in histories} == set(CORPORA)
        for history in histories:
            assert_sound(history)
        again = convert(self.FOLDER, 400, 40, seed=2)
        assert [h.turns for h in histories] == [h.turns for h in again]
        assert [h.questions for h in histories] == [h.questions for h in again]


def test_no_converter_reads_non_commercial_data():
    assert not [name for name in CORPORA if "nc" in name.split("/")]
    assert {reader for reader, _ in CORPORA.values()} == {
        sgd,
        multiwoz,
        persona_chat,
        spoken,
        documents,
        facts,
    }


def test_a_missing_corpus_is_named(tmp_path):
    with pytest.raises(InputError, match=r"sgd\.jsonl\.xz cannot be read"):
        convert(tmp_path, 100, 40, seed=0)
