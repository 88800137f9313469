from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomem.times.dates import (
    asked_days,
    asked_events,
    asked_sessions,
    asks_only_when,
    nearness,
    written_days,
)

SAID = [date(2023, 5, 1), date(2024, 3, 6)]  # a Monday, a Wednesday


def day(text):
    return date.fromisoformat(text)


@pytest.mark.parametrize(
    ("query", "first", "last"),
    [
        ("What happened on 2024-01-09?", "2024-01-09", "2024-01-09"),
        ("Where was Mei on 09.01.2024?", "2024-01-09", "2024-01-09"),
        ("Where was Mei on 9 Jan 2024?", "2024-01-09", "2024-01-09"),
        ("the 9th of January, 2024", "2024-01-09", "2024-01-09"),
        ("the January 9th, 2024 party", "2024-01-09", "2024-01-09"),
        ("Sept 3 2023", "2023-09-03", "2023-09-03"),
        ("ſept 3 2023", "2023-09-03", "2023-09-03"),
        ("What did I eat last Frİday?", "2024-03-01", "2024-03-01"),
        ("What did I plan in February 2024?", "2024-02-01", "2024-02-29"),
        ("What did I plan in 2023?", "2023-01-01", "2023-12-31"),
        ("What did I eat today?", "2024-03-06", "2024-03-06"),
        ("What did I eat yesterday?", "2024-03-05", "2024-03-05"),
        ("What did I do this week?", "2024-03-04", "2024-03-10"),
        ("What did I do last week?", "2024-02-26", "2024-03-03"),
        ("this month", "2024-03-01", "2024-03-31"),
        ("last month", "2024-02-01", "2024-02-29"),
        ("this year", "2024-01-01", "2024-12-31"),
        ("last year", "2023-01-01", "2023-12-31"),
    ],
)
def test_a_date_in_a_query_is_a_span_of_days(query, first, last):
    assert asked_days(query, SAID) == [(day(first), day(last))]


