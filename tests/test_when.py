"""What a query that names a time finds, and what a context shows."""

from datetime import datetime, timedelta, timezone

import pytest

import evomem
from evomem.errors import QueryError
from evomem.records import Turn
from evomem.search.excerpt import CUT, excerpt
from evomem.times.when import names_time

START = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)


@pytest.fixture
def db(location):
    with evomem.open(location, encoder="hash", zone="America/Los_Angeles") as opened:
        yield opened


@pytest.fixture
def meals(db):
    memory = db.memory("meals")
    memory.add("I had sushi.", time="2026-03-09T20:00:00-07:00", session="monday")
    memory.add("I had ramen.", time="2026-03-10T20:00:00-07:00", session="tuesday")
    memory.add("I had soup.", time="2026-03-12T20:00:00-07:00", session="thursday")
    return memory


@pytest.fixture
def long(db):
    """A memory in which the turns of a day are among no other candidates."""
    memory = db.memory("long")
    turns = [
        Turn(
            user=f"Talk of day {day}, part {n}.", session=f"s{day}", time=START + timedelta(day, n)
        )
        for day in range(30)
        for n in range(10)
    ]
    memory.add_many(turns)
    for text, day in (("Hm.", 0), ("Yes.", 29), ("Hm.", 0)):
        memory.add(text, time=START + timedelta(day, 60), session="short")
    return memory


def dated_hits(memory, query, **options):
    return [hit.text for hit in memory.search(query, **options) if "time" in hit.parts]


def test_relative_days_count_from_now_in_the_zone_of_the_asker(meals):
    query = "What did I have yesterday?"
    now = "2026-03-12T02:00:00+00:00"  # still 11 March in Los Angeles
    assert dated_hits(meals, query, now=now) == ["User: I had ramen."]
    assert dated_hits(meals, query, now=now, zone="UTC") == ["User: I had ramen."]
    assert dated_hits(meals, "on 11 March 2026", zone="UTC", k=1) == ["User: I had ramen."]
    assert dated_hits(meals, "on 10 March 2026", k=1) == ["User: I had ramen."]
    assert dated_hits(meals, query) == []  # yesterday is the day before this test runs


def test_in_a_view_of_the_past_relative_days_count_from_its_newest_turn(meals):
    assert dated_hits(meals.at(seq=2), "What did I have yesterday?", k=1) == ["User: I had sushi."]
    assert dated_hits(meals, "What did I have yesterday?", k=1, at=2) == ["User: I had sushi."]


def test_a_counted_day_without_turns_means_the_day_before_or_after(meals):
    now = "2026-03-14T12:00:00-07:00"
    assert dated_hits(meals, "What did I have 5 days ago?", now=now, k=1) == ["User: I had sushi."]
    assert set(dated_hits(meals, "What did I say 3 days ago?", now=now)) == {
        "User: I had soup.",
        "User: I had ramen.",
    }


def test_last_friday_is_the_one_before_if_nothing_was_said_on_it(meals):
    now = "2026-03-20T12:00:00-07:00"  # a Friday
    assert dated_hits(meals, "What did I have last Tuesday?", now=now, k=1) == [
        "User: I had ramen."
    ]


def test_earlier_today_is_not_the_session_that_is_under_way(db):
    memory = db.memory("today")
    memory.add("I had tea.", time="2026-03-12T08:00:00-07:00", session="morning")
    memory.add("I had soup.", time="2026-03-12T11:00:00-07:00", session="noon")
    query = "What did I have earlier today?"
    assert dated_hits(memory, query, now="2026-03-12T11:10:00-07:00") == ["User: I had tea."]
    assert len(dated_hits(memory, query, now="2026-03-12T15:00:00-07:00")) == 2
    memory.add("I had figs.", time="2026-03-13T08:00:00-07:00", session="next")
    talk = "What did we talk about earlier today?"
    [hit] = memory.search(talk, now="2026-03-13T08:00:00-07:00")  # there is no other session
    assert hit.text == "User: I had figs."


def test_a_turn_that_writes_the_day_counts_as_one_of_that_day(db):
    memory = db.memory("plans")
    memory.add("The film on April 6 is Coco.", time="2026-03-12T20:00:00Z")
    memory.add("The film on April 7 is Up.", time="2026-03-12T20:01:00Z")
    memory.add("The film was long.", time="2026-04-06T20:00:00Z")
    memory.add("By 9 April I wrote 1,500 words.", time="2026-04-30T20:00:00Z")
    shares = {hit.text: hit.parts.get("time") for hit in memory.search("Which film for April 6?")}
    assert shares["User: The film on April 6 is Coco."] == 1.0
    assert shares["User: The film on April 7 is Up."] is None
    assert shares["User: The film was long."] == 0.31  # "for" is the day of a plan
    hits = memory.search("How many words did I write until April 9?")
    assert {hit.text: hit.parts.get("time") for hit in hits}[hits[0].text] == 1.0
    assert hits[0].text == "User: By 9 April I wrote 1,500 words."


