"""`RemoteView`: the methods of `MemoryView`, as requests.

What is given is checked here, with the checks of the memory itself, so that mistakes raise the same
errors and cost no request.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from evomem.checks import (
    Sources,
    check_filter,
    check_k,
    check_labels,
    check_mode,
    check_point,
    check_query,
    check_trust,
    check_whole,
)
from evomem.client.calls import Call, Caller, Steps, awaiting, blocking, to_json
from evomem.errors import QueryError, TurnError
from evomem.influence import Influence
from evomem.memory_view import MemoryView, Mode, fit
from evomem.records import Context, Hit, Record
from evomem.service.names import join_name, to_path
from evomem.service.wire import hit_from_json, influence_from_json, record_from_json
from evomem.store import Filter, Namespace

if TYPE_CHECKING:
    from evomem.memory import Memory

PAGE = 1000  # turns of one request for a history


class RemoteView(MemoryView):
    """What can be read of a memory of a service, or of a point of its past."""

    def __init__(self, caller: Caller, namespace: Namespace, seq: int | None = None) -> None:
        self._caller = caller
        self._seq = seq
        self.namespace = namespace
        self._path = f"/memories/{to_path(join_name(namespace))}"

    def __len__(self) -> int:
        """Return the number of turns, deleted ones not counted."""
        return self._caller.run(self._count())

    def at(self, *, seq: int | None = None, time: datetime | str | None = None) -> MemoryView:
        """See `MemoryView.at`."""
        if (seq is None) == (time is None):
            raise QueryError("at() takes either seq= or time=")
        found = self._caller.run(self._resolve(time if seq is None else seq))
        return RemoteView(self._caller, self.namespace, found)

    def _count(self) -> Steps[int]:
        value = yield Call("GET", self._path, {"at": self._seq})
        count: int = value["turns"]
        return count

    def _search(
        self,
        query: str,
        k: int = 5,
        *,
        mode: Mode = "hybrid",
        at: int | datetime | str | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        session: str | None = None,
        role: str | None = None,
        where: Mapping[str, Any] | None = None,
        source: Sources | None = None,
        not_source: Sources | None = None,
        trust: Mapping[str | None, float] | None = None,
    ) -> Steps[list[Hit]]:
        condition = check_filter(since, until, session, role, where, source, not_source)
        question = _question(query, k, mode, condition, trust)
        question["at"] = yield from self._point(at)
        value = yield Call("POST", f"{self._path}/search", body=to_json(question))
        return [hit_from_json(hit) for hit in value["hits"]]

    def _context(
        self,
        /,
        query: str,
        *,
        max_tokens: int = 2000,
        k: int = 50,
        mode: Mode = "hybrid",
        count_tokens: Callable[[str], int] | None = None,
        **filters: Any,
    ) -> Steps[Context]:
        check_whole(max_tokens, "max_tokens", least=1)
        if count_tokens is not None:
            hits = yield from self._search(query, k, mode=mode, **filters)
            return fit(hits, max_tokens, count_tokens)
        at, trust = filters.pop("at", None), filters.pop("trust", None)
        condition = _condition(**filters)
        question = _question(query, k, mode, condition, trust)
        question["at"] = yield from self._point(at)
        question["max_tokens"] = max_tokens
        value = yield Call("POST", f"{self._path}/context", body=to_json(question))
        return Context(value["text"], value["ids"])

    def _get(self, id: str) -> Steps[Record]:
        value = yield Call("GET", self._turn(id), {"at": self._seq})
        return record_from_json(value)

    def _history(
        self,
        *,
        after: int = 0,
        limit: int | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        session: str | None = None,
        role: str | None = None,
        where: Mapping[str, Any] | None = None,
        source: Sources | None = None,
        not_source: Sources | None = None,
    ) -> Steps[list[Record]]:
        check_whole(after, "after", least=0)
        left = None if limit is None else check_k(limit, "limit")
        condition = check_filter(since, until, session, role, where, source, not_source)
        params = _filters(condition)
        params["where"] = json.dumps(params["where"]) if params["where"] else None
        for name in ("source", "not_source"):
            params[name] = params[name] and [label or "" for label in params[name]]
        if condition.source == ():
            return []
        records: list[Record] = []
        following: int | None = after
        while following is not None and left != 0:
            size = PAGE if left is None else min(PAGE, left)
            page = {**params, "after": following, "limit": size, "at": self._seq}
            value = yield Call("GET", f"{self._path}/turns", page)
            records += map(record_from_json, value["turns"])
            left = None if left is None else left - len(value["turns"])
            following = value["next"]
        return records

    def _influence(self, id: str) -> Steps[Influence]:
        value = yield Call("GET", self._turn(id) + "/influence", {"at": self._seq})
        return influence_from_json(value)

    def _fork(self, *labels: str) -> Steps[Memory]:
        check_labels(labels)
        body = to_json({"labels": labels, "at": self._seq})
        value = yield Call("POST", f"{self._path}/fork", body=body, repeats=False)
        from evomem.client.memory import RemoteMemory  # which builds on this class

        return RemoteMemory(self._caller, tuple(value["memory"]))

    search = blocking(_search)
    context = blocking(_context)
    get = blocking(_get)
    history = blocking(_history)
    influence = blocking(_influence)
    fork = blocking(_fork)
    asearch = awaiting(_search)
    acontext = awaiting(_context)
    aget = awaiting(_get)
    ahistory = awaiting(_history)
    ainfluence = awaiting(_influence)
    afork = awaiting(_fork, write=True)

    # ---------------------------------------------------------------------------------------

    def _turn(self, id: str) -> str:
        return f"{self._path}/turns/{to_path(_checked_id(id))}"

    def _point(self, at: int | datetime | str | None) -> Steps[int | str | None]:
        """Return a point as requests name it, no later than this view."""
        point = check_point(at)
        if point is None:
            return self._seq
        if self._seq is not None:
            return (yield from self._resolve(point))
        return point.isoformat() if isinstance(point, datetime) else point

    def _resolve(self, at: int | datetime | str | None) -> Steps[int]:
        point = check_point(at)
        last = self._seq
        if last is not None and isinstance(point, int) and point > last:
            raise QueryError(f"{self!r} ends at turn {last}: there is no turn {point}")
        shown = point.isoformat() if isinstance(point, datetime) else point
        value = yield Call("GET", self._path, {"at": shown})
        seq: int = value["seq"]
        return seq if last is None else min(seq, last)


def _condition(
    *,
    since: datetime | str | None = None,
    until: datetime | str | None = None,
    session: str | None = None,
    role: str | None = None,
    where: Mapping[str, Any] | None = None,
    source: Sources | None = None,
    not_source: Sources | None = None,
) -> Filter:
    return check_filter(since, until, session, role, where, source, not_source)


def _filters(condition: Filter) -> dict[str, Any]:
    """Return what a search may return as plain JSON values."""
    return {
        "since": condition.since and condition.since.isoformat(),
        "until": condition.until and condition.until.isoformat(),
        "session": condition.session,
        "role": condition.role,
        "where": dict(condition.where) or None,
        "source": None if condition.source is None else list(condition.source),
        "not_source": list(condition.not_source) or None,
    }


def _question(
    query: str, k: int, mode: str, condition: Filter, trust: Mapping[str | None, float] | None
) -> dict[str, Any]:
    check_query(query)
    check_mode(mode)
    weights = check_trust(trust)
    return {
        "query": query,
        "k": check_k(k),
        "mode": mode,
        **_filters(condition),
        "trust": {label or "": weight for label, weight in weights.items()} or None,
    }


def _checked_id(id: object) -> str:
    if not isinstance(id, str) or not id.strip():
        raise TurnError(f"a turn's id is text, got {id!r:.60}")
    return id
