"""Checks of arguments: namespaces, queries, limits and filters."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from evomem.errors import NamespaceError, QueryError, TurnError, shown
from evomem.records import MAX_CHARS, MAX_LABEL, as_utc, check_string
from evomem.store import Filter
from evomem.where import read_where

Sources = str | Collection[str | None]
"""One source, or several; None stands for turns without a source."""

MODES = ("evolvable", "lexical", "hybrid")
ROLES = ("user", "assistant", "exchange")
MAX_LABELS = 16
MAX_TURNS = 2**32 - 1
"""The largest seq of a memory."""


def check_labels(labels: Sequence[object]) -> None:
    """Raise `NamespaceError` unless `labels` can address a memory."""
    if not labels:
        raise NamespaceError('a memory needs a name, such as db.memory("acme", "alice")')
    if len(labels) > MAX_LABELS:
        raise NamespaceError(f"a namespace has at most {MAX_LABELS} labels, got {len(labels)}")
    for label in labels:
        try:
            check_string("a namespace label", label, MAX_LABEL)
        except TurnError as error:
            raise NamespaceError(f"{error} (in {tuple(labels)!r:.200})") from error
        if not str(label).strip():
            raise NamespaceError(f"a namespace label is empty in {tuple(labels)!r:.200}")


def check_id(id: object) -> str:
    """Return the id of a sought turn. Raises `TurnError` unless it is a string."""
    if not isinstance(id, str):
        raise TurnError(f"a turn's id is text, got {id!r:.60}; a record's id is record.id")
    return id


def check_query(query: object) -> None:
    """Raise `QueryError` unless `query` is a text that is not blank."""
    try:
        check_string("the query", query, MAX_CHARS)
    except TurnError as error:
        raise QueryError(str(error)) from error
    if not str(query).strip():
        raise QueryError("the query is empty or white space; write a question")


def check_k(k: object, name: str = "k") -> int:
    """Return the number of turns to return, at most as many as a memory can hold.

    Raises:
        QueryError: `k` is not a whole number of at least 1.
    """
    return min(check_whole(k, name, least=1), MAX_TURNS)


def check_whole(number: object, name: str, *, least: int) -> int:
    """Return `number`, or raise `QueryError` unless it is a whole number of at least `least`."""
    if isinstance(number, bool) or not isinstance(number, int) or number < least:
        raise QueryError(f"{name} must be a whole number of at least {least}, got {shown(number)}")
    return number


def check_mode(mode: object) -> None:
    """Raise `QueryError` unless `mode` is one of `MODES`."""
    if mode not in MODES:
        raise QueryError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")


def check_point(at: object) -> int | datetime | None:
    """Return a point of a log, a seq or a UTC time, or raise `QueryError`."""
    if isinstance(at, bool) or not isinstance(at, int | datetime | str | None):
        raise QueryError(f"a point of the log is a seq or a time, got {at!r}")
    if isinstance(at, int) and not 0 <= at <= MAX_TURNS:
        raise QueryError(
            f"turns are counted from 1 (0 is before the first) to {MAX_TURNS} at most, "
            f"got {shown(at)}"
        )
    try:
        return at if isinstance(at, int) else as_utc(at)
    except TurnError as error:
        raise QueryError(str(error)) from error


def check_zone(zone: str | tzinfo) -> tzinfo:
    """Return a time zone, or raise `QueryError` unless `zone` is one or the IANA name of one."""
    if isinstance(zone, tzinfo):
        return zone
    try:
        return ZoneInfo(zone)
    except (KeyError, ValueError, OSError, TypeError, AttributeError) as error:
        raise QueryError(
            f"no time zone {zone!r:.100}; use one such as Europe/Berlin or UTC"
        ) from error


def check_moment(moment: datetime | str | None, name: str) -> datetime | None:
    """Return a time in UTC, or raise a `QueryError` that names the argument."""
    try:
        return as_utc(moment)
    except TurnError as error:
        raise QueryError(f"{name} cannot be used: {error}") from error


def check_filter(
    since: datetime | str | None = None,
    until: datetime | str | None = None,
    session: str | None = None,
    role: str | None = None,
    where: Mapping[str, Any] | None = None,
    source: Sources | None = None,
    not_source: Sources | None = None,
    speaker: str | None = None,
) -> Filter:
    """Return the conditions as a `Filter`, or raise `QueryError`."""
    if role is not None and role not in ROLES:
        raise QueryError(f"role must be one of {', '.join(ROLES)}, got {role!r}")
    for name, value in (("session", session), ("speaker", speaker)):
        if value is not None and not isinstance(value, str):
            raise QueryError(f"{name} must be a string, got {type(value).__name__}")
    if where is not None and not isinstance(where, Mapping):
        raise QueryError(
            f'where must be a mapping such as {{"topic": "travel"}}, got {type(where).__name__}'
        )
    try:
        condition = Filter(
            as_utc(since),
            as_utc(until),
            session,
            role,
            dict(where or {}),
            _sources("source", source),
            _sources("not_source", not_source) or (),
            speaker,
        )
    except (TurnError, TypeError, ValueError) as error:
        raise QueryError(f"a filter cannot be used: {error}") from error
    read_where(condition.where)
    return condition


def check_min_relevance(value: float | None, mode: str) -> float | None:
    """Return the minimum relevance of hits, or raise `QueryError`."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise QueryError(f"min_relevance must be a number from 0 to 1, got {value!r}")
    if mode == "lexical" and value:
        raise QueryError(
            f"min_relevance={value} needs the encoder: use mode='hybrid' or 'evolvable', not 'lexical'"
        )
    return float(value)


def check_rerank(value: bool) -> bool:
    """Return whether to re-rank, or raise `QueryError` unless `value` is True or False."""
    if not isinstance(value, bool):
        raise QueryError(
            f"rerank must be True or False, got {shown(value)}; "
            "the re-ranker is chosen with evomem.open(..., reranker=)"
        )
    return value


def check_trust(trust: Mapping[str | None, float] | None) -> dict[str | None, float]:
    """Return the weights of sources other than 1, or raise `QueryError`."""
    if not isinstance(trust, Mapping | None):
        raise QueryError(
            f'trust must be a mapping such as {{"web": 0.5}}, got {type(trust).__name__}'
        )
    weights = dict(trust or {})
    _sources("trust", list(weights))
    for source, weight in weights.items():
        is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not (is_number and 0 < weight <= 1):
            raise QueryError(
                f"trust[{source!r}] must be a number above 0 and at most 1, got {weight!r}; "
                "to leave a source out, use not_source"
            )
    return {source: float(weight) for source, weight in weights.items() if weight != 1}


def _sources(name: str, value: object) -> tuple[str | None, ...] | None:
    if value is None:
        return None
    labels = (value,) if isinstance(value, str) else value
    if not isinstance(labels, Collection) or isinstance(labels, bytes | Mapping):
        raise QueryError(f"{name} takes a source or a list of them, got {value!r:.60}")
    for label in labels:
        try:
            if label is not None:
                check_string(name, label, MAX_LABEL)
        except TurnError as error:
            raise QueryError(f"a filter cannot be used: {error}") from error
    return tuple(labels)