def test_a_time_is_counted_from_the_turn_that_tells_of_an_event(db):
    memory = db.memory("moves")
    memory.add("I cook at the Blue Inn.", time="2024-05-02T10:00:00Z")
    memory.add("I drive a bus.", time="2025-03-02T10:00:00Z")
    memory.add("I moved to Oslo last month.", time="2025-06-10T10:00:00Z")
    memory.add("I paint houses.", time="2026-01-05T10:00:00Z")
    hits = memory.search("What did I do for work a year before I moved?")
    parts = {hit.text: hit.parts for hit in hits}
    assert [text for text, own in parts.items() if "time" in own] == [
        "User: I cook at the Blue Inn."
    ]
    assert [text for text, own in parts.items() if "event" in own] == [
        "User: I moved to Oslo last month."
    ]
    for hit in memory.search(
        "What did I do for work a year before I married?"
    ):  # of which no turn tells
        assert not hit.parts.keys() & {"time", "event"}
    assert memory.search("What did I do a year before I moved?", mode="lexical")


def test_turns_of_the_day_that_is_asked_for_are_candidates(long):
    query = "Was the food good on 30 January?"
    assert "User: Yes." in dated_hits(long, query, k=50)
    assert "User: Yes." not in dated_hits(long, query, k=50, role="assistant")


def test_a_query_for_nothing_but_a_time_finds_only_what_was_said_then(long):
    hits = long.search("What did we talk about on 30 January?", k=50)
    assert {hit.record.time.date() for hit in hits} == {datetime(2026, 1, 30).date()}
    assert len(hits) == 11
    assert long.search("What did we talk about on 22 March?", k=3)  # nothing was said: any turns


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("What did I say in our first session?", ["sushi"]),
        ("What did we discuss in the session before last?", ["ramen"]),
        ("What did I say in the last two sessions?", ["ramen", "soup"]),
        ("What did I say in our tenth session?", ["ramen", "soup", "sushi"]),
    ],
)
def test_sessions_are_found_by_their_place(meals, query, found):
    texts = sorted(hit.text for hit in meals.search(query))
    assert texts == [f"User: I had {dish}." for dish in found]


def test_sessions_are_in_the_order_in_which_they_were_held(db, meals):
    meals.add("I had figs.", time="2026-03-01T20:00:00Z", session="earlier")
    store, view = db._engine.store, meals._view()
    assert store.sessions(view) == ["earlier", "monday", "tuesday", "thursday"]
    meals.delete(meals.history()[0].id)
    assert store.sessions(meals._view()) == ["earlier", "tuesday", "thursday"]
    fork = meals.fork("what-if")
    fork.add("Later.", time="2026-03-20T20:00:00Z", session="fork")
    fork.add("Again.", time="2026-03-20T20:00:00Z", session="tuesday")
    assert store.sessions(fork._view()) == ["earlier", "tuesday", "thursday", "fork"]


def test_the_period_of_a_view_goes_from_its_earliest_turn_to_its_latest(db, meals):
    meals.add("I had figs.", time="2026-03-01T20:00:00Z", id="figs")
    store = db._engine.store
    first, last = datetime(2026, 3, 1, 20), datetime(2026, 3, 13, 3)
    expected = first.replace(tzinfo=timezone.utc), last.replace(tzinfo=timezone.utc)
    assert store.period(meals._view()) == expected
    meals.delete("figs")
    assert store.period(meals._view()) == (
        datetime(2026, 3, 10, 3, tzinfo=timezone.utc),
        expected[1],
    )
    assert store.period(db.memory("empty")._view()) is None


def test_a_query_is_known_to_name_a_time_before_anything_is_read():
    assert not names_time("Where do I live?")
    assert names_time("Where did I live on 29 February?")


def test_a_turn_in_a_long_span_counts_less_than_one_on_a_day(meals):
    [day] = {hit.parts["time"] for hit in meals.search("ramen on 10 March 2026", k=1)}
    [month] = {hit.parts["time"] for hit in meals.search("ramen in March 2026", k=1)}
    assert (day, month) == (1.0, 0.31)


@pytest.mark.parametrize(
    "options", [{"zone": "Mars/Olympus"}, {"zone": ""}, {"zone": 3}, {"now": "soon"}, {"now": START.replace(tzinfo=None)}]
)  # fmt: skip
def test_a_zone_or_a_moment_that_is_none_is_refused(meals, options):
    for call in (meals.search, meals.context):
        with pytest.raises(QueryError, match=r"Mars/Olympus|no time zone|soon"):
            call("soup", **options)


