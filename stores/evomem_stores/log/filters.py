"""Translates a `Filter` into SQL. Keys and values are bound parameters, never part of the statement.

docs/guides/filters.md defines conditions on metadata; `evomem.where` parses them. Each key of a
condition becomes an `EXISTS` over the entries of the JSON object, nested in the `EXISTS` of the
enclosing object. An absent key passes the tests that hold of nothing (`$ne`, `$nin`, `$exists` false,
`$not`).
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    and_,
    bindparam,
    case,
    column,
    exists,
    false,
    literal,
    not_,
    or_,
    select,
    true,
)

from evomem.errors import QueryError
from evomem.store import Filter
from evomem.where import (
    All,
    AnyOf,
    Condition,
    Contains,
    Key,
    Not,
    Scalar,
    Test,
    check_text,
    holds_of_nothing,
    read_where,
)
from evomem_stores.database.dialects import (
    EXACT_FLOAT_LIMIT,
    Elements,
    Entries,
    Holds,
    Number,
    OneOf,
)
from evomem_stores.database.tables import turns
from evomem_stores.log.rows import micros

Bool = ColumnElement[bool]

TESTS_PER_STATEMENT = 50  # SQLite limits an expression's depth and its number of values

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "$eq": operator.eq,
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
_ROLES: dict[str, Bool] = {
    "exchange": and_(turns.c.user != "", turns.c.assistant != ""),
    "user": and_(turns.c.user != "", turns.c.assistant == ""),
    "assistant": turns.c.user == "",
}


def conditions(condition: Filter) -> list[Bool]:
    """Return the conditions on a turn; an empty list if every turn passes.

    The statement's parameter `memory` is the number of the memory whose turns are tested.

    Raises:
        QueryError: An operator is unknown, or a value cannot be compared with metadata.
    """
    tests: list[Bool] = []
    if condition.since is not None:
        tests.append(turns.c.time >= micros(condition.since))
    if condition.until is not None:
        tests.append(turns.c.time < micros(condition.until))
    if condition.session is not None:
        tests.append(turns.c.session == check_text("session", condition.session))
    if condition.speaker is not None:
        tests.append(turns.c.speaker == check_text("speaker", condition.speaker))
    if condition.role is not None:
        if condition.role not in _ROLES:
            raise QueryError(f"role must be one of {', '.join(_ROLES)}, got {condition.role!r}")
        tests.append(_ROLES[condition.role])
    tests += map(_on_metadata, read_where(condition.where))
    if condition.source is not None:
        tests.append(_of_source(condition.source))
    if condition.not_source:
        tests.append(not_(_of_source(condition.not_source)))
    return tests


def reads_rows(condition: Filter) -> bool:
    """Return whether to test all rows of a span, in their order, since no index has the tested columns."""
    by_index = (condition.since, condition.until, condition.session, condition.source)
    return bool(condition.where) and by_index == (None,) * 4


def _of_source(labels: Collection[str | None]) -> Bool:
    """Return the condition that a turn has one of the labels.

    Only labelled turns are looked up, in their index; turns without a label are the complement.
    """
    other = turns.alias("labelled")
    named = [check_text("source", label) for label in labels if label is not None]
    listed = OneOf(other.c.source, named)
    own = other.c.memory == bindparam("memory")
    labelled = select(other.c.seq).where(own, other.c.source.is_not(None))
    if None in labels:
        return turns.c.seq.not_in(labelled.where(not_(listed)))
    return turns.c.seq.in_(labelled.where(listed))


def _on_metadata(condition: Condition) -> Bool:
    """Return the condition that a turn's metadata meets `condition`."""
    test = _holds(condition, _Value((turns,), None, turns.c.metadata, turns.c.metadata))
    text = _written(condition)
    return test if text is None else and_(Holds(turns.c.metadata, text), test)


def _written(condition: Condition) -> str | None:
    """Return a text that is in the stored metadata if a condition on it holds; None if there is none.

    To look for a text takes half as long as to read JSON. Metadata is stored as `json.dumps` writes it.
    """
    match condition:
        case Key(name, Test("$eq", operand)):
            if isinstance(operand, int | float) and not isinstance(operand, bool):
                if not 0 < abs(operand) < EXACT_FLOAT_LIMIT:  # 0 may be "-0.0", 2**60 "1.15e+18"
                    return None
                operand = int(operand) if operand == int(operand) else operand  # 3 begins "3.0"
            return f"{json.dumps(name)}: {json.dumps(operand)}"
    return None


