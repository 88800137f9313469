"""Which values pass a filter and which namespaces a condition, as LangGraph's own stores have it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langgraph.store.base import MatchCondition

Namespace = tuple[str, ...]

_ORDER: dict[str, Callable[[float, float], bool]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}


def passes(value: Mapping[str, Any], filter: Mapping[str, Any] | None) -> bool:
    """Say whether a value has what a filter asks for.

    Raises:
        ValueError: An operator is unknown.
    """
    return all(_matches(_at(value, key), wanted) for key, wanted in (filter or {}).items())


def _at(value: Any, key: str) -> Any:
    """Return what a key holds; one that is not there is a path, as in `"user.name"`."""
    if not isinstance(value, Mapping):
        return None
    if key in value:
        return value[key]
    first, _, rest = key.partition(".")
    return _at(value.get(first), rest) if rest else None


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
    if name not in _ORDER:
        raise ValueError(f"unknown operator {name!r}: use $eq, $ne, {', '.join(_ORDER)}")
    try:
        return _ORDER[name](float(value), float(other))
    except (TypeError, ValueError):  # not there, or no number: it is in no order with one
        return False


def lies_in(namespace: Namespace, conditions: Sequence[MatchCondition] | None) -> bool:
    """Say whether a namespace meets all conditions.

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
