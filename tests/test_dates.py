from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomem.dates import asked_days, nearness

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
def test_what_names_no_day_names_none(query):
    assert [span for span in asked_days(query, SAID) if span[0] == span[1]] == []


def test_where_nothing_was_said_nothing_is_meant():
    assert asked_days("yesterday", []) == []


@given(st.text(), st.lists(st.dates(date(2, 1, 1), date(9998, 1, 1)), min_size=1))
def test_any_text_can_be_a_query(query, days):
    for first, last in asked_days(query, days):
        assert first <= last


@given(
    st.sampled_from(["today", "yesterday", "last week", "this month", "last month", "last year"]),
    st.sampled_from([date.min, date.max]) | st.dates(),
)
def test_the_first_and_the_last_day_of_the_calendar_are_days_too(words, newest):
    asked_days(words, [newest])


@given(st.dates(), st.dates())
def test_nothing_is_nearer_than_the_day_itself(one, other):
    assert nearness(one, [(one, one)]) == 1
    assert 0 <= nearness(other, [(one, one)]) <= 1
