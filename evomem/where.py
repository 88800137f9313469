"""Conditions on metadata: `where=`, parsed into a tree that databases turn into SQL.

A condition applies to a value: the metadata of a turn, the value of a key, or an element of a list. It
is a scalar, which the value must equal, or a mapping whose entries must all hold: operators
(`{"$gte": 4}`), keys of the value (`{"author": {"name": "Ann"}}`), and `$and`, `$or` and `$not`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from evomem.errors import QueryError, TurnError, shown
from evomem.records import MAX_METADATA, check_string

ORDER = ("$gt", "$gte", "$lt", "$lte")
OPERATORS = ("$eq", "$ne", *ORDER, "$in", "$nin", "$contains", "$exists", "$and", "$or", "$not")
MAX_TESTS = 1000  # per filter: each test reads the metadata of every turn
MAX_TOGETHER = 200  # tests in one `$and`, `$or`, `$not` or nested mapping: one SQL expression
MAX_LEVELS = 5  # of nested keys and lists: SQLite's parser stack has 100 levels
MAX_DEPTH = 16  # of nested conditions
METADATA = "where"  # the name of the metadata object in messages

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Test:
    """A value exists and passes an operator of `OPERATORS` that takes no conditions."""

    name: str
    operand: Any
    """A scalar; for `$in` and `$nin` a list of scalars; for `$exists` a bool."""


@dataclass(frozen=True, slots=True)
class Key:
    """The value of a key meets a condition."""

    name: str
    condition: Condition


@dataclass(frozen=True, slots=True)
class Contains:
    """The value is a list, and an element of it meets a condition."""

    condition: Condition


@dataclass(frozen=True, slots=True)
class All:
    """All of these hold; true for none."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One of these holds."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """This does not hold."""

    condition: Condition


Condition = Test | Key | Contains | All | AnyOf | Not


def read_where(where: Mapping[str, Any]) -> list[Condition]:
    """Return the conditions on a turn's metadata.

    Raises:
        QueryError: An operator is unknown, a value cannot be compared with metadata, or the filter is
            too large; the message names the place.
    """
    if not isinstance(where, Mapping):
        raise QueryError(
            f'where= takes a mapping such as {{"topic": "travel"}}, got {type(where).__name__}'
        )
    parts = list(_entries(where, METADATA, 0))
    sizes = [_size(part) for part in parts]
    if sum(sizes) > MAX_TESTS:
        raise QueryError(
            f"where= has {sum(sizes)} conditions, {MAX_TESTS} are allowed: use fewer, or several "
            "searches"
        )
    if max(sizes, default=0) > MAX_TOGETHER:
        raise QueryError(
            f"where= has {max(sizes)} conditions inside one another, {MAX_TOGETHER} are allowed: "
            "use $in for many values of one key, or several searches"
        )
    if max(map(_levels, parts), default=0) > MAX_LEVELS:
        raise QueryError(
            f"where= nests keys more than {MAX_LEVELS} levels deep: store the values that you "
            "filter by at a higher level"
        )
    return parts


def holds_of_nothing(condition: Condition) -> bool:
    """Return whether a condition holds of a missing value."""
    match condition:
        case Test("$exists", wanted):
            return not wanted
        case Test(name, _):
            return name in ("$ne", "$nin")
        case Key(_, inner):
            return holds_of_nothing(inner)
        case Contains():
            return False
        case All(parts):
            return all(map(holds_of_nothing, parts))
        case AnyOf(parts):
            return any(map(holds_of_nothing, parts))
        case Not(inner):
            return not holds_of_nothing(inner)


def check_text(name: str, value: object) -> str:
    """Return a filter's text; raise `QueryError` if no database can store such a text."""
    try:
        check_string(name, value, MAX_METADATA)
    except TurnError as error:
        raise QueryError(f"a filter cannot be used: {error}") from error
    return str(value)


def _entries(where: Mapping[Any, Any], place: str, depth: int) -> Iterator[Condition]:
    """Yield the conditions of a mapping's entries; `place` is the mapping's name in messages."""
    if depth > MAX_DEPTH:
        raise QueryError(f"where= is nested deeper than {MAX_DEPTH} conditions")
    for name, operand in where.items():
        path = f"{place}[{shown(name)}]"
        if not isinstance(name, str):
            raise QueryError(f"metadata keys must be strings, got {shown(name)} in {place}")
        if name.startswith("$"):
            yield _operator(name, operand, place, path, depth)
        else:
            yield _key(name, operand, place, path, depth)


