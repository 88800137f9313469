"""Translates Mem0's filters into a `where` of `MemoryView.search`.

Mem0's callers write `{"stars": {"gte": 4}, "OR": [{"topic": "travel"}, {"topic": "*"}]}`; Mem0 passes
it to stores with `$or` and `$not`. Keys are metadata keys and ids of the memory. The semantics are
those of Mem0's own stores: a list passes a test if one of its elements does, and a memory without the
key passes only a `NOT`. Types matter, as in evomem: "1" is not 1.

`"*"` stands for any value of a metadata key. It is rejected for an id, which names one scope.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evomem.errors import QueryError

Where = dict[str, Any]

OWNERS = ("user_id", "agent_id", "run_id")  # a row is in the log of the first of them it has
ANY = "*"  # the only value that Mem0's filters treat as a pattern
OPERATORS = ("eq", "ne", "gt", "gte", "lt", "lte", "in", "nin")

_NEVER: Where = {"data": {"$in": []}}
_LIST = {"$contains": {"$exists": True}}  # a list that is not empty


def check_owner(name: str, value: object) -> None:
    """Raise `QueryError` if a filter would treat an id as a pattern."""
    if isinstance(value, str) and value.strip() == ANY:
        raise QueryError(
            f"{name} is {value!r}, which means any value in a filter: give the id of one owner"
        )


def as_where(filters: Mapping[str, Any] | None) -> Where:
    """Return filters as a condition on metadata.

    Raises:
        QueryError: A filter is malformed or not supported.
    """
    return {} if filters is None else _all(filters)


def _all(filters: object) -> Where:
    if not isinstance(filters, Mapping):
        raise QueryError(f"a filter must be a mapping like {{'topic': 'travel'}}, got {filters!r}")
    parts = [part for key, value in filters.items() if (part := _part(key, value))]
    return parts[0] if len(parts) == 1 else {"$and": parts} if parts else {}


def _part(key: object, value: Any) -> Where:
    """Return the condition for one key; an empty condition always holds."""
    if not isinstance(key, str):
        raise QueryError(f"filter keys must be strings, got {key!r}")
    name = key.lstrip("$").lower() if key.isupper() or key.startswith("$") else ""
    if name not in ("and", "or", "not"):
        return {key: _test(key, value)}
    if not isinstance(value, list | tuple) or not (value or name == "and"):
        raise QueryError(f"{key} needs a non-empty list of filters, got {value!r}")
    parts = [_all(condition) for condition in value]
    if name == "and":
        conditions = [part for part in parts if part]
        return {"$and": conditions} if conditions else {}
    always = {} in parts
    if name == "or":
        return {} if always else {"$or": parts}
    return _NEVER if always else {"$not": {"$or": parts}}


def _test(key: str, value: Any) -> Any:
    """Return the condition on a key's value."""
    if key in OWNERS:
        check_owner(key, value)
    if isinstance(value, str) and value == ANY:
        return {"$exists": True}
    if isinstance(value, list | tuple):
        value = {"in": value}
    if not isinstance(value, Mapping):
        return value if key in OWNERS else _of_value_or_element(key, "$eq", value)
    if not value:
        raise QueryError(f"the filter for {key!r} is empty; the operators are {_names()}")
    tests = []
    for operator, operand in value.items():
        name = str(operator).removeprefix("$")
        if name in ("contains", "icontains"):
            raise QueryError(
                f"the filter for {key!r} uses {name!r}, but evomem does not match substrings: filter "
                "by a separate metadata key, or search for the words"
            )
        if name not in OPERATORS:
            raise QueryError(
                f"the filter for {key!r} uses {operator!r}; the operators are {_names()}"
            )
        tests.append(_of_value_or_element(key, f"${name}", operand))
    return {"$and": tests}


def _of_value_or_element(key: str, operator: str, operand: Any) -> Where:
    if operator in ("$in", "$nin") and not isinstance(operand, list | tuple | set):
        raise QueryError(f"the filter for {key!r} needs a list of values, got {operand!r}")
    test = {operator: operand}
    if operator not in ("$ne", "$nin"):
        return {"$or": [test, {"$contains": test}]}
    scalar = {"$exists": True, "$not": _LIST, **test}
    return {"$or": [scalar, {"$contains": test}]}


def _names() -> str:
    return ", ".join(OPERATORS)
