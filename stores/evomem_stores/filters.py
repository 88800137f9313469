"""A `Filter` as SQL. Keys and values are always bound parameters, never part of the statement.

Metadata conditions look at top-level keys. Equality is that of JSON scalars, types included: true
is not 1, and "1" is not 1 (but 1 is 1.0). `$gt` and its like compare a number with numbers or a
string with strings, and nothing else. `$ne` and `$nin` also hold where the key is absent; add
`{"$exists": True}` where that is not meant.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Mapping
from typing import Any

from sqlalchemy import (
    ColumnElement,
    and_,
    bindparam,
    exists,
    false,
    literal,
    not_,
    or_,
    select,
    true,
)

from evomem.errors import QueryError, TurnError
from evomem.records import MAX_METADATA, check_string
from evomem.store import OPERATORS, Filter
from evomem_stores.dialects import Entries, Number, OneOf
from evomem_stores.rows import micros
from evomem_stores.tables import turns

Test = ColumnElement[bool]

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
    entry = Entries(turns.c.metadata).table_valued("key", "type", "value", "number")

    def some(test: Test) -> Test:
        found = select(literal(1)).select_from(entry).where(entry.c.key == key, test)
        return exists(found.correlate(turns))

    def equal(value: Any) -> Test:
        return _typed(key, entry, value, operator.eq)

    if name == "$exists":
        if not isinstance(value, bool):
            raise QueryError(f"where[{key!r}]: $exists takes true or false, got {value!r}")
        return some(true()) if value else not_(some(true()))
    if name in ("$in", "$nin"):
        if isinstance(value, str | bytes | Mapping) or not hasattr(value, "__iter__"):
            raise QueryError(f"where[{key!r}]: {name} takes a list of values, got {value!r}")
        one_of = some(or_(false(), *(equal(each) for each in value)))
        return one_of if name == "$in" else not_(one_of)
    if name in ("$eq", "$ne"):
        return some(equal(value)) if name == "$eq" else not_(some(equal(value)))
    if value is None or isinstance(value, bool):
        raise QueryError(f"where[{key!r}]: {name} compares numbers or strings, got {value!r}")
    return some(_typed(key, entry, value, _ORDER[name]))


def _typed(key: str, entry: Any, value: Any, compare: Callable[[Any, Any], Any]) -> Test:
    """Return the condition that an entry has the type of `value` and compares with it so."""
    if value is None:
        return and_(entry.c.type == "null")
    if isinstance(value, bool):
        return and_(entry.c.type == ("true" if value else "false"))
    if isinstance(value, str):
        return and_(entry.c.type == "text", compare(entry.c.value, _text("a value", value)))
    if isinstance(value, int | float):
        number: int | float = value
        if isinstance(number, int) and not -(2**63) <= number < 2**63:
            try:
                number = float(number)  # as such a number counts in metadata
            except OverflowError as error:
                raise QueryError(f"where[{key!r}]: the number is too large") from error
        if number != number:
            raise QueryError(f"where[{key!r}]: NaN compares with nothing")
        given = literal(number, Number())
        return and_(entry.c.type.in_(["integer", "real"]), compare(entry.c.number, given))
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