# Asked on Tuesday, 10 March 2026.
@pytest.mark.parametrize(
    ("query", "first", "last"),
    [
        ("the day before yesterday", "2026-03-08", "2026-03-08"),
        ("two days ago", "2026-03-08", "2026-03-08"),
        ("a couple of days ago", "2026-03-08", "2026-03-08"),
        ("last night", "2026-03-09", "2026-03-09"),
        ("yesterday evening", "2026-03-09", "2026-03-09"),
        ("this morning", "2026-03-10", "2026-03-10"),
        ("last Tuesday", "2026-03-03", "2026-03-03"),
        ("on Tuesday", "2026-03-10", "2026-03-10"),
        ("on Wednesday", "2026-03-04", "2026-03-04"),
        ("this Friday", "2026-03-13", "2026-03-13"),
        ("next Monday", "2026-03-16", "2026-03-16"),
        ("the Monday before last", "2026-03-02", "2026-03-02"),
        ("Monday two weeks ago", "2026-02-23", "2026-02-23"),
        ("last weekend", "2026-03-07", "2026-03-08"),
        ("the week before last", "2026-02-23", "2026-03-01"),
        ("last fortnight", "2026-02-23", "2026-03-08"),
        ("the fortnight before last", "2026-02-09", "2026-02-22"),
        ("next fortnight", "2026-03-16", "2026-03-29"),
        ("last quarter", "2025-10-01", "2025-12-31"),
        ("3 weeks ago", "2026-02-14", "2026-02-20"),
        ("two months ago", "2025-12-26", "2026-01-25"),
        ("twenty-one days ago", "2026-02-17", "2026-02-17"),
        ("the past 3 days", "2026-03-07", "2026-03-10"),
        ("this last week", "2026-03-03", "2026-03-10"),
        ("in the last two weeks", "2026-02-24", "2026-03-10"),
        ("on the 5th", "2026-03-05", "2026-03-05"),
        ("on the 20th", "2026-02-20", "2026-02-20"),
        ("at 2026-03-02T10:00", "2026-03-02", "2026-03-02"),
        ("on 2026/03/02", "2026-03-02", "2026-03-02"),
        ("in 2026-02", "2026-02-01", "2026-02-28"),
        ("in 2026-W10", "2026-03-02", "2026-03-08"),
        ("on 12/25/2025", "2025-12-25", "2025-12-25"),
        ("on 25/12/2025", "2025-12-25", "2025-12-25"),
        ("in the spring", "2026-03-01", "2026-05-31"),
        ("last summer", "2025-06-01", "2025-08-31"),
        ("in the winter of 2024", "2024-12-01", "2025-02-28"),
        ("last December", "2025-12-01", "2025-12-31"),
        ("late February", "2026-02-20", "2026-02-28"),
        ("the beginning of 2026", "2026-01-01", "2026-05-01"),
        ("last Christmas", "2025-12-25", "2025-12-25"),
        ("since January", "2026-01-01", "2026-03-10"),
        ("since last Monday", "2026-03-09", "2026-03-10"),
        ("after 3 March", "2026-03-04", "2026-03-10"),
        ("before June 2026", "0001-01-01", "2026-05-31"),
        ("until yesterday", "0001-01-01", "2026-03-09"),
        ("between 1 and 5 March 2026", "2026-03-01", "2026-03-05"),
        ("between March 1 and March 5", "2026-03-01", "2026-03-05"),
        ("March 1-5", "2026-03-01", "2026-03-05"),
        ("from 3 March to 7 April 2026", "2026-03-03", "2026-04-07"),
        ("from March to May 2026", "2026-03-01", "2026-05-31"),
        ("from November to February", "2025-11-01", "2026-02-28"),
        ("between Monday and Wednesday", "2026-03-02", "2026-03-04"),
        ("from 2024 to 2025", "2024-01-01", "2025-12-31"),
        ("on Friday, 6 March", "2026-03-06", "2026-03-06"),
        ("on Friday, March 6th", "2026-03-06", "2026-03-06"),
        ("on Friday the 6th of March 2026", "2026-03-06", "2026-03-06"),
        ("on the third of March", "2026-03-03", "2026-03-03"),
        ("on March the 3rd", "2026-03-03", "2026-03-03"),
        ("on January the thirty-first", "2026-01-31", "2026-01-31"),
        ("on the twenty second of January", "2026-01-22", "2026-01-22"),
        ("in 3/2026", "2026-03-01", "2026-03-31"),
        ("half a year ago", "2025-08-26", "2025-09-25"),
        ("six months ago", "2025-08-26", "2025-09-25"),
        ("the night before last", "2026-03-08", "2026-03-08"),
        ("in these last 3 days", "2026-03-07", "2026-03-10"),
        ("in January", "2026-01-01", "2026-01-31"),
        ("in 2026", "2026-01-01", "2026-12-31"),
        ("before March", "0001-01-01", "2026-02-28"),
        ("between 1 and 5 March", "2026-03-01", "2026-03-05"),
        ("from January to March", "2026-01-01", "2026-03-31"),
        ("from 3 March on", "2026-03-03", "2026-03-10"),
        ("in the email from 3 March", "2026-03-03", "2026-03-03"),
        ("at 2026-03-02T10:00:00+01:00", "2026-03-02", "2026-03-02"),
    ],
)
def test_relative_days_and_ranges_count_from_the_day_of_the_question(query, first, last):
    asked = asked_days(f"What did I do {query}?", [date(2026, 1, 2)], date(2026, 3, 10))
    assert asked == [(day(first), day(last))]


@pytest.mark.parametrize(
    "query",
    [
        "May I ask something?",
        "What may I eat?",
        "How many may 3 people order?",
        "Did I march 5 miles?",
        "the march of time",
        "Which march did the band play?",
        "What did I write to May?",
        "Did June and April meet?",
        "What did I get from August?",
        "Give me a second.",
        "What was the second thing I said?",
        "Who came second in the race?",
        "Is the second floor mine?",
        "Which spring in my bed is broken?",
        "What is in spring rolls?",
        "Where is the spring of that river?",
        "How did I hurt myself in... well, after the fall?",
        "What did I spring on them?",
        "Where do I summer?",
        "What is my dose today?",
        "What should I cook tonight?",
        "What am I doing this week?",
        "Where is my class on Monday?",
        "When did I block time on Tuesday and Thursday mornings?",
        "Do I work Monday mornings?",
        "What do I do on Sundays?",
        "What are my Christmas plans?",
        "Where did I go during spring break?",
        "When was the last day of school?",
        "What did I do the next day?",
        "Who spoke in the last week of school?",
        "Do I owe 2000 dollars?",
        "Did I pay $2024?",
        "Is my room 305?",
        "What did we do after I moved?",
        "What did I do the other day?",
        "What do I do for the weekend?",
        "What is the date of my sat exam?",
        "Is mon ami a cafe?",
        "Did the sun shine?",
        "When is my session with the coach?",
        "What is my first language?",
        "Whom did I call first?",
        "31.02.2024",
        "2024-13-01",
    ],
)
def test_ordinary_words_are_not_times(query):
    assert asked_days(query, [date(2024, 1, 2), date(2026, 1, 2)], date(2026, 3, 10)) == []
    assert asked_sessions(query) == []


