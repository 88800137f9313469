"""What filters mean, and that nothing given as one is ever read as SQL."""

from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evomem.errors import QueryError
from evomem.records import Turn
from evomem.store import Filter
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
KEY = st.sampled_from([*HOSTILE, "a", "b"])
ORDERED = {
    "$gt": lambda a, b: a > b,
    "$gte": lambda a, b: a >= b,
    "$lt": lambda a, b: a < b,
    "$lte": lambda a, b: a <= b,
}


def kind(value):
    """JSON scalars compare within these groups only."""
    if value is None or isinstance(value, bool):
        return repr(value)
    return "text" if isinstance(value, str) else "number"


def number(value):
    """Numbers as they count in metadata: beyond 64 bits they are floats."""
    return float(value) if isinstance(value, int) and not -(2**63) <= value < 2**63 else value


def equal(left, right):
    return kind(left) == kind(right) and number(left) == number(right)


def holds(metadata, key, name, value):
    """The documented meaning, in Python."""
    there = key in metadata
    if name == "$exists":
        return there == value
    if name in ("$eq", "$ne"):
        return (there and equal(metadata[key], value)) == (name == "$eq")
    if name in ("$in", "$nin"):
        return (there and any(equal(metadata[key], v) for v in value)) == (name == "$in")
    if not there or kind(metadata[key]) != kind(value):
        return False
    left, right = metadata[key], value
    if isinstance(value, str):
        return ORDERED[name](left.encode(), right.encode())
    return ORDERED[name](number(left), number(right))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def empty(request):
    server = request.param == "postgresql"
    store, _ = open_at(request.getfixturevalue("new_schema")() if server else ":memory:")
    yield store
    store.close()


TEST = st.one_of(
    st.tuples(st.sampled_from(["$eq", "$ne"]), SCALAR),
    st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(SCALAR, max_size=3)),
    st.tuples(st.just("$exists"), st.booleans()),
    st.tuples(st.sampled_from(sorted(ORDERED)), SCALAR.filter(lambda v: kind(v) in ("text", "number"))),
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(metadata=st.lists(st.dictionaries(KEY, SCALAR, max_size=3), max_size=4), tests=st.lists(st.tuples(KEY, TEST), min_size=1, max_size=2), data=st.data())  # fmt: skip
def test_metadata_conditions_mean_what_is_written(empty, metadata, tests, data):
    memory = empty.make_memory((str(len(empty.memories())),))
    turns = [turn("x", n, metadata=each) for n, each in enumerate(metadata, start=1)]
    view = write(empty, memory, turns)
    for each in metadata:  # and conditions that are close to what is there
        for key, value in each.items():
            tests.append((key, data.draw(TEST)))
            tests.append((key, ("$eq", value)))
            listed = data.draw(st.permutations([value, *data.draw(st.lists(SCALAR, max_size=4))]))
            tests.append((key, (data.draw(st.sampled_from(["$in", "$nin"])), listed)))
    for key, (name, value) in tests:
        got = empty.select(view, Filter(where={key: {name: value}})).tolist()
        expected = [n for n, m in enumerate(metadata, start=1) if holds(m, key, name, value)]
        assert got == expected, (key, name, value)
    if metadata:
        assert empty.count(view) == len(metadata)


def test_types_are_not_mixed_up(empty):
    values = [True, 1, "1", 1.0, None, [1], {"a": 1}]
    memory = empty.make_memory(("types",))
    view = write(empty, memory, [turn("x", n, metadata={"k": v}) for n, v in enumerate(values, 1)])

    def select(test):
        return empty.select(view, Filter(where={"k": test})).tolist()

    assert select(True) == [1]
    assert select(1) == select(1.0) == [2, 4]
    assert select("1") == [3]
    assert select(None) == [5]
    assert select({"$gte": 1}) == [2, 4]
    assert select({"$gte": ""}) == [3]
    assert select({"$ne": 1}) == [1, 3, 5, 6, 7]
    assert select({"$nin": []}) == [1, 2, 3, 4, 5, 6, 7]
    assert select({"$exists": True, "$nin": [True, None]}) == [2, 3, 4, 6, 7]
    assert empty.select(view, Filter(where={"gone": {"$ne": 1}})).tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert empty.select(view, Filter(where={"a": {"$exists": True}})).tolist() == []


MANY = 20_000