def _operator(name: str, operand: Any, place: str, path: str, depth: int) -> Condition:
    if name not in OPERATORS:
        raise QueryError(f"{place} has {name!r}; the operators are {', '.join(OPERATORS)}")
    if name in ("$and", "$or"):
        if not isinstance(operand, list | tuple) or not operand:
            raise QueryError(
                f"{path} takes a list of conditions that is not empty, got {shown(operand)}"
            )
        parts = tuple(_condition(part, path, depth, place) for part in operand)
        return All(parts) if name == "$and" else AnyOf(parts)
    if name == "$not":
        return Not(_condition(operand, path, depth, place))
    if place == METADATA:
        raise QueryError(f"{place} has {name!r} without a key: write {{key: {{{name!r}: ...}}}}")
    if name == "$contains":
        return Contains(_condition(operand, path, depth))
    return Test(name, _operand(name, operand, path))


def _key(name: str, operand: Any, place: str, path: str, depth: int) -> Key:
    if "$" + name in OPERATORS and place != METADATA and not isinstance(operand, Mapping):
        raise QueryError(
            f"{path}: operators begin with $, as in {{'${name}': ...}}; the operators are "
            f"{', '.join(OPERATORS)}. For a key of that name, write {{{name!r}: {{'$eq': ...}}}}"
        )
    return Key(check_text("a metadata key", name), _condition(operand, path, depth))


def _condition(value: Any, path: str, depth: int, place: str = "") -> Condition:
    """Read a condition on a value; `place` is `METADATA` for a condition on the whole metadata."""
    if isinstance(value, Mapping):
        if not value:
            raise QueryError(f"{path} is empty; the operators are {', '.join(OPERATORS)}")
        parts = tuple(_entries(value, place or path, depth + 1))
        return parts[0] if len(parts) == 1 else All(parts)
    if place == METADATA:
        raise QueryError(
            f"{path} takes conditions such as {{'topic': 'travel'}}, got {shown(value)}"
        )
    return Test("$eq", _scalar(value, path))


def _operand(name: str, value: Any, path: str) -> Any:
    if name == "$exists":
        if not isinstance(value, bool):
            raise QueryError(f"{path} takes true or false, got {shown(value)}")
        return value
    if name in ("$in", "$nin"):
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, Collection):
            raise QueryError(f"{path} takes a list of values, got {shown(value)}")
        return [_scalar(operand, path) for operand in value]
    if name in ORDER and (value is None or isinstance(value, bool)):
        raise QueryError(f"{path} compares numbers or strings, got {shown(value)}")
    return _scalar(value, path)


def _scalar(value: Any, path: str) -> Scalar:
    """Return a value in the form for comparison: numbers beyond 64 bits become floats."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return check_text("a value", value)
    if not isinstance(value, int | float):
        hint = ": use $in for one of several values, $contains for an element of a list"
        raise QueryError(
            f"{path}: metadata is compared with strings, numbers, true, false and null, got "
            f"{type(value).__name__}{hint if isinstance(value, Collection) else ''}"
        )
    number: int | float = value
    if isinstance(number, int) and not -(2**63) <= number < 2**63:
        try:
            number = float(number)
        except OverflowError as error:
            raise QueryError(f"{path}: the number is too large") from error
    if number != number:
        raise QueryError(f"{path}: NaN compares with nothing")
    return number


def _size(condition: Condition) -> int:
    """Return the number of tests in a condition."""
    match condition:
        case All(parts) | AnyOf(parts):
            return sum(map(_size, parts))
        case Key(_, inner) | Contains(inner) | Not(inner):
            return _size(inner)
        case Test():
            return 1


def _levels(condition: Condition) -> int:
    """Return the number of nested keys and lists in a condition."""
    match condition:
        case All(parts) | AnyOf(parts):
            return max(map(_levels, parts), default=0)
        case Key(_, inner) | Contains(inner):
            return 1 + _levels(inner)
        case Not(inner):
            return _levels(inner)
        case Test():
            return 0