# Asked on Tuesday, 10 March 2026.
@pytest.mark.parametrize(
    ("query", "first", "last"),
    [
        ("two days after 3 March", "2026-03-05", "2026-03-05"),
        ("the day before 3 March", "2026-03-02", "2026-03-02"),
        ("the night before last Friday", "2026-03-05", "2026-03-05"),
        ("the day before last Christmas", "2025-12-24", "2025-12-24"),
        ("the week after 1 February", "2026-02-02", "2026-02-08"),
        ("the month before 1 March", "2026-02-01", "2026-02-28"),
        ("a week before the 20th of February", "2026-02-10", "2026-02-16"),
        ("a fortnight prior to 1 March", "2026-02-12", "2026-02-18"),
        ("since two days after 3 March", "2026-03-05", "2026-03-10"),
        ("earlier today", "2026-03-10", "2026-03-10"),
        ("earlier this morning", "2026-03-10", "2026-03-10"),
        ("earlier in the morning", "2026-03-10", "2026-03-10"),
    ],
)
def test_days_may_be_counted_from_a_date(query, first, last):
    asked = asked_days(f"What did I do {query}?", [date(2026, 1, 2)], date(2026, 3, 10))
    assert asked == [(day(first), day(last))]


@pytest.mark.parametrize(
    ("query", "event", "happened", "first", "last"),
    [
        ("What did I do a year before I moved?", "I moved", "2026-03-01", "2025-01-15", "2025-04-15"),
        ("Where did I work one year before we moved to Oslo?", "we moved to Oslo", "2026-03-01", "2025-01-15", "2025-04-15"),
        ("About two weeks before the wedding, what did I buy?", "the wedding", "2026-03-01", "2026-02-12", "2026-02-18"),
        ("What was said the day after my exam?", "my exam", "2026-03-01", "2026-03-02", "2026-03-02"),
        ("What did I eat the night before the race?", "the race", "2026-03-01", "2026-02-28", "2026-02-28"),
        ("What did we plan the week after Kate arrived?", "Kate arrived", "2026-03-01", "2026-03-02", "2026-03-08"),
        ("How was I six months after I quit my job?", "I quit my job", "2026-03-01", "2026-08-17", "2026-09-16"),
    ],
)  # fmt: skip
def test_days_may_be_counted_from_an_event(query, event, happened, first, last):
    [asked] = asked_events(query)
    assert asked.text == event
    assert asked.offset.of((day(happened),) * 2) == (day(first), day(last))
    assert asked_days(query, SAID) == []


@pytest.mark.parametrize(
    "query",
    [
        "What should I pack two days before the trip?",
        "What happened before I moved?",
        "What happened a year before that?",
        "How many days before I can leave?",
        "What did I do a year before 2020?",
        "What did I do zero days before the exam?",
        "the day before yesterday",
    ],
)
def test_these_are_counted_from_no_event(query):
    assert asked_events(query) == []


@pytest.mark.parametrize(
    ("query", "only"),
    [
        ("What did we chat about over the last 3 days?", True),
        ("What did we discuss earlier this morning?", True),
        ("What did we talk about a week after I moved?", True),
        ("Ann: I see in my notes that we talked in May.\nBen: Yes!\nAnn: Can you sum it up?", True),
        ("We spoke on Monday. I forgot what it was about. Please remind me.", True),
        ("We met Ann on Monday. What did we talk about?", False),
        ("We talked about cats on Monday. Please summarize it.", False),
        ("We talked on Monday. Which films did you recommend?", False),
        ("Hi! What did I like on Monday?", False),
        ("We talked on Monday. It was nice.", False),
    ],
)
def test_a_query_may_ask_for_nothing_but_a_time(query, only):
    assert asks_only_when(query, [date(2026, 1, 2)], date(2026, 3, 10)) is only


