from random import Random

import pytest

from evomem.training.histories import History
from evomem.training.names import Person
from evomem.training.replies import ask_replies, ask_topics, third_person

OMAR = Person("Omar")
ME = Person("User", is_me=True)


def told(*turns):
    history = History("chat")
    for turn in turns:
        history.say(*turn)
    return history


@pytest.mark.parametrize(
    ("question", "who", "about"),
    [
        ("What do you do for a living?", OMAR, "What does Omar do for a living?"),
        ("Hi, so where did you grow up?", OMAR, "Where did Omar grow up?"),
        ("Are you allergic to anything?", OMAR, "Is Omar allergic to anything?"),
        ("Have you been to Rome?", OMAR, "Has Omar been to Rome?"),
        ("What's your favorite food?", OMAR, "What's Omar's favorite food?"),
        ("Would you like green tea?", OMAR, "Would Omar like green tea?"),
        ("What do you do for a living?", ME, "What do I do for a living?"),
        ("Where is your brother now?", ME, "Where is my brother now?"),
    ],
)
def test_a_question_to_someone_becomes_one_about_them(question, who, about):
    assert third_person(question, who) == about


@pytest.mark.parametrize(
    "question",
    [
        "How are you doing today?",
        "Did you like it?",
        "Do you know what I mean?",
        "And you?",
        "Is Rome nice?",
        "I like your hat.",
        "Do you {x} in Rome now?",
        "",
    ],
)
def test_a_question_that_would_not_stand_alone_is_left_out(question):
    assert third_person(question, OMAR) is None


def test_the_evidence_is_the_reply_and_not_the_question():
    history = told(
        ("Mei", "Nice day! What do you do for a living?"),
        ("Omar", "I bake bread."),
    )
    ask_replies(history, Random(0), (), 5)
    [question] = history.questions
    assert (question.text, question.evidence) == ("What does Omar do for a living?", (1,))


def test_repeated_and_unanswered_questions_are_omitted():
    twice = told(
        ("Mei", "What do you do for a living?"),
        ("Omar", "I bake bread."),
        ("Mei", "So, what do you do for the living?"),
        ("Omar", "I drive trucks."),
    )
    ask_replies(twice, Random(0), (), 5)
    assert twice.questions == []
    unanswered = told(
        ("Mei", "Where did you grow up, Omar?"),
        ("Omar", "Where did you?"),
        ("Mei", "Where did you grow up?"),
        ("Mei", "Hello, are you there?"),
    )
    ask_replies(unanswered, Random(0), (), 5)
    assert unanswered.questions == []


def test_topics_are_words_of_one_turn_only():
    history = told(
        ("Mei", "Yesterday our neighbours painted their wooden fence bright purple."),
        ("Omar", "Yesterday our neighbours complained about barking terriers again."),
    )
    ask_topics(history, Random(1), (), 5)
    assert {question.evidence for question in history.questions} == {(0,), (1,)}
    for question in history.questions:
        assert not {"yesterday", "neighbours"} & set(question.text.lower().split())


def test_no_more_is_asked_than_wanted():
    history = told(
        *[
            item
            for place in ("Rome", "Oslo", "Graz", "Bari")
            for item in [("Mei", f"Have you been to {place} before?"), ("Omar", "Yes, in May.")]
        ]
    )
    ask_replies(history, Random(0), (), 2)
    assert len(history.questions) == 2
