"""Questions as a user's next messages: that they ask for what they were made from."""

import re
from itertools import islice
from random import Random

import pytest

from evomem.training.corpora import messages
from evomem.training.messages import KINDS, conversations
from tests.conftest import SHARED

WORDS = "amber basalt cedar delta ember fjord garnet harbour indigo juniper kelp lagoon".split()


def article(name):
    """Four paragraphs of four sentences that no other article has."""
    turns = [
        {
            "text": " ".join(
                f"The {word} of {name} has part {n} and {m} of them here." for m in range(4)
            )
        }
        for n, word in enumerate(WORDS[:4])
    ]
    queries = [
        {"question": f"What has the {word} of {name}?", "answer": f"part {n}", "evidence": [n]}
        for n, word in enumerate(WORDS[:4])
    ]
    return {"id": name, "title": f"Notes on {name}", "turns": turns, "queries": queries}


def dialogue(name):
    texts = [f"Message {n} about the {name} booking that I want to make today." for n in range(13)]
    turns = [
        {"speaker": "system" if n % 2 else "user", "text": text} for n, text in enumerate(texts)
    ]
    return {"id": name, "turns": turns}


@pytest.fixture(scope="module")
def histories():
    articles, posts, dialogues = (
        [make(f"{kind}{n}") for n in range(40)]
        for kind, make in (("a", article), ("p", article), ("d", dialogue))
    )
    made = list(islice(conversations(articles, posts, dialogues, 60, Random(1)), 6))
    assert len(made) == 6
    return made


def names(text):
    """Return the names of the articles and dialogues in a text."""
    return set(re.findall(r"\b[apd]\d+\b", text))


def test_every_kind_of_message_asks_for_turns_of_its_own_project(histories):
    asked = [(question, history) for history in histories for question in history.questions]
    assert {question.kind for question, _ in asked} == set(KINDS)
    for question, history in asked:
        told = " ".join(history.turns[turn] for turn in question.evidence)
        assert names(question.text) == names(told)


def test_a_sentence_that_was_taken_out_of_a_text_is_not_in_the_history(histories):
    for history in histories:
        for question in history.questions:
            if question.kind == "held out":
                sentence = question.text[question.text.index("The ") :].split(" here.")[0]
                assert not any(sentence in turn for turn in history.turns)


def test_the_message_that_asks_for_a_dialogue_is_not_told(histories):
    for history in histories:
        for question in history.questions:
            if question.kind == "next":
                assert not any(question.text in turn for turn in history.turns)


def test_projects_take_turns_and_their_turns_keep_their_order(histories):
    for history in histories:
        numbers = {}
        for turn in history.turns:
            if " Message " in turn:
                _, _, text = turn.partition("Message ")
                number, name = int(text.split()[0]), text.split()[3]
                assert number == numbers.get(name, -1) + 1
                numbers[name] = number


@pytest.mark.skipif(not (SHARED / "data" / "train").exists(), reason="needs the corpora")
def test_the_corpora_give_the_same_messages_for_a_seed():
    first, again = (messages(SHARED / "data" / "train", 2, 60, seed=2) for _ in range(2))
    assert [h.turns for h in first] == [h.turns for h in again]
    assert [h.questions for h in first] == [h.questions for h in again]
