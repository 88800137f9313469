"""Filters on values and conditions on namespaces, with the semantics of LangGraph's own stores."""

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
    """Raise `ValueError` if a filter has an unknown or misplaced operator."""
    for key, expected in (filter or {}).items():
        if not isinstance(key, str) or key.startswith("$"):
            raise ValueError(
                f"the filter has the key {key!r}: name a key of the value, and under it an operator "
                f"({', '.join(_OPERATORS)})"
            )
        _check_expected(expected)


def _check_expected(expected: Any) -> None:
    if isinstance(expected, list | tuple):
        for condition in expected:
            _check_expected(condition)
    elif isinstance(expected, Mapping):
        if not any(str(key).startswith("$") for key in expected):
            check_filter(expected)
            return
        for name in expected:
            if name not in _OPERATORS:
                raise ValueError(f"unknown operator {name!r}: use {', '.join(_OPERATORS)}")


def passes(value: Mapping[str, Any], filter: Mapping[str, Any] | None) -> bool:
    """Return whether a value passes a filter that `check_filter` accepts."""
    return all(_matches(_at(value, key), expected) for key, expected in (filter or {}).items())


def _at(value: Any, key: str) -> Any:
    """Return the value of a key; a key that does not exist is read as a path, as in `"user.name"`."""
    if not isinstance(value, Mapping):
        return None
    if key in value:
        return value[key]
    first, _, remainder = key.partition(".")
    return _at(value.get(first), remainder) if remainder else None


def _matches(value: Any, expected: Any) -> bool:
    """Return whether a value matches an operator, mapping, list or scalar of a filter.

    A mapping matches if its keys do, a list as a whole, a scalar by equality.
    """
    if isinstance(expected, Mapping):
        if any(str(key).startswith("$") for key in expected):
            return all(_compares(value, name, operand) for name, operand in expected.items())
        return isinstance(value, Mapping) and passes(value, expected)
    if isinstance(expected, list | tuple):
        return (
            isinstance(value, list)
            and len(value) == len(expected)
            and all(map(_matches, value, expected))
        )
    return bool(value == expected)


def _compares(value: Any, name: str, operand: Any) -> bool:
    if name == "$eq":
        return bool(value == operand)
    if name == "$ne":
        return bool(value != operand)
    return _in_order(value, _ORDER[name], operand)


def _in_order(value: Any, compare: Callable[[Any, Any], bool], operand: Any) -> bool:
    """Compare as `SqliteStore` does.

    If the operand is a number, values are compared as numbers, and a text counts as its leading
    number. Otherwise values are compared as texts: lists and mappings as their JSON, and any number
    sorts before any text.
    """
    if value is None:
        return False
    if isinstance(operand, int | float):
        return compare(_as_number(value), operand)
    if isinstance(value, int | float):
        return compare(0, 1)
    return compare(_as_text(value), _as_text(operand))


def _as_number(value: Any) -> int | float:
    if isinstance(value, int | float):
        return value
    match = _NUMBER.match(_as_text(value))
    return float(match[0]) if match else 0.0


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def meets_all(namespace: Namespace, conditions: Sequence[MatchCondition] | None) -> bool:
    """Return whether a namespace meets all conditions.

    Raises:
        ValueError: A condition is of an unknown kind.
    """
    return all(_meets(namespace, condition) for condition in conditions or ())


def _meets(namespace: Namespace, condition: MatchCondition) -> bool:
    path = condition.path
    if condition.match_type not in ("prefix", "suffix"):
        raise ValueError(f"unknown match type {condition.match_type!r}: use prefix or suffix")
    if len(path) > len(namespace):
        return False
    if condition.match_type == "prefix":
        part = namespace[: len(path)]
    else:
        part = namespace[len(namespace) - len(path) :]
    return all(pattern in ("*", label) for pattern, label in zip(path, part, strict=True))