class _Value(NamedTuple):
    """A value in metadata, as SQL sees it."""

    around: tuple[Any, ...]
    """The tables that it depends on: `turns`, and the entries that contain it."""
    entry: Any
    """Its row, None for the metadata object itself."""
    as_object: ColumnElement[str]
    """Its JSON if it is an object, else an empty object."""
    as_list: ColumnElement[str]


def _holds(condition: Condition, value: _Value, holds: bool = True) -> Bool:
    """Return the condition that a present value meets `condition`; if not `holds`, that it does not.

    Negation is pushed inwards: SQLite's parser stack has 100 levels, and a double `NOT` takes four.
    """
    match condition:
        case Not(inner):
            return _holds(inner, value, not holds)
        case All(parts) | AnyOf(parts):
            tests = [_holds(part, value, holds) for part in parts]
            is_conjunction = isinstance(condition, All) == holds
            return and_(true(), *tests) if is_conjunction else or_(false(), *tests)
        case Key(name, inner):
            is_met = not holds_of_nothing(inner)  # else look for a value that fails the condition
            entry = _rows(Entries(value.as_object))
            named = entry.c.key == name
            some = _exists(
                entry, value, and_(named, _holds(inner, _value_of(entry, value), is_met))
            )
            return some if is_met == holds else not_(some)
        case Contains(inner):
            entry = _rows(Elements(value.as_list))
            some = _exists(entry, value, _holds(inner, _value_of(entry, value)))
        case Test(name, operand):
            some = _passes(value.entry, name, operand)
    return some if holds else not_(some)


def _rows(values: Entries | Elements) -> Any:
    return values.table_valued("key", "type", "value", column("number", Number()))


def _value_of(entry: Any, outer: _Value) -> _Value:
    """Return an entry of `outer` as a value."""
    as_object = case((entry.c.type == "object", entry.c.value), else_="{}")
    as_list = case((entry.c.type == "array", entry.c.value), else_="[]")
    return _Value((*outer.around, entry), entry, as_object, as_list)


def _exists(entry: Any, outer: _Value, test: Bool) -> Bool:
    rows = select(literal(1)).select_from(entry).where(test)
    return exists(rows.correlate(*outer.around))


def _passes(entry: Any, name: str, operand: Any) -> Bool:
    """Return the condition that an entry passes a test."""
    if name == "$exists":
        return true() if operand else false()
    if name in ("$in", "$nin"):
        one_of = _one_of(entry, operand)
        return one_of if name == "$in" else not_(one_of)
    if name == "$ne":
        return not_(_compares(entry, "$eq", operand))
    return _compares(entry, name, operand)


def _compares(entry: Any, name: str, operand: Scalar) -> Bool:
    """Return the condition that an entry has the operand's type and passes the comparison `name`."""
    kind = _kind(operand)
    compare = _COMPARE[name]
    if kind == "text":
        return and_(entry.c.type == "text", compare(entry.c.value, operand))
    if kind == "number":
        number = literal(operand, Number())
        return and_(entry.c.type.in_(["integer", "real"]), compare(entry.c.number, number))
    return and_(entry.c.type == kind)


def _one_of(entry: Any, values: Iterable[Scalar]) -> Bool:
    """Return the condition that an entry equals one of `values`, with one parameter per type."""
    by_kind: dict[str, list[Any]] = {}
    for value in values:
        by_kind.setdefault(_kind(value), []).append(value)
    tests: list[Bool] = [false()]
    if texts := by_kind.pop("text", None):
        tests.append(and_(entry.c.type == "text", OneOf(entry.c.value, texts)))
    if numbers := by_kind.pop("number", None):
        among = OneOf(entry.c.number, numbers)
        tests.append(and_(entry.c.type.in_(["integer", "real"]), among))
    return or_(*tests, *(entry.c.type == kind for kind in by_kind))


def _kind(value: Scalar) -> str:
    """Return a value's type as in `Entries`: null, true, false, text or number."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else "true" if value else "false"
    return "text" if isinstance(value, str) else "number"
