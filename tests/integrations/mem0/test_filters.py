"""Mem0's filters, against a plain reading of what they mean."""

from __future__ import annotations

import operator
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evomem.errors import QueryError
from evomem_integrations.mem0.filters import wheres

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
PAYLOADS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=2)
COMPARE = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}


def same(one, other):
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def passes(payload, filters):
    """What a filter means, one payload at a time."""
    return all(passes_part(payload, key, value) for key, value in filters.items())


def passes_part(payload, key, value):
    name = key.lstrip("$").lower()
    if name == "and":
        return all(passes(payload, each) for each in value)
    if name == "or":
        return any(passes(payload, each) for each in value)
    if name == "not":
        return not any(passes(payload, each) for each in value)
    if value == "*":
        return key in payload
    if isinstance(value, list):
        value = {"in": value}
    tests = value if isinstance(value, dict) else {"eq": value}
    return all(passes_test(payload, key, test, operand) for test, operand in tests.items())


def passes_test(payload, key, test, operand):
    if test in ("ne", "nin"):
        return not passes_test(payload, key, {"ne": "eq", "nin": "in"}[test], operand)
    if key not in payload:
        return False
    held = payload[key]
    if test in ("eq", "in"):
        return any(same(held, each) for each in (operand if test == "in" else [operand]))
    comparable = isinstance(held, str) == isinstance(operand, str)
    if held is None or isinstance(held, bool) or not comparable:
        return False
    return COMPARE[test](held, operand)


def mixes(payload, filters):
    """Whether a comparison is denied of a value that it cannot be made with."""
    for key, value in filters.items():
        if isinstance(value, list) and key not in KEYS:
            if any(mixes(payload, each) for each in value):
                return True
        elif isinstance(value, dict) and key in payload:
            for test, operand in value.items():
                held = payload[key]
                odd = held is None or isinstance(held, bool)
                if test in COMPARE and (odd or isinstance(held, str) != isinstance(operand, str)):
                    return True
    return False


names = count()


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(filters=FILTERS, payloads=st.lists(PAYLOADS, min_size=1, max_size=5))
def test_what_is_found_is_what_the_filter_means(db, filters, payloads):
    payloads = [each for each in payloads if not mixes(each, filters)]
    memory = db.memory("filters", str(next(names)))
    for number, payload in enumerate(payloads):
        memory.add("x", id=str(number), metadata=payload)
    found = {r.id for where in wheres(filters) for r in memory.history(where=where)}
    assert found == {str(n) for n, payload in enumerate(payloads) if passes(payload, filters)}


def test_no_filter_is_one_condition_that_always_holds():
    assert wheres(None) == wheres({}) == [{}]


def test_contradictions_need_no_search():
    assert wheres({"AND": [{"a": 1}, {"a": 2}]}) == []
    assert wheres({"AND": [{"a": "*"}], "NOT": [{"a": "*"}]}) == []
    assert wheres({"AND": [{"a": {"gt": 1}}, {"a": {"gt": "x"}}]}) == []


@pytest.mark.parametrize(
    ("filters", "match"),
    [
        ({"a": {"contains": "x"}}, "does not look inside strings"),
        ({"a": {"icontains": "x"}}, "does not look inside strings"),
        ({"a": {"near": 1}}, "'near'; the operators are eq, ne"),
        ({"a": {}}, "empty"),
        ({"a": {"in": "xy"}}, "a list of values"),
        ({"OR": []}, "not empty"),
        ({"NOT": {"a": 1}}, "not empty"),
        ({"AND": ["a"]}, "a filter is a mapping"),
        ({7: 1}, "keys are strings"),
        ({"AND": [{"OR": [{"a": n}, {"b": n}]} for n in range(7)]}, "more than 64"),
    ],
)
def test_what_cannot_be_filtered_is_refused(filters, match):
    with pytest.raises(QueryError, match=match):
        wheres(filters)