def test_a_database_is_not_opened_with_a_zone_that_is_none(tmp_path):
    with pytest.raises(QueryError, match="Mars/Olympus"):
        evomem.open(str(tmp_path / "agent.db"), zone="Mars/Olympus")
    assert not (tmp_path / "agent.db").exists()


def test_a_context_names_the_zone_of_its_times(meals):
    assert meals.context("soup", k=1).startswith("[2026-03-12 20:00 PDT, ")
    assert meals.context("soup", k=1, zone="UTC").startswith("[2026-03-13 03:00 UTC, ")
    tehran = timezone(timedelta(hours=3, minutes=30))
    assert meals.context("soup", k=1, zone=tehran).startswith("[2026-03-13 06:30 UTC+03:30, ")


def test_a_line_of_a_context_tells_time_session_and_id(db, meals):
    id = meals.history(session="thursday")[0].id
    head = f"[2026-03-12 20:00 PDT, session thursday, id {id}]"
    assert meals.context("soup", k=1) == f"{head} User: I had soup."
    memory = db.memory("labels")
    memory.add("Hi.", time=START, session="a]\n[b", id="c")
    assert memory.context("Hi") == "[2026-01-01 04:00 PST, session a b, id c] User: Hi."


def test_a_memory_may_have_a_zone_of_its_own(db, meals):
    tokyo = db.memory("meals", zone="Asia/Tokyo")
    for memory in (tokyo, tokyo.at(seq=3)):
        assert memory.context("soup", k=1).startswith("[2026-03-13 12:00 JST, ")
        assert dated_hits(memory, "on 13 March 2026", k=1) == ["User: I had soup."]
    fork = tokyo.fork("what-if")
    assert fork.context("soup", k=1).startswith("[2026-03-13 12:00 JST, ")
    assert meals.context("soup", k=1).startswith("[2026-03-12 20:00 PDT, ")
    with pytest.raises(QueryError, match="Mars/Olympus"):
        db.memory("meals", zone="Mars/Olympus")


def test_a_question_for_nothing_but_a_time_is_restricted_to_it_in_evolvable_mode(long):
    hits = long.search("What did we talk about on 30 January?", k=50, mode="evolvable")
    assert {hit.record.time.date() for hit in hits} == {datetime(2026, 1, 30).date()}
    assert set(hits[0].parts) == {"evolvable"}
    hits = long.search("What did we talk about on 22 March?", k=50, mode="evolvable")
    assert len(hits) == 50  # nothing was said then


def test_a_turn_that_was_added_late_is_in_a_context_at_the_time_it_was_said(meals):
    meals.add("I had figs.", time="2026-03-01T20:00:00Z", id="figs")
    context = meals.context("What did I have?")
    assert [line.rpartition(" ")[2] for line in context.splitlines()] == ["figs.", "sushi.", "ramen.", "soup."]  # fmt: skip
    assert context.ids[0] == "figs"


def words(text):
    return len(text.split())


@pytest.mark.parametrize("budget", [12, 20, 100])
def test_the_best_turn_is_cut_to_the_budget_around_what_matters(db, budget):
    memory = db.memory("recipes")
    steps = [f"Step {n}: fold and press." for n in range(50)]
    memory.add(" ".join([*steps, "Add the saffron.", *steps]), id="recipe")
    for query in ("saffron", "When do I add the saffron?"):
        context = memory.context(query, max_tokens=budget, count_tokens=words)
        assert words(context) <= budget
        assert "saffron" in context.lower()
        assert context.count(CUT) == 2
        assert context.ids == ("recipe",)


def test_a_cut_turn_leaves_room_for_others(db):
    memory = db.memory("recipes")
    memory.add("Dumplings dumplings: " + "fold the dumplings. " * 100, id="recipe")
    memory.add("Something else.", id="other")
    context = memory.context("dumplings", max_tokens=40, count_tokens=words)
    assert set(context.ids) == {"recipe", "other"}
    assert words(context) <= 40


def test_a_counter_under_which_lines_cost_more_together_is_obeyed(meals):
    def count(text):
        return len(text.splitlines()) ** 2

    context = meals.context("What did I have?", max_tokens=5, count_tokens=count)
    assert len(context.splitlines()) == 2


def test_a_part_begins_with_the_name_of_its_speaker():
    text = Turn(user="Hello. How are you?", assistant="Well. The cat is ill. Bye.").text
    place = text.index("Assistant")
    assert excerpt(text, "cat", lambda part: len(part) < 35, [0, place]) == (
        "Assistant: […] The cat is ill. […]"
    )
    assert excerpt(text, "hello", lambda part: len(part) < 17, [0, place]) == "User: Hello. […]"


def test_text_without_spaces_is_cut_between_characters():
    assert excerpt("User: " + "x" * 100, "y", lambda part: len(part) <= 20) == f"User: {'x' * 10} {CUT}"  # fmt: skip
    assert excerpt("User: abc", "y", lambda part: False) is None