def test_today_is_read_in_questions_about_the_past():
    for query in ("What did I eat today?", "Can you tell me what we discussed today?"):
        assert asked_days(query, [], date(2026, 3, 10)) == [(day("2026-03-10"),) * 2]
    assert asked_days("Where was I on Monday?", [], date(2026, 3, 10)) == [(day("2026-03-09"),) * 2]


def test_today_is_the_newest_day_unless_it_is_given():
    assert asked_days("yesterday", [day("2026-03-10")]) == [(day("2026-03-09"),) * 2]


@pytest.mark.parametrize(
    ("query", "sessions"),
    [
        ("What did I say on our first call?", [(0, 0)]),
        ("What was the plan in our third conversation?", [(2, 2)]),
        ("What came up in the 12th session?", [(11, 11)]),
        ("What came up in session 4?", [(3, 3)]),
        ("What did we discuss in the last session?", [(-1, -1)]),
        ("What did we talk about last time?", [(-1, -1)]),
        ("What did I want the last time we spoke?", [(-1, -1)]),
        ("What was decided in the session before last?", [(-2, -2)]),
        ("What did I ask three calls ago?", [(-3, -3)]),
        ("What was said in our eleventh session?", [(10, 10)]),
        ("What did I decide in the twenty-third conversation?", [(22, 22)]),
        ("between the twelfth and the twentieth session", [(11, 19)]),
        ("What did we talk about last session?", [(-1, -1)]),
        ("Summarise our last two meetings.", [(-2, -1)]),
        ("Summarise the first 3 sessions.", [(0, 2)]),
        ("What changed between the second and the fourth session?", [(1, 3)]),
        ("What changed in sessions 2 to 5?", [(1, 4)]),
        ("What was my first job?", []),
        ("When did I last call my mother?", []),
        ("Call me in 2 sessions' time, session 0", []),
    ],
)
def test_a_query_may_name_sessions_by_their_place(query, sessions):
    assert asked_sessions(query) == sessions


def test_a_date_without_a_year_is_one_of_the_years_that_were_spoken_in():
    spans = asked_days("the April 5 meeting", SAID)
    assert spans == [(day("2023-04-05"),) * 2, (day("2024-04-05"),) * 2]
    assert asked_days("plans in May", SAID)[1] == (day("2024-05-01"), day("2024-05-31"))


@pytest.mark.parametrize(
    "query",
    [
        "May I ask something?",
        "the march of time",
        "31.02.2024",
        "2024-13-01",
        "03/04/2024 or so"[:10],
        "room 2100",
        "",
    ],
)
def test_a_query_without_a_day_gives_no_day(query):
    assert [span for span in asked_days(query, SAID) if span[0] == span[1]] == []


def test_where_nothing_was_said_nothing_is_meant():
    assert asked_days("yesterday", []) == []


WORDS = st.sampled_from(
    "between and from to since before after until last next this the week month year May March 5 "
    "31 2024 Monday ago two a days weekend spring Christmas yesterday on in 2024-02-30 0 session".split()
)


@given(
    st.text() | st.lists(WORDS).map(" ".join),
    st.lists(st.dates(date(2, 1, 1), date(9998, 1, 1)), min_size=1),
)
def test_any_text_can_be_a_query(query, days):
    asked_sessions(query)
    asks_only_when(query, days)
    written_days(query, days)
    for event in asked_events(query):
        assert event.text
    for first, last in asked_days(query, days):
        assert first <= last


@given(
    st.sampled_from(["today", "yesterday", "last week", "this month", "last month", "last year"]),
    st.sampled_from([date.min, date.max]) | st.dates(),
)
def test_the_first_and_the_last_day_of_the_calendar_are_days_too(words, newest):
    asked_days(words, [newest])


@given(st.dates(), st.dates())
def test_nearness_is_greatest_on_the_day_itself(one, other):
    assert nearness(one, [(one, one)]) == 1
    assert 0 <= nearness(other, [(one, one)]) <= 1
