from random import Random

import pytest

from evomem.errors import InputError
from evomem.training.corpora import CORPORA, convert, documents, facts, spoken
from evomem.training.dialogues import multiwoz, sgd
from evomem.training.histories import History, chain, chained, excerpt
from evomem.training.messages import answers, as_messages, channel, taken_up
from evomem.training.personas import persona_chat
from evomem.training.references import references
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
    whole = chain([small("a", 3), small("b", 4)], "both")
    assert [whole.turns[q.evidence[0]] for q in whole.questions] == ["a: turn 2", "b: turn 3"]
    assert whole.questions[1].rivals == (3,)
    assert whole.threads == [(0, 2), (3, 6)]


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
        said = {"speaker": "user", "text": f"In {city}, please.", **frame("city", city)}
        return {"id": city, "services": ["Restaurants_1"], "turns": [said]}

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

    def test_every_corpus_gives_sound_histories_that_repeat_with_the_seed(self):
        histories = convert(self.FOLDER, 1500, 40, seed=2)
        assert {h.id.rpartition("-")[0] for h in histories} == set(CORPORA)
        for history in histories:
            assert_sound(history)
        again = convert(self.FOLDER, 1500, 40, seed=2)
        assert [h.turns for h in histories] == [h.turns for h in again]
        assert [h.questions for h in histories] == [h.questions for h in again]


def test_no_converter_reads_non_commercial_data():
    assert not [file for file, _, _ in CORPORA.values() if "nc" in file.split("/")]
    assert {reader for _, reader, _ in CORPORA.values()} == {
        sgd,
        multiwoz,
        persona_chat,
        spoken,
        documents,
        facts,
        channel,
        taken_up,
        answers,
    }


def test_a_missing_corpus_is_named(tmp_path):
    with pytest.raises(InputError, match=r"sgd\.jsonl\.xz cannot be read"):
        convert(tmp_path, 100, 40, seed=0)


def test_the_words_of_a_follow_up_come_again_after_something_else():
    told = references(4, 60, seed=1)
    assert [h.turns for h in told] == [h.turns for h in references(4, 60, seed=1)]
    twice = 0
    for history in told:
        assert_sound(history)
        evidence = {question.evidence[0] for question in history.questions}
        texts = [history.turns[turn].partition(": ")[2] for turn in evidence]
        twice += len(texts) - len(set(texts))
    assert twice > 10


def test_a_reply_asks_for_the_message_that_it_answers_among_those_before_it():
    turns = [{"speaker": name, "text": f"message {n}"} for n, name in enumerate("abcd" * 10)]
    queries = [
        {"question": f"a: reply {n}", "type": "mid", "evidence": [n - 8], "asked_at": n}
        for n in (10, 12, 14, 39)
    ]
    [history] = channel([{"id": "x", "turns": turns, "queries": queries}], Random(0))
    assert_sound(history)
    [first, *_] = history.questions
    assert first.asked_at == 10
    assert history.turns[first.evidence[0]] == "c: message 2"


def test_a_dialogue_that_is_taken_up_asks_for_its_first_session():
    def dialogue(number):
        text = f"please go on with request number {number}, part"
        turns = [{"speaker": "user", "text": f"{text} {n}"} for n in range(12)]
        return {"id": str(number), "turns": turns}

    [history] = taken_up([dialogue(n) for n in range(6)], Random(0))
    assert_sound(history)
    assert len(history.questions) == 6
    for question in history.questions:
        assert max(question.evidence) < question.asked_at
        number = question.text.split(" part")[0]
        assert all(number in history.turns[turn] for turn in question.evidence)


def test_questions_in_the_words_of_a_message_keep_their_evidence():
    history = small("a", 6)
    history.ask("and then?", [2], "reply_to", asked_at=4)
    before = history.questions
    as_messages(history, Random(0), 1.0)
    assert [q.evidence for q in history.questions] == [q.evidence for q in before]
    assert history.questions[0].text != before[0].text
    assert before[0].text[1:] in history.questions[0].text
    assert history.questions[-1] == before[-1]


def test_an_excerpt_leaves_out_questions_that_are_asked_behind_it():
    history = History("a", [f"a: {n}" for n in range(8)])
    history.ask("reply", [1], "reply_to", asked_at=6)
    assert excerpt(history, 1, 7).questions[0].asked_at == 5
    assert excerpt(history, 0, 4).questions == []
    assert chain([history, history], "x").questions[1].asked_at == 14
