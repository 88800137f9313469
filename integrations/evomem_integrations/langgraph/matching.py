"""Which values pass a filter and which namespaces a condition, as LangGraph's own stores have it."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langgraph.store.base import MatchCondition

Namespace = tuple[str, ...]

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
_OPERATORS = ("$eq", "$ne", *_ORDER)
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def check_filter(filter: Mapping[str, Any] | None) -> None:
    """Raise `ValueError` if a filter has an operator that is unknown, or where none can be."""
    for key, wanted in (filter or {}).items():
        if not isinstance(key, str) or key.startswith("$"):
            raise ValueError(
                f"a filter has the key {key!r}: give keys of values, and under them the operators "
                f"{', '.join(_OPERATORS)}"
            )
        _check_wanted(wanted)


def _check_wanted(wanted: Any) -> None:
    if isinstance(wanted, list | tuple):
        for condition in wanted:
            _check_wanted(condition)
    elif isinstance(wanted, Mapping):
        if not any(str(key).startswith("$") for key in wanted):
            check_filter(wanted)
            return
        for name in wanted:
            if name not in _OPERATORS:
                raise ValueError(f"unknown operator {name!r}: use {', '.join(_OPERATORS)}")


def passes(value: Mapping[str, Any], filter: Mapping[str, Any] | None) -> bool:
    """Return whether a value passes a filter, which `check_filter` accepts."""
    return all(_matches(_at(value, key), wanted) for key, wanted in (filter or {}).items())


def _at(value: Any, key: str) -> Any:
    """Return the value of a key; a missing key is read as a path, as in `"user.name"`."""
    if not isinstance(value, Mapping):
        return None
    if key in value:
        return value[key]
    first, _, remainder = key.partition(".")
    return _at(value.get(first), remainder) if remainder else None


def _matches(value: Any, wanted: Any) -> bool:
    """Compare as JSON: operators, mappings by the keys asked for, lists whole, scalars by equality."""
    if isinstance(wanted, Mapping):
        if any(str(key).startswith("$") for key in wanted):
            return all(_compares(value, name, other) for name, other in wanted.items())
        return isinstance(value, Mapping) and passes(value, wanted)
    if isinstance(wanted, list | tuple):
        return (
            isinstance(value, list)
            and len(value) == len(wanted)
            and all(map(_matches, value, wanted))
        )
    return bool(value == wanted)


def _compares(value: Any, name: str, other: Any) -> bool:
    if name == "$eq":
        return bool(value == other)
    if name == "$ne":
        return bool(value != other)
    return _in_order(value, _ORDER[name], other)


def _in_order(value: Any, compare: Callable[[Any, Any], bool], other: Any) -> bool:
    """Compare as `SqliteStore` does.

    With a number: as numbers, a text being the number that it begins with. With anything else: as
    texts, lists and mappings being their JSON, and any number coming before any text.
    """
    if value is None:
        return False
    if isinstance(other, int | float):
        return compare(_as_number(value), other)
    if isinstance(value, int | float):
        return compare(0, 1)
    return compare(_as_text(value), _as_text(other))


def _as_number(value: Any) -> int | float:
    if isinstance(value, int | float):
        return value
    begins = _NUMBER.match(_as_text(value))
    return float(begins[0]) if begins else 0.0


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def lies_in(namespace: Namespace, conditions: Sequence[MatchCondition] | None) -> bool:
    """Return whether a namespace meets all conditions.

    Raises:
        ValueError: A kind of condition is unknown.
    """
    return all(_meets(namespace, condition) for condition in conditions or ())


def _meets(namespace: Namespace, condition: MatchCondition) -> bool:
    path = condition.path
    if condition.match_type not in ("prefix", "suffix"):
        raise ValueError(f"unknown condition {condition.match_type!r}: use prefix or suffix")
    if len(path) > len(namespace):
        return False
    if condition.match_type == "prefix":
        part = namespace[: len(path)]
    else:
        part = namespace[len(namespace) - len(path) :]
    return all(asked in ("*", label) for asked, label in zip(path, part, strict=True))
