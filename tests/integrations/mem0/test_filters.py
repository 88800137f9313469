"""Mem0's filters, against a plain reading of what they mean."""

from __future__ import annotations

import operator
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evomem.errors import QueryError
from evomem_integrations.mem0.filters import as_where

KEYS = ("a", "b")
VALUES = st.one_of(st.integers(0, 2), st.sampled_from(["x", "y"]), st.booleans(), st.none())
ORDERED = st.one_of(st.integers(0, 2), st.sampled_from(["x", "y"]))
TESTS = st.one_of(
    VALUES,
    st.just("*"),
    st.lists(VALUES, min_size=1, max_size=2),
    st.dictionaries(st.sampled_from(["eq", "ne"]), VALUES, min_size=1),
    st.dictionaries(st.sampled_from(["gt", "gte", "lt", "lte"]), ORDERED, min_size=1, max_size=2),
    st.dictionaries(st.sampled_from(["in", "nin"]), st.lists(VALUES, max_size=2), min_size=1),
)
PLAIN = st.dictionaries(st.sampled_from(KEYS), TESTS, max_size=2)
FILTERS = st.recursive(
    PLAIN,
    lambda inner: st.builds(
        lambda plain, name, parts: {**plain, name: parts},
        PLAIN,
        st.sampled_from(["AND", "OR", "NOT", "$and", "$or", "$not"]),
        st.lists(inner, min_size=1, max_size=2),
    ),
    max_leaves=4,
)
PAYLOADS = st.dictionaries(
    st.sampled_from(KEYS), VALUES | st.lists(VALUES, min_size=1, max_size=2), max_size=2
)
COMPARE = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}


def same(one, other):
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def passes(payload, filters):
    """What a filter means, one payload at a time."""
    return all(passes_part(payload, key, value) for key, value in filters.items())


def passes_part(payload, key, value):
    name = key.lstrip("$").lower()
    if name == "and":
        return all(passes(payload, item) for item in value)
    if name == "or":
        return any(passes(payload, item) for item in value)
    if name == "not":
        return not any(passes(payload, item) for item in value)
    if value == "*":
        return key in payload
    if isinstance(value, list):
        value = {"in": value}
    tests = value if isinstance(value, dict) else {"eq": value}
    return all(passes_test(payload, key, test, operand) for test, operand in tests.items())


def passes_test(payload, key, test, operand):
    """A memory without the key passes nothing; a list passes if one of its elements does."""
    stored = payload.get(key, [])
    return any(
        compares(one, test, operand) for one in (stored if isinstance(stored, list) else [stored])
    )


def compares(stored, test, operand):
    if test in ("ne", "nin"):
        return not compares(stored, {"ne": "eq", "nin": "in"}[test], operand)
    if test in ("eq", "in"):
        return any(same(stored, item) for item in (operand if test == "in" else [operand]))
    comparable = isinstance(stored, str) == isinstance(operand, str)
    if stored is None or isinstance(stored, bool) or not comparable:
        return False
    return COMPARE[test](stored, operand)


names = count()


@settings(max_examples=25)
@given(filters=FILTERS, payloads=st.lists(PAYLOADS, min_size=1, max_size=5))
def test_a_filter_returns_exactly_the_payloads_that_satisfy_it(db, filters, payloads):
    memory = db.memory("filters", str(next(names)))
    for number, payload in enumerate(payloads):
        memory.add("x", id=str(number), metadata=payload)
    result = {record.id for record in memory.history(where=as_where(filters))}
    assert result == {str(n) for n, payload in enumerate(payloads) if passes(payload, filters)}


def test_no_filter_and_all_of_none_hold_always():
    assert as_where(None) == as_where({}) == as_where({"AND": []}) == {}


def test_a_list_is_found_by_its_elements_and_what_has_no_list_by_nothing(db):
    memory = db.memory("filters", "lists")
    memory.add("tea from Assam", metadata={"categories": ["drink", "hot"]})
    memory.add("rain in Bergen", metadata={"categories": ["weather"]})
    memory.add("nothing filed")

    def found(test):
        return [record.seq for record in memory.history(where=as_where({"categories": test}))]

    assert found("drink") == [1]
    assert found({"in": ["drink", "weather"]}) == [1, 2]
    assert found({"ne": "drink"}) == found({"nin": ["drink"]}) == [1, 2]  # "hot" is not "drink"
    assert found({"ne": "weather"}) == [1]
    assert found("*") == [1, 2]
    without = as_where({"NOT": [{"categories": "drink"}]})
    assert [record.seq for record in memory.history(where=without)] == [2, 3]


@pytest.mark.parametrize(
    ("filters", "match"),
    [
        ({"a": {"contains": "x"}}, "does not match substrings"),
        ({"a": {"icontains": "x"}}, "does not match substrings"),
        ({"a": {"near": 1}}, "'near'; the operators are eq, ne"),
        ({"a": {}}, "empty"),
        ({"a": {"in": "xy"}}, "a list of values"),
        ({"OR": []}, "non-empty"),
        ({"NOT": {"a": 1}}, "non-empty"),
        ({"AND": ["a"]}, "a filter must be a mapping"),
        ({7: 1}, "keys must be strings"),
    ],
)
def test_invalid_filters_are_refused(filters, match):
    with pytest.raises(QueryError, match=match):
        as_where(filters)
