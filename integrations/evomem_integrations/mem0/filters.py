"""Mem0's filters as evomem's: any of several conditions, each a `where` of `MemoryView.search`.

Mem0 writes `{"stars": {"gte": 4}, "OR": [{"topic": "travel"}, {"topic": "*"}]}`, and hands stores
the same with `$or` and `$not`. Keys are the memory's metadata and its ids. Values compare as
in evomem: types count, so "1" is not 1. A memory without the key passes `ne` and `nin`; it passes
nothing else but a `NOT` around it.

`"*"` stands for any value of a metadata key. It is refused for an id: an id names one scope.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any

from evomem.errors import QueryError

Where = dict[str, dict[str, Any]]

OWNERS = ("user_id", "agent_id", "run_id")  # whose log a row is in: the first of them it has
ANY = "*"  # the one value that Mem0's filters read as a pattern
OPERATORS = ("eq", "ne", "gt", "gte", "lt", "lte", "in", "nin")
LIMIT = 64  # conditions that one filter may become: each is a search of its own

_NEGATED = {
    "$eq": "$ne", "$ne": "$eq", "$in": "$nin", "$nin": "$in",
    "$gt": "$lte", "$lte": "$gt", "$gte": "$lt", "$lt": "$gte",
}  # fmt: skip
_ORDER = ("$gt", "$gte", "$lt", "$lte")

NOTHING = object()  # an operand that no value passes

Test = tuple[str, str, Any]
"""A key, an operator of evomem's, a value."""


def check_owner(name: str, value: object) -> None:
    """Raise `QueryError` if an id is what a filter reads as a pattern."""
    if isinstance(value, str) and value.strip() == ANY:
        raise QueryError(
            f"{name} is {value!r}, which a filter reads as any value: give the id of one owner"
        )


def wheres(filters: Mapping[str, Any] | None) -> list[Where]:
    """Return conditions one of which must hold; an empty list if none can.

    Raises:
        QueryError: A filter is malformed, or asks what evomem cannot filter by.
    """
    found = []
    for tests in _any(filters or {}, negated=False):
        where = _joined(tests)
        if where is not None and where not in found:
            found.append(where)
    return found


def _any(filters: object, *, negated: bool) -> list[list[Test]]:
    """Return the filter, or its opposite, as alternatives of tests that must all pass."""
    if not isinstance(filters, Mapping):
        raise QueryError(f"a filter is a mapping such as {{'topic': 'travel'}}, got {filters!r}")
    parts = [_part(key, value, negated) for key, value in filters.items()]
    return _sum(parts) if negated else _product(parts)


def _part(key: object, value: Any, negated: bool) -> list[list[Test]]:
    if not isinstance(key, str):
        raise QueryError(f"filter keys are strings, got {key!r}")
    name = key.lstrip("$").lower() if key.isupper() or key.startswith("$") else ""
    if name not in ("and", "or", "not"):
        return _tests(key, value, negated)
    if not isinstance(value, list | tuple) or not value:
        raise QueryError(f"{key} takes a list of filters that is not empty, got {value!r}")
    inverted = negated != (name == "not")
    parts = [_any(each, negated=inverted) for each in value]
    return _sum(parts) if (name == "or") != negated else _product(parts)


def _tests(key: str, value: Any, negated: bool) -> list[list[Test]]:
    """Return the alternatives for one key."""
    if key in OWNERS:
        check_owner(key, value)
    if isinstance(value, str) and value == ANY:
        return [[(key, "$exists", not negated)]]
    if isinstance(value, list | tuple):
        value = {"in": value}
    if not isinstance(value, Mapping):
        value = {"eq": value}
    if not value:
        raise QueryError(f"the filter for {key!r} is empty; the operators are {_names()}")
    parts = []
    for operator, operand in value.items():
        name = str(operator).removeprefix("$")
        if name in ("contains", "icontains"):
            raise QueryError(
                f"the filter for {key!r} uses {name!r}: evomem does not look inside strings; keep "
                "what you filter by in a metadata key of its own, or search for the words"
            )
        if name not in OPERATORS:
            raise QueryError(
                f"the filter for {key!r} uses {operator!r}; the operators are {_names()}"
            )
        parts.append(_test(key, f"${name}", operand, negated))
    return _sum(parts) if negated else _product(parts)


def _test(key: str, operator: str, value: Any, negated: bool) -> list[list[Test]]:
    if not negated:
        return [[(key, operator, value)]]
    opposite: list[list[Test]] = [[(key, _NEGATED[operator], value)]]
    if operator in _ORDER:  # no comparison holds where there is nothing to compare
        opposite.append([(key, "$exists", False)])
    return opposite


def _sum(parts: Iterable[list[list[Test]]]) -> list[list[Test]]:
    return _bounded([tests for part in parts for tests in part])


def _product(parts: Iterable[list[list[Test]]]) -> list[list[Test]]:
    done: list[list[Test]] = [[]]
    for part in parts:
        done = _bounded([[*left, *right] for left, right in product(done, part)])
    return done


def _bounded(alternatives: list[list[Test]]) -> list[list[Test]]:
    if len(alternatives) > LIMIT:
        raise QueryError(f"the filter has more than {LIMIT} alternatives; ask for less at once")
    return alternatives


def _joined(tests: Iterable[Test]) -> Where | None:
    """Return tests that must all pass as one condition; None if they contradict each other."""
    where: Where = {}
    for key, operator, value in tests:
        held = where.setdefault(key, {})
        operator, value = _as_list(key, operator, value)
        held[operator] = _both(operator, held[operator], value) if operator in held else value
        if held[operator] is NOTHING:
            return None
    return where


def _as_list(key: str, operator: str, value: Any) -> tuple[str, Any]:
    """Return an equality as membership of one, so that two of them can be joined."""
    if operator in ("$eq", "$ne"):
        return ("$in" if operator == "$eq" else "$nin"), [value]
    if operator in ("$in", "$nin"):
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise QueryError(f"the filter for {key!r} takes a list of values, got {value!r}")
        return operator, list(value)
    return operator, value


def _both(operator: str, one: Any, other: Any) -> Any:
    """Return the operand that asks for what both ask for; NOTHING if nothing can be both."""
    if operator == "$nin":
        return [*one, *other]
    if operator == "$in":
        return [each for each in one if any(_same(each, them) for them in other)] or NOTHING
    if operator == "$exists":
        return one if one == other else NOTHING
    if isinstance(one, str) != isinstance(other, str):
        return NOTHING  # no value is both a number and a string
    return max(one, other) if operator in ("$gt", "$gte") else min(one, other)


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _names() -> str:
    return ", ".join(OPERATORS)
