"""A `Filter` as SQL. Keys and values are always bound parameters, never part of the statement.

Metadata conditions look at top-level keys. Equality is that of JSON scalars, types included: true
is not 1, and "1" is not 1 (but 1 is 1.0). `$gt` and its like compare a number with numbers or a
string with strings, and nothing else. `$ne` and `$nin` also hold where the key is absent; add
`{"$exists": True}` where that is not meant.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from sqlalchemy import (
    ColumnElement,
    and_,
    bindparam,
    column,
    exists,
    false,
    literal,
    not_,
    or_,
    select,
    true,
)

from evomem.checks import shown
from evomem.errors import QueryError, TurnError
from evomem.records import MAX_METADATA, check_string
from evomem.store import OPERATORS, Filter
from evomem_stores.database.dialects import Entries, Number, OneOf
from evomem_stores.database.tables import turns
from evomem_stores.log.rows import micros

Test = ColumnElement[bool]

TESTS = 50  # of one statement: SQLite limits how deep an expression is, and how many values it has
MAX_KEYS = 1000  # of one filter: each costs a look at the metadata of every turn

_ORDER: dict[str, Callable[[Any, Any], Any]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
_ROLES: dict[str, Test] = {
    "exchange": and_(turns.c.user != "", turns.c.assistant != ""),
    "user": and_(turns.c.user != "", turns.c.assistant == ""),
    "assistant": turns.c.user == "",
}


def conditions(condition: Filter) -> list[Test]:
    """Return what must hold of a turn; an empty list where every turn will do.

    The parameter `memory` is the number of the memory whose turns are looked at.

    Raises:
        QueryError: An operator is unknown, or a value cannot be compared with metadata.
    """
    found: list[Test] = []
    if condition.since is not None:
        found.append(turns.c.time >= micros(condition.since))
    if condition.until is not None:
        found.append(turns.c.time < micros(condition.until))
    if condition.session is not None:
        found.append(turns.c.session == _text("session", condition.session))
    if condition.role is not None:
        if condition.role not in _ROLES:
            raise QueryError(f"role must be one of {', '.join(_ROLES)}, got {condition.role!r}")
        found.append(_ROLES[condition.role])
    if len(condition.where) > MAX_KEYS:
        raise QueryError(
            f"where= names {len(condition.where)} keys of metadata, {MAX_KEYS} are allowed: "
            "use fewer, or several searches"
        )
    for key, test in condition.where.items():
        tests = test if isinstance(test, Mapping) else {"$eq": test}
        found += [_metadata(_text("a metadata key", key), *item) for item in tests.items()]
    if condition.source is not None:
        found.append(_of_source(condition.source))
    if condition.not_source:
        found.append(not_(_of_source(condition.not_source)))
    return found


def _of_source(labels: Collection[str | None]) -> Test:
    """Return the condition that a turn has one of the labels.

    Only labelled turns are looked up, in their index; those without a label are all others.
    """
    other = turns.alias("labelled")
    named = [_text("source", label) for label in labels if label is not None]
    listed = OneOf(other.c.source, named)
    own = other.c.memory == bindparam("memory")
    labelled = select(other.c.seq).where(own, other.c.source.is_not(None))
    if None in labels:
        return turns.c.seq.not_in(labelled.where(not_(listed)))
    return turns.c.seq.in_(labelled.where(listed))


def _metadata(key: str, name: str, value: Any) -> Test:
    """Return the condition that `key` passes the test `name` with `value`."""
    if name not in OPERATORS:
        raise QueryError(f"where[{key!r}] has {name!r}; the operators are {', '.join(OPERATORS)}")
    entry = Entries(turns.c.metadata).table_valued(
        "key", "type", "value", column("number", Number())
    )

    def some(test: Test) -> Test:
        found = select(literal(1)).select_from(entry).where(entry.c.key == key, test)
        return exists(found.correlate(turns))

    def equal(value: Any) -> Test:
        return _typed(key, entry, value, operator.eq)

    if name == "$exists":
        if not isinstance(value, bool):
            raise QueryError(f"where[{key!r}]: $exists takes true or false, got {shown(value)}")
        return some(true()) if value else not_(some(true()))
    if name in ("$in", "$nin"):
        if isinstance(value, str | bytes | Mapping) or not hasattr(value, "__iter__"):
            raise QueryError(f"where[{key!r}]: {name} takes a list of values, got {shown(value)}")
        one_of = some(_one_of(key, entry, value))
        return one_of if name == "$in" else not_(one_of)
    if name in ("$eq", "$ne"):
        return some(equal(value)) if name == "$eq" else not_(some(equal(value)))
    if value is None or isinstance(value, bool):
        raise QueryError(f"where[{key!r}]: {name} compares numbers or strings, got {shown(value)}")
    return some(_typed(key, entry, value, _ORDER[name]))


def _typed(key: str, entry: Any, value: Any, compare: Callable[[Any, Any], Any]) -> Test:
    """Return the condition that an entry has the type of `value` and compares with it so."""
    kind, value = _checked(key, value)
    if kind == "text":
        return and_(entry.c.type == "text", compare(entry.c.value, value))
    if kind == "number":
        given = literal(value, Number())
        return and_(entry.c.type.in_(["integer", "real"]), compare(entry.c.number, given))
    return and_(entry.c.type == kind)


def _one_of(key: str, entry: Any, values: Iterable[Any]) -> Test:
    """Return the condition that an entry equals one of `values`, with one parameter for each type."""
    by_kind: dict[str, list[Any]] = {}
    for value in values:
        kind, checked = _checked(key, value)
        by_kind.setdefault(kind, []).append(checked)
    tests: list[Test] = [false()]
    if texts := by_kind.pop("text", None):
        tests.append(and_(entry.c.type == "text", OneOf(entry.c.value, texts)))
    if numbers := by_kind.pop("number", None):
        among = OneOf(entry.c.number, numbers)
        tests.append(and_(entry.c.type.in_(["integer", "real"]), among))
    return or_(*tests, *(entry.c.type == kind for kind in by_kind))


def _checked(key: str, value: Any) -> tuple[str, Any]:
    """Return a value's type (null, true, false, text or number), and the value as it is compared."""
    if value is None or isinstance(value, bool):
        return ("null" if value is None else "true" if value else "false"), None
    if isinstance(value, str):
        return "text", _text("a value", value)
    if isinstance(value, int | float):
        number: int | float = value
        if isinstance(number, int) and not -(2**63) <= number < 2**63:
            try:
                number = float(number)  # as such a number counts in metadata
            except OverflowError as error:
                raise QueryError(f"where[{key!r}]: the number is too large") from error
        if number != number:
            raise QueryError(f"where[{key!r}]: NaN compares with nothing")
        return "number", number
    raise QueryError(
        f"where[{key!r}]: metadata is compared with strings, numbers, true, false and null, "
        f"got {type(value).__name__}"
    )


def _text(name: str, value: object) -> str:
    try:
        check_string(name, value, MAX_METADATA)
    except TurnError as error:
        raise QueryError(f"a filter cannot be used: {error}") from error
    return str(value)
