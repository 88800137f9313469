"""What filters mean, and that nothing given as one is ever read as SQL."""

from __future__ import annotations

import copy
import math
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evomem.errors import QueryError
from evomem.records import Turn
from evomem.store import Filter
from evomem.where import MAX_DEPTH, MAX_LEVELS, MAX_TESTS, MAX_TOGETHER, OPERATORS, read_where
from tests.stores.helpers import DAY, open_at, turn, write

HOSTILE = [
    "", " ", "'", '"', "\\", "`", "%", "_", "$", "$.a", '$."a"', "a.b", "a[0]", "--", "/*", ";", "?", ":p",
    "'; DROP TABLE turns; --", '") OR 1=1 --', "x' OR 'x'='x", "null", "true", "1", "\x1f", "\u2028", "ü", "🎉",
]  # fmt: skip
SCALAR = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([-1.0, 0.0, 0.5, 1.0])
    | st.sampled_from(HOSTILE)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4)
)
KEYS = st.sampled_from([*(text for text in HOSTILE if not text.startswith("$")), "a", "b"])
KEY = st.sampled_from(["a", "b"]) | KEYS
METADATA = st.dictionaries(
    KEY,
    st.recursive(
        SCALAR,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(KEYS | st.just("$eq"), inner, max_size=2)
            | st.dictionaries(KEY, inner, max_size=2)
        ),
        max_leaves=5,
    ),
    max_size=3,
)
ORDERED = {
    "$gt": lambda a, b: a > b,
    "$gte": lambda a, b: a >= b,
    "$lt": lambda a, b: a < b,
    "$lte": lambda a, b: a <= b,
}


ABSENT = object()


def kind(value):
    """JSON values compare within these groups only."""
    if value is None or isinstance(value, bool):
        return repr(value)
    if isinstance(value, list | dict):
        return "no scalar"
    return "text" if isinstance(value, str) else "number"


def number(value):
    """Numbers as they count in metadata: beyond 64 bits they are floats."""
    return float(value) if isinstance(value, int) and not -(2**63) <= value < 2**63 else value


def equal(value, operand):
    return value is not ABSENT and kind(value) == kind(operand) and number(value) == number(operand)


def holds(value, condition):
    """The documented meaning, in Python: whether a value meets a condition."""
    tests = condition if isinstance(condition, dict) else {"$eq": condition}
    return all(passes(value, name, operand) for name, operand in tests.items())


def passes(value, name, operand):
    if name == "$exists":
        return (value is not ABSENT) == operand
    if name == "$eq":
        return equal(value, operand)
    if name == "$in":
        return any(equal(value, item) for item in operand)
    if name in ("$ne", "$nin"):
        return not passes(value, {"$ne": "$eq", "$nin": "$in"}[name], operand)
    if name in ORDERED:
        return compares(value, name, operand)
    if name == "$contains":
        return isinstance(value, list) and any(holds(item, operand) for item in value)
    if name == "$not":
        return not holds(value, operand)
    if name in ("$and", "$or"):
        return (all if name == "$and" else any)(holds(value, item) for item in operand)
    return holds(value.get(name, ABSENT) if isinstance(value, dict) else ABSENT, operand)


def compares(value, name, operand):
    if value is ABSENT or kind(value) != kind(operand):
        return False
    if isinstance(operand, str):
        return ORDERED[name](value.encode(), operand.encode())
    return ORDERED[name](number(value), number(operand))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def empty(request):
    server = request.param == "postgresql"
    store, _ = open_at(request.getfixturevalue("new_schema")() if server else ":memory:")
    yield store
    store.close()


TEST = st.one_of(
    SCALAR,
    st.fixed_dictionaries({"$eq": SCALAR}),
    st.fixed_dictionaries({"$ne": SCALAR}),
    st.fixed_dictionaries({"$in": st.lists(SCALAR, max_size=3)}),
    st.fixed_dictionaries({"$nin": st.lists(SCALAR, max_size=3)}),
    st.fixed_dictionaries({"$exists": st.booleans()}),
    st.dictionaries(
        st.sampled_from(sorted(ORDERED)),
        SCALAR.filter(lambda value: kind(value) in ("text", "number")),
        min_size=1,
        max_size=2,
    ),
)