@pytest.mark.parametrize(
    "values",
    [
        range(MANY),
        [f"value {n}" for n in range(MANY)],
        [n + 0.5 for n in range(MANY)],
        [2**62 + n for n in range(MANY)],
        [2**64 + 2**20 * n for n in range(MANY)],
        [each for n in range(MANY // 4) for each in (n, str(n), n % 2 == 0, None)],
    ],
    ids=["whole", "text", "fractions", "large", "beyond 64 bits", "mixed"],
)
def test_a_list_may_have_any_number_of_values(empty, values):
    there = [*list(values)[:: MANY // 5], 1e300, "else", False, 10**30, None, 2**62 - 1]
    memory = empty.make_memory((f"many {values[1]}",))
    view = write(empty, memory, [turn("x", n, metadata={"k": v}) for n, v in enumerate(there, 1)])
    for name in ("$in", "$nin"):
        chosen = empty.select(view, Filter(where={"k": {name: values}})).tolist()
        wanted = {(kind(value), number(value)) for value in values}
        inside = [(kind(value), number(value)) in wanted for value in there]
        assert chosen == [n for n, here in enumerate(inside, 1) if here == (name == "$in")]


def test_infinity_is_compared_as_any_number(empty):
    memory = empty.make_memory(("infinite",))
    values = [1e308, 10**400, -(10**400), "Infinity"]
    view = write(empty, memory, [turn("x", n, metadata={"k": v}) for n, v in enumerate(values, 1)])

    def select(test):
        return empty.select(view, Filter(where={"k": test})).tolist()

    assert select(math.inf) == select({"$in": [math.inf, 7]}) == [2]
    assert select({"$in": [-math.inf, 1e308]}) == [1, 3]
    assert select({"$in": ["Infinity"]}) == [4]


def test_a_filter_may_name_hundreds_of_keys(empty):
    memory = empty.make_memory(("keys",))
    full = {f"key {n}": n for n in range(200)}
    rows = [full, {**full, "key 199": -1}, {**full, "key 0": -1}, {}]
    view = write(empty, memory, [turn("x", n, metadata=each) for n, each in enumerate(rows, 1)])
    assert empty.select(view, Filter(where=full)).tolist() == [1]
    lists = {key: {"$in": [value, "x", None, True]} for key, value in full.items()}
    assert empty.select(view, Filter(where=lists)).tolist() == [1]
    absent = {key: {"$exists": False} for key in full}
    assert empty.select(view, Filter(where=absent)).tolist() == [4]


def test_the_other_conditions(empty):
    memory = empty.make_memory(("others",))
    view = write(
        empty,
        memory,
        [
            Turn(user="a", id="1", time=DAY[1], session="s"),
            Turn(assistant="b", id="2", time=DAY[2], session="'; --"),
            Turn(user="a", assistant="b", id="3", time=DAY[3]),
        ],
    )

    def select(**fields):
        return empty.select(view, Filter(**fields)).tolist()

    assert select(since=DAY[2]) == [2, 3]
    assert select(until=DAY[2]) == [1]
    assert select(session="s") == [1]
    assert select(session="'; --") == [2]
    assert [select(role=r) for r in ("user", "assistant", "exchange")] == [[1], [2], [3]]
    assert select(since=DAY[1], until=DAY[3], role="assistant", session="'; --") == [2]
    empty.hide(view, [2])
    assert select(since=DAY[2]) == [3]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"where": {"a": {"$regex": "x"}}}, r"'\$regex'; the operators are"),
        ({"where": {"a": {"x' OR 1=1": 1}}}, "operators are"),
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
        ({"where": {str(n): n for n in range(1001)}}, "1001 keys of metadata, 1000 are allowed"),
        ({"where": {"a": {"$in": "abc"}}}, "takes a list"),
        ({"where": {"a": {"$in": 3}}}, "takes a list"),
        ({"where": {"a": {"$exists": 1}}}, "true or false"),
        ({"where": {"a": {"$gt": None}}}, "numbers or strings"),
        ({"where": {"a": {"$gt": True}}}, "numbers or strings"),
        ({"where": {"a\x00b": 1}}, "NUL"),
        ({"where": {"a": "x\x00y"}}, "NUL"),
        ({"where": {"\ud800": 1}}, "surrogate"),
        ({"where": {"a": {"$in": ["\udfff"]}}}, "surrogate"),
        ({"where": {3: 1}}, "must be a string"),
        ({"session": "\ud800"}, "surrogate"),
        ({"role": "system"}, "role must be"),
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(empty, fields, says):
    view = empty.view(empty.make_memory(("refuse",)))
    with pytest.raises(QueryError, match=says):
        empty.select(view, Filter(**fields))
