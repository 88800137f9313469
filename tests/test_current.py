"""Questions for what holds find the newest turn about it; all other questions find what they found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import evomem
from evomem.records import Turn
from evomem.search import ranking
from evomem.search.current import LIFT, same_thing, telling, wish_of, wished
from tests.conftest import ROOT

TOLD = [
    ("I live in Bergen, near the river.", "2024-01-05T10:00:00Z"),
    ("My dose is 5 mg a day.", "2024-01-12T10:00:00Z"),
    ("The lift in our house is broken again.", "2024-01-15T10:00:00Z"),
    ("My sister said: “My dose is 80 mg.”", "2024-01-19T10:00:00Z"),
    ("I moved to Oslo last week.", "2024-02-02T10:00:00Z"),
    ("The doctor put me on 10 mg.", "2024-02-09T10:00:00Z"),
    ("The choir sang in the market hall.", "2024-02-12T10:00:00Z"),
    ("My dose is 20 mg a day.", "2024-03-01T10:00:00Z"),
    ("I need winter tyres for the car.", "2024-03-02T10:00:00Z"),
    ("We settled in Ghent, and I live there with the cat.", "2024-03-08T10:00:00Z"),
    ("The neighbours painted their fence.", "2024-03-09T10:00:00Z"),
]


@pytest.fixture(scope="module")
def memory():
    """What a person told, read by the bundled encoder."""
    with evomem.open(":memory:", "mini") as db:
        told = db.memory("alice")
        for text, time in TOLD:
            told.add(text, time=time)
        yield told


def same_as_first(query, turns, near, alike, shared=0.0):
    return same_thing(query, turns, 0, near, np.full(len(turns), shared), alike)


def best(memory, query, **options):
    return memory.search(query, 1, **options)[0].text


@pytest.mark.parametrize(
    ("query", "wish"),
    [
        ("Where do I live?", "newest"),
        ("What is my dose?", "newest"),
        ("Which car do I drive?", "newest"),
        ("Do I still have the gym membership?", "newest"),
        ("Is the dinner with the Petersens on?", "newest"),
        ("Will the concert take place?", "newest"),
        ("What was the last wake-up time I told you?", "newest"),
        ("Tell me my address.", "newest"),
        ("What's my most recent address?", "newest"),
        ("What is the deadline?", "newest"),
        ("Who looks after my teeth?", "newest"),
        ("How far do I run each week?", "newest"),
        ("Where did I live at first?", "oldest"),
        ("What was my original dose?", "oldest"),
        ("Where did I live before?", "previous"),
        ("Where did I live before Oslo?", "previous"),
        ("What is my previous address?", "previous"),
        ("Where did I live?", None),
        ("Where did I live two years ago?", None),
        ("How many times have I moved?", None),
        ("Which cars have I had?", None),
        ("List every car of mine.", None),
        ("What came after Oslo?", None),
        ("Have I used Flask before?", None),
        ("How do I bake bread?", None),
        ("Should I take more of it?", None),
        ("Where does Kate live?", None),
        ("Who has travelled the most?", None),
        ("What are their plans?", None),
        ("Wo wohne ich?", None),
        ("¿Dónde vivo?", None),
        ("dose", None),
        ("", None),
    ],
)
def test_a_question_asks_for_the_first_the_latest_or_any_turn(query, wish):
    assert wish_of(query) == wish


def test_a_day_in_the_question_counts_more_than_its_tense():
    assert wish_of("What is my plan?", dated=True) is None
    assert wish_of("What is my plan now?", dated=True) == "newest"


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        ("What is my dose?", "My dose is 20 mg a day."),
        ("How much do I take a day now?", "My dose is 20 mg a day."),
        ("Which dose was I on at first?", "My dose is 5 mg a day."),
        ("Where do I live?", "We settled in Ghent"),
        ("Where did I live at first?", "I live in Bergen"),
    ],
)
def test_the_turn_that_is_wanted_comes_first(memory, query, answer):
    assert answer in best(memory, query)


def test_the_hit_says_how_far_it_was_lifted():
    with evomem.open(":memory:", "mini") as db:
        told = db.memory("m")
        told.add_many([Turn(user="My dose is 5 mg."), Turn(user="The doctor put me on 80 mg.")])
        first, *others = told.search("What is my dose?")
    assert "80 mg" in first.text
    assert first.score == pytest.approx(sum(first.parts.values()))
    assert first.score == pytest.approx(others[0].score + LIFT)
    assert first.score - first.parts["current"] < others[0].score
    assert not any("current" in hit.parts for hit in others)


def test_a_fact_that_never_changed_is_found_among_other_turns(memory):
    assert "tyres" in best(memory, "What do I need for the car?")


@pytest.mark.parametrize("query", ["Where did I live?", "Did the doctor change my dose?", "choir"])
def test_other_questions_find_what_they_found(memory, query, monkeypatch):
    hits = memory.search(query, 10)
    assert not any("current" in hit.parts for hit in hits)
    monkeypatch.setattr(ranking, "wish_of", lambda *_, **__: None)
    assert memory.search(query, 10) == hits


def test_a_newer_turn_of_a_less_trusted_source_is_not_preferred(memory):
    with evomem.open(":memory:", "mini") as db:
        told = db.memory("m")
        told.add("My dose is 5 mg a day.", source="user", time="2024-01-01T00:00:00Z")
        told.add("My dose is 80 mg a day.", source="web", time="2024-02-01T00:00:00Z")
        assert "80 mg" in best(told, "What is my dose?")
        assert "5 mg" in best(told, "What is my dose?", trust={"web": 0.8})


def test_a_turn_that_was_added_later_but_said_earlier_does_not_hold():
    with evomem.open(":memory:", "mini") as db:
        told = db.memory("m")
        told.add("My dose is 20 mg a day.", time="2024-03-01T18:00:00Z")
        told.add("My dose is 5 mg a day.", time="2024-03-01T09:00:00Z")
        assert "20 mg" in best(told, "What is my dose?")


@pytest.mark.parametrize(
    ("second", "same"),
    [
        ("The doctor put me on 10 mg.", True),
        ("I forgot my pills at home.", False),  # no value of the kind
        ("I walked 10 miles.", False),  # over, and not counted in mg
        ("My sister's dose is 80 mg.", False),  # somebody else's
        ("I take 10 mg. " + "And so on. " * 60, False),  # tells more than one thing
    ],
)
def test_same_as_first_selects_turns_about_the_same_thing(second, same):
    turns = [Turn(user="My dose is 5 mg."), Turn(user=second)]
    query = "What is my dose?"
    places = same_as_first(query, turns, np.array([1, 0.5]), np.array([5.0, 1.5]))
    assert places == [0, 1] if same else places == [0]
    assert same_as_first(query, turns, np.array([1, 0.2]), np.array([5.0, 0.5])) == [0]
    other = [turns[0], Turn(assistant=second)]
    assert same_as_first(query, other, np.ones(2), np.full(2, 5.0)) == [0]


@pytest.mark.parametrize(
    ("query", "second", "near", "same"),
    [
        ("What is my dose?", "It has to be 10 mg.", 0.6, True),
        ("What is my dose?", "I tasted 10 mg.", 0.6, False),  # happened once
        ("What is my dose?", "It has to be 10 mg.", 0.2, False),
        ("What is my current dose?", "It has to be 10 mg.", 0.2, True),  # there were several
    ],
)
def test_same_as_first_requires_a_minimum_similarity(query, second, near, same):
    turns = [Turn(user="My dose is 5 mg."), Turn(user=second)]
    places = same_as_first(query, turns, np.array([1, near]), np.array([5.0, 2.0]))
    assert places == ([0, 1] if same else [0])


def test_words_of_the_question_speak_for_the_same_thing():
    turns = [Turn(user="My dose is 5 mg."), Turn(user="My dose went to 10 mg.")]
    near, alike = np.array([1, 0.5]), np.array([5.0, 1.0])
    places = [
        same_as_first("What is my dose?", turns, near, alike, shared) for shared in (0.0, 1.0)
    ]
    assert places == [[0], [0, 1]]


@pytest.mark.parametrize(
    ("query", "first", "second"),
    [
        ("When is the project due?", "Our deadline is 3 March.", "Delivery is set for April 2nd."),
        ("Who is my dentist?", "My dentist is Dr. Holm.", "Dr. Okafor looks after my teeth."),
        (
            "How big is my team?",
            "My team has four people.",
            "With the new hires we are seven people.",
        ),
    ],
)
def test_values_that_are_written_alike_speak_for_the_same_thing(query, first, second):
    def same(text):
        turns = [Turn(user=first), Turn(user=text)]
        return same_as_first(query, turns, np.array([1, 0.6]), np.array([5.0, 1.3])) == [0, 1]

    assert same(second)
    assert not same("The Helia opens at 7:30 in three rooms.")


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (["I forgot my pills.", "My dose is 5 mg."], 1),  # an event that is over, without a value
        (["My sister's dose is 5 mg.", "I take 10 mg."], 1),
        (["My dose is 5 mg.", "I take 10 mg."], 0),
        (["A dose. " * 60], None),
        (["I take 5 mg. " * 20, "My dose is 5 mg."], None),
        (["Is my dose 5 mg?"], None),
    ],
)
def test_telling_selects_the_turn_that_states_the_subject_of_a_question(texts, told):
    turns = [Turn(user=text) for text in texts]
    assert telling("What is my dose?", turns, np.linspace(1, 0.9, len(turns))) == told


@pytest.mark.parametrize(
    ("query", "near", "told"),
    [
        ("What does my sister study?", 0.9, 0),  # it names the sister
        ("What do I study?", 0.9, 1),
        ("What do I study?", 0.4, None),  # the other turn is far from the question
    ],
)
def test_a_turn_about_somebody_tells_what_a_question_about_them_asks(query, near, told):
    turns = [Turn(user="My sister Ingrid studies medicine."), Turn(user="I read law in Graz.")]
    assert telling(query, turns, np.array([1, near])) == told


def test_the_same_question_asked_before_does_not_make_other_turns_far():
    turns = [Turn(user="Where do I live?"), Turn(user="I moved to Oslo last week.")]
    assert telling("Where do I live?", turns, np.array([1, 0.4])) == 1


@pytest.mark.parametrize(
    ("wish", "query", "texts", "answer"),
    [
        ("newest", "Where do I live?", ["In Oslo.", "I moved to Ghent.", "Then in Oslo it rained."], 1),
        ("newest", "Where do I live?", ["In Oslo.", "I moved to Ghent.", "I am back in Oslo."], 2),
        ("newest", "Do I go to Rome?", ["I booked Rome.", "I cancelled Rome."], 1),
        ("oldest", "Where did I live at first?", ["In Oslo.", "In Ghent."], 0),
        ("previous", "Where did I live before Ghent?", ["In Oslo.", "In Ghent.", "In Porto."], 0),
        ("previous", "Where did I live before that?", ["In Oslo.", "In Ghent.", "In Porto."], 1),
        ("previous", "Where did I live before Oslo?", ["In Oslo.", "In Ghent."], None),
    ],
)  # fmt: skip
def test_wished_selects_a_turn_by_order(wish, query, texts, answer):
    with evomem.open(":memory:", encoder="hash:16") as db:
        told = db.memory("m")
        told.add_many([Turn(user=text) for text in texts])
        records = told.history()
    assert wished(wish, query, records, range(len(texts))) == answer
    backwards = wished(wish, query, records[::-1], range(len(texts)))
    assert answer is None or backwards == len(texts) - 1 - answer


@settings(max_examples=30)
@given(
    query=st.sampled_from(
        ["What is my dose?", "Which dose was I on at first?", "My dose before 5?"]
    ),
    doses=st.lists(st.integers(1, 99), min_size=1, max_size=12),
)
def test_one_hit_is_lifted_at_most_and_the_others_stay(query, doses):
    with evomem.open(":memory:", "hash:32") as db:
        told = db.memory("m")
        told.add_many([Turn(user=f"My dose is {dose} mg.") for dose in doses])
        hits = told.search(query, 50)
        lifted = [hit for hit in hits if "current" in hit.parts]
        assert lifted in ([], hits[:1])
        plain = [hit.score - hit.parts.get("current", 0.0) for hit in hits]
        assert max(plain) == pytest.approx(hits[0].score - LIFT if lifted else hits[0].score)
        assert len({hit.seq for hit in hits}) == len(doses)


def test_the_benchmark_s_halves_share_no_topic_and_no_question():
    from benchmarks.quality.stale_histories import TOPICS, WORDINGS

    asked = [
        {text for topic in topics for text in (topic.noun, topic.was, *topic.asked.split("|"))}
        for topics in TOPICS.values()
    ]
    words = [
        {text for name in item.__dataclass_fields__ for text in getattr(item, name)}
        for item in WORDINGS.values()
    ]
    for texts in (asked, words):
        assert len(set().union(*texts)) == sum(len(item) for item in texts)
    assert (ROOT / "docs/guides/corrections.md").is_file()