def combined(inner):
    return (
        st.fixed_dictionaries({"$and": st.lists(inner, min_size=1, max_size=2)})
        | st.fixed_dictionaries({"$or": st.lists(inner, min_size=1, max_size=2)})
        | st.fixed_dictionaries({"$not": inner})
    )


CONDITION = st.recursive(
    TEST,
    lambda inner: (
        combined(inner)
        | st.fixed_dictionaries({"$contains": inner})
        | st.dictionaries(KEY, inner, min_size=1, max_size=2)
    ),
    max_leaves=4,
)
PLAIN = st.dictionaries(KEY, CONDITION, min_size=1, max_size=2)
WHERE = st.recursive(PLAIN, combined, max_leaves=3)


def about(data, value):
    """Draw a condition that is close to a value that is there."""
    if isinstance(value, list) and value and data.draw(st.booleans()):
        return {"$contains": about(data, data.draw(st.sampled_from(value)))}
    if isinstance(value, dict) and value and data.draw(st.booleans()):
        key = data.draw(st.sampled_from(sorted(value)))
        return {"$exists": True} if key.startswith("$") else {key: about(data, value[key])}
    if isinstance(value, list | dict):
        return data.draw(CONDITION)
    listed = data.draw(st.permutations([value, *data.draw(st.lists(SCALAR, max_size=4))]))
    name = data.draw(st.sampled_from(["$in", "$nin"]))
    ordered = [{name: value} for name in ORDERED if kind(value) in ("text", "number")]
    return data.draw(st.sampled_from([value, {"$ne": value}, {name: listed}, *ordered]))


@settings(max_examples=80)
@given(metadata=st.lists(METADATA, max_size=4), wheres=st.lists(WHERE, max_size=3), data=st.data())
def test_conditions_on_metadata_mean_what_the_documentation_says(empty, metadata, wheres, data):
    memory = empty.make_memory((str(len(empty.memories())),))
    turns = [turn("x", n, metadata=values) for n, values in enumerate(metadata, start=1)]
    view = write(empty, memory, turns)
    for values in metadata:
        for key, value in values.items():
            wheres.append({key: about(data, value)})
            wheres.append({"$not": wheres[-1]})
    for where in wheres:
        actual = empty.select(view, Filter(where=where)).allowed
        expected = [n for n, m in enumerate(metadata, start=1) if holds(m, where)]
        assert ([] if actual is None else actual.tolist()) == expected, where
    if metadata:
        assert empty.count(view) == len(metadata)


def test_a_condition_is_about_a_list_an_object_or_a_date_as_such(empty):
    memory = empty.make_memory(("examples",))
    rows = [
        {"tags": ["drink", "hot"], "author": {"name": "Ann", "born": 1990}, "when": "2026-01-05"},
        {"tags": ["weather"], "author": {"name": "Bob"}, "when": "2026-03-09T10:00:00+00:00"},
        {"tags": "drink", "items": [{"n": 1}, {"n": 5}], "a.b": 1},
    ]
    view = write(empty, memory, [turn("x", n, metadata=values) for n, values in enumerate(rows, 1)])

    def select(where):
        return empty.select(view, Filter(where=where)).allowed.tolist()

    assert select({"tags": {"$contains": "drink"}}) == [1]
    assert select({"tags": {"$not": {"$contains": "drink"}}}) == [2, 3]
    assert select({"$or": [{"tags": "drink"}, {"tags": {"$contains": "drink"}}]}) == [1, 3]
    assert select({"tags": {"$contains": {"$in": ["hot", "weather"]}}}) == [1, 2]
    assert select({"author": {"name": "Ann"}}) == [1]
    assert select({"author": {"born": {"$lt": 2000}, "name": {"$ne": "Bob"}}}) == [1]
    assert select({"author": {"born": {"$exists": False}}}) == [2, 3]
    assert select({"when": {"$gte": "2026-02-01"}}) == [2]
    assert select({"when": {"$gte": "2026-01-05", "$lt": "2026-02"}}) == [1]
    assert select({"when": {"$or": [{"$lt": "2026-02"}, {"$exists": False}]}}) == [1, 3]
    assert select({"items": {"$contains": {"n": {"$gt": 4}}}}) == [3]
    assert select({"a.b": 1}) == [3]
    assert select({"a": {"b": 1}}) == []
    assert select({"$not": {"$and": [{"tags": "drink"}, {"a.b": 1}]}}) == [1, 2]


