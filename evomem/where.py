"""Conditions on metadata: `where=`, parsed into a tree that databases turn into SQL.

A condition applies to a value: the metadata of a turn, the value of a key, or an element of a list.
It is either a scalar, which the value must equal, or a mapping, all of whose entries must hold:
operators
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
MAX_TESTS = 1000  # of one filter: each costs a look at the metadata of every turn
MAX_TOGETHER = (
    200  # of them in one `$and`, `$or`, `$not` or nested mapping, which are one expression in SQL
)
MAX_LEVELS = 5  # of keys and lists inside each other: SQLite's parser has a stack of 100
MAX_DEPTH = 16  # of conditions inside each other
METADATA = "where"  # what messages call the metadata as a whole

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Test:
    """A value exists and passes an operator: one of `OPERATORS` that takes no conditions."""

    name: str
    operand: Any
    """Scalars as they are compared; for `$in` and `$nin` a list of them; for `$exists` a bool."""


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
    """All of these hold; also if there are none."""

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
    """Return what must hold of a turn's metadata.

    Raises:
        QueryError: An operator is unknown, a value cannot be compared with metadata, or there is
            too much of it; the message says where.
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
            f"where= asks for keys inside keys more than {MAX_LEVELS} levels deep: store what you "
            "filter by higher up"
        )
    return parts


def holds_of_nothing(condition: Condition) -> bool:
    """Say whether a condition holds of a value that is not there."""
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
    """Return a text of a filter; raise `QueryError` if no database can hold it."""
    try:
        check_string(name, value, MAX_METADATA)
    except TurnError as error:
        raise QueryError(f"a filter cannot be used: {error}") from error
    return str(value)


def _entries(where: Mapping[Any, Any], place: str, depth: int) -> Iterator[Condition]:
    """Yield the conditions of a mapping's entries; `place` is what messages call the mapping."""
    if depth > MAX_DEPTH:
        raise QueryError(f"where= is nested deeper than {MAX_DEPTH} conditions")
    for name, operand in where.items():
        here = f"{place}[{shown(name)}]"
        if not isinstance(name, str):
            raise QueryError(f"metadata keys must be strings, got {shown(name)} in {place}")
        if name.startswith("$"):
            yield _operator(name, operand, place, here, depth)
        else:
            yield _key(name, operand, place, here, depth)


def _operator(name: str, operand: Any, place: str, here: str, depth: int) -> Condition:
    if name not in OPERATORS:
        raise QueryError(f"{place} has {name!r}; the operators are {', '.join(OPERATORS)}")
    if name in ("$and", "$or"):
        if not isinstance(operand, list | tuple) or not operand:
            raise QueryError(
                f"{here} takes a list of conditions that is not empty, got {shown(operand)}"
            )
        parts = tuple(_condition(part, here, depth, place) for part in operand)
        return All(parts) if name == "$and" else AnyOf(parts)
    if name == "$not":
        return Not(_condition(operand, here, depth, place))
    if place == METADATA:
        raise QueryError(f"{place} has {name!r} without a key: write {{key: {{{name!r}: ...}}}}")
    if name == "$contains":
        return Contains(_condition(operand, here, depth))
    return Test(name, _operand(name, operand, here))


def _key(name: str, operand: Any, place: str, here: str, depth: int) -> Key:
    if "$" + name in OPERATORS and place != METADATA and not isinstance(operand, Mapping):
        raise QueryError(
            f"{here}: operators begin with $, as in {{'${name}': ...}}; the operators are "
            f"{', '.join(OPERATORS)}. For a key of that name, write {{{name!r}: {{'$eq': ...}}}}"
        )
    return Key(check_text("a metadata key", name), _condition(operand, here, depth))


def _condition(value: Any, here: str, depth: int, place: str = "") -> Condition:
    """Read a condition on a value; `place` is `METADATA` for one on the metadata as a whole."""
    if isinstance(value, Mapping):
        if not value:
            raise QueryError(f"{here} is empty; the operators are {', '.join(OPERATORS)}")
        parts = tuple(_entries(value, place or here, depth + 1))
        return parts[0] if len(parts) == 1 else All(parts)
    if place == METADATA:
        raise QueryError(
            f"{here} takes conditions such as {{'topic': 'travel'}}, got {shown(value)}"
        )
    return Test("$eq", _scalar(value, here))


def _operand(name: str, value: Any, here: str) -> Any:
    if name == "$exists":
        if not isinstance(value, bool):
            raise QueryError(f"{here} takes true or false, got {shown(value)}")
        return value
    if name in ("$in", "$nin"):
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, Collection):
            raise QueryError(f"{here} takes a list of values, got {shown(value)}")
        return [_scalar(operand, here) for operand in value]
    if name in ORDER and (value is None or isinstance(value, bool)):
        raise QueryError(f"{here} compares numbers or strings, got {shown(value)}")
    return _scalar(value, here)


def _scalar(value: Any, here: str) -> Scalar:
    """Return a value as it is compared: numbers beyond 64 bits count as floats in metadata."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return check_text("a value", value)
    if not isinstance(value, int | float):
        hint = ": use $in for one of several values, $contains for an element of a list"
        raise QueryError(
            f"{here}: metadata is compared with strings, numbers, true, false and null, got "
            f"{type(value).__name__}{hint if isinstance(value, Collection) else ''}"
        )
    number: int | float = value
    if isinstance(number, int) and not -(2**63) <= number < 2**63:
        try:
            number = float(number)
        except OverflowError as error:
            raise QueryError(f"{here}: the number is too large") from error
    if number != number:
        raise QueryError(f"{here}: NaN compares with nothing")
    return number


def _size(condition: Condition) -> int:
    """Return how many tests a condition consists of."""
    match condition:
        case All(parts) | AnyOf(parts):
            return sum(map(_size, parts))
        case Key(_, inner) | Contains(inner) | Not(inner):
            return _size(inner)
        case Test():
            return 1


def _levels(condition: Condition) -> int:
    """Return how many keys and lists a condition goes down."""
    match condition:
        case All(parts) | AnyOf(parts):
            return max(map(_levels, parts), default=0)
        case Key(_, inner) | Contains(inner):
            return 1 + _levels(inner)
        case Not(inner):
            return _levels(inner)
        case Test():
            return 0