def test_as_many_conditions_as_are_allowed_are_one_statement(empty):
    memory = empty.make_memory(("together",))
    rows = [{"n": n} for n in (3, MAX_TOGETHER - 1, MAX_TOGETHER)]
    view = write(empty, memory, [turn("x", n, metadata=values) for n, values in enumerate(rows, 1)])
    one_of = [{"n": n} for n in range(MAX_TOGETHER)]
    assert empty.select(view, Filter(where={"$or": one_of})).allowed.tolist() == [1, 2]
    assert empty.select(view, Filter(where={"$not": {"$or": one_of}})).allowed.tolist() == [3]
    deep: dict[str, Any] = {"$exists": False}
    for _ in range(MAX_LEVELS - 1):
        deep = {"n": deep}
    assert empty.select(view, Filter(where={"n": deep})).allowed.tolist() == [1, 2, 3]
    alternating: dict[str, Any] = {"n": {"$nin": [1, "x"]}}
    for depth in range(MAX_DEPTH - 3):  # and a test in a key in a $not
        name = "$and" if depth % 2 else "$or"
        alternating = {name: [alternating, {"$not": {"n": {"$nin": [2, "y"]}}}]}
    assert empty.select(view, Filter(where=alternating)).allowed.tolist() == []
    five = {"$and": [{"n": {"$ne": n}} for n in range(MAX_TESTS // 5)]}
    where = {"$and": [five] * 5}
    with pytest.raises(QueryError, match="inside one another"):
        empty.select(view, Filter(where=where))
    keys = {f"key {n}": {"$ne": n} for n in range(MAX_TESTS)}
    assert empty.select(view, Filter(where=keys)).allowed.tolist() == [1, 2, 3]


@settings(max_examples=80)
@given(where=WHERE, name=st.text(max_size=5).map(lambda text: "$" + text), data=st.data())
def test_an_unknown_operator_is_refused_wherever_it_is(where, name, data):
    if name in OPERATORS:
        return
    places = []

    def collect(condition):
        if isinstance(condition, dict):
            places.append(condition)
        inner = condition.values() if isinstance(condition, dict) else condition
        for item in inner if isinstance(condition, dict | list) else ():
            collect(item)

    where = copy.deepcopy(where)
    collect(where)
    data.draw(st.sampled_from(places))[name] = 1
    with pytest.raises(QueryError, match="operators are"):
        read_where(where)


def test_equal_values_are_found_however_json_writes_them(empty):
    values = [
        0,
        -0.0,
        3,
        3.0,
        -3,
        30,
        0.1,
        1e-7,
        2**53,
        2.0**53,
        10**22,
        1e22,
        'é"\\',
        "3",
        True,
        None,
    ]
    memory = empty.make_memory(("written",))
    view = write(empty, memory, [turn("x", n, metadata={"é": v}) for n, v in enumerate(values, 1)])
    for value in values:
        places = [place for place, other in enumerate(values, 1) if equal(other, value)]
        assert empty.select(view, Filter(where={"é": value})).allowed.tolist() == places


def test_types_are_not_mixed_up(empty):
    values = [True, 1, "1", 1.0, None, [1], {"a": 1}]
    memory = empty.make_memory(("types",))
    view = write(empty, memory, [turn("x", n, metadata={"k": v}) for n, v in enumerate(values, 1)])

    def select(test):
        return empty.select(view, Filter(where={"k": test})).allowed.tolist()

    assert select(True) == [1]
    assert select(1) == select(1.0) == [2, 4]
    assert select("1") == [3]
    assert select(None) == [5]
    assert select({"$gte": 1}) == [2, 4]
    assert select({"$gte": ""}) == [3]
    assert select({"$ne": 1}) == [1, 3, 5, 6, 7]
    assert select({"$nin": []}) == [1, 2, 3, 4, 5, 6, 7]
    assert select({"$exists": True, "$nin": [True, None]}) == [2, 3, 4, 6, 7]
    assert empty.select(view, Filter(where={"gone": {"$ne": 1}})).allowed.tolist() == [
        1,
        2,
        3,
        4,
        5,
        6,
        7,
    ]
    assert empty.select(view, Filter(where={"a": {"$exists": True}})).allowed.tolist() == []


MANY = 20_000


@pytest.mark.parametrize(
    "values",
    [
        range(MANY),
        [f"value {n}" for n in range(MANY)],
        [n + 0.5 for n in range(MANY)],
        [2**62 + n for n in range(MANY)],
        [2**64 + 2**20 * n for n in range(MANY)],
        [item for n in range(MANY // 4) for item in (n, str(n), n % 2 == 0, None)],
    ],
    ids=["whole", "text", "fractions", "large", "beyond 64 bits", "mixed"],
)
def test_a_list_may_have_any_number_of_values(empty, values):
    there = [*list(values)[:: MANY // 5], 1e300, "else", False, 10**30, None, 2**62 - 1]
    memory = empty.make_memory((f"many {values[1]}",))
    view = write(empty, memory, [turn("x", n, metadata={"k": v}) for n, v in enumerate(there, 1)])
    for name in ("$in", "$nin"):
        chosen = empty.select(view, Filter(where={"k": {name: values}})).allowed.tolist()
        wanted = {(kind(value), number(value)) for value in values}
        inside = [(kind(value), number(value)) in wanted for value in there]
        assert chosen == [n for n, here in enumerate(inside, 1) if here == (name == "$in")]


def test_infinity_is_compared_as_any_number(empty):
    memory = empty.make_memory(("infinite",))
    values = [1e308, 10**400, -(10**400), "Infinity"]
    view = write(empty, memory, [turn("x", n, metadata={"k": v}) for n, v in enumerate(values, 1)])

    def select(test):
        return empty.select(view, Filter(where={"k": test})).allowed.tolist()

    assert select(math.inf) == select({"$in": [math.inf, 7]}) == [2]
    assert select({"$in": [-math.inf, 1e308]}) == [1, 3]
    assert select({"$in": ["Infinity"]}) == [4]


def test_a_filter_may_name_hundreds_of_keys(empty):
    memory = empty.make_memory(("keys",))
    full = {f"key {n}": n for n in range(200)}
    rows = [full, {**full, "key 199": -1}, {**full, "key 0": -1}, {}]
    view = write(empty, memory, [turn("x", n, metadata=values) for n, values in enumerate(rows, 1)])
    assert empty.select(view, Filter(where=full)).allowed.tolist() == [1]
    lists = {key: {"$in": [value, "x", None, True]} for key, value in full.items()}
    assert empty.select(view, Filter(where=lists)).allowed.tolist() == [1]
    absent = {key: {"$exists": False} for key in full}
    assert empty.select(view, Filter(where=absent)).allowed.tolist() == [4]


def test_the_other_conditions(empty):
    memory = empty.make_memory(("others",))
    view = write(
        empty,
        memory,
        [
            Turn(user="a", id="1", time=DAY[1], session="s", speaker="Ann"),
            Turn(assistant="b", id="2", time=DAY[2], session="'; --"),
            Turn(user="a", assistant="b", id="3", time=DAY[3]),
        ],
    )

    def select(**fields):
        return empty.select(view, Filter(**fields)).allowed.tolist()

    assert select(since=DAY[2]) == [2, 3]
    assert select(until=DAY[2]) == [1]
    assert select(session="s") == [1]
    assert select(speaker="Ann") == [1]
    assert select(speaker="ann") == []
    assert select(session="'; --") == [2]
    assert [select(role=r) for r in ("user", "assistant", "exchange")] == [[1], [2], [3]]
    assert select(since=DAY[1], until=DAY[3], role="assistant", session="'; --") == [2]
    empty.hide(view, [2])
    assert select(since=DAY[2]) == [3]


def deep(levels):
    return {"a": deep(levels - 1)} if levels else {"a": 1}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"where": {"a": {"$regex": "x"}}}, r"'\$regex'; the operators are"),
        ({"where": {"a": {"$x' OR 1=1": 1}}}, "operators are"),
        ({"where": {"$regex": "x"}}, r"where has '\$regex'; the operators are"),
        ({"where": {"a": {"b": {"$regex": "x"}}}}, r"where\['a'\]\['b'\] has '\$regex'"),
        ({"where": {"$or": [{"a": 1}, {"a": {"$regex": 1}}]}}, r"has '\$regex'; the operators"),
        ({"where": {"a": {"gte": 4}}}, r"operators begin with \$"),
        ({"where": {"$gte": 4}}, "without a key"),
        ({"where": {"$and": []}}, "not empty"),
        ({"where": {"$or": {"a": 1}}}, "takes a list"),
        ({"where": {"$or": [1]}}, "takes conditions"),
        ({"where": {"$not": 1}}, "takes conditions"),
        ({"where": {"a": {}}}, "is empty"),
        ({"where": {"a": {"$contains": [1]}}}, "got list"),
        ({"where": {"a": {"$in": iter([1])}}}, "takes a list"),
        ({"where": {"a": datetime(2026, 1, 5)}}, "got datetime"),
        ({"where": deep(40)}, "deeper"),
        ({"where": deep(MAX_LEVELS)}, "levels deep"),
        ({"where": [("a", 1)]}, "takes a mapping"),
        ({"speaker": "a\x00b"}, "NUL"),
        ({"where": {"a": [1]}}, "got list"),
        ({"where": {"a": object()}}, "got object"),
        ({"where": {"a": b"x"}}, "got bytes"),
        ({"where": {"a": math.nan}}, "NaN"),
        ({"where": {"a": 10**400}}, "too large"),
        ({"where": {"a": {"$in": [1, math.nan]}}}, "NaN"),
        ({"where": {"a": {"$nin": [1, 10**5000]}}}, "too large"),
        ({"where": {"a": {"$in": 10**5000}}}, "takes a list"),
        ({"where": {"a": {"$exists": 10**5000}}}, "true or false"),
        ({"where": {"a": {"$in": ["x", b"x"]}}}, "got bytes"),
        ({"where": {"a": {"$in": [[1]]}}}, "got list"),
        ({"where": {str(n): n for n in range(1001)}}, "1001 conditions, 1000 are allowed"),
        ({"where": {"a": {"$in": "abc"}}}, "takes a list"),
        ({"where": {"a": {"$in": 3}}}, "takes a list"),
        ({"where": {"a": {"$exists": 1}}}, "true or false"),
        ({"where": {"a": {"$gt": None}}}, "numbers or strings"),
        ({"where": {"a": {"$gt": True}}}, "numbers or strings"),
        ({"where": {"a\x00b": 1}}, "NUL"),
        ({"where": {"a": "x\x00y"}}, "NUL"),
        ({"where": {"\ud800": 1}}, "surrogate"),
        ({"where": {"a": {"$in": ["\udfff"]}}}, "surrogate"),
        ({"where": {3: 1}}, "must be strings"),
        ({"session": "\ud800"}, "surrogate"),
        ({"role": "system"}, "role must be"),
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(empty, fields, says):
    view = empty.view(empty.make_memory(("refuse",)))
    with pytest.raises(QueryError, match=says):
        empty.select(view, Filter(**fields))
