"""`RemoteView`: the methods of `MemoryView`, as requests.

Arguments are checked locally, with the checks of a local memory, so that mistakes raise the same errors
and cost no request.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from datetime import datetime, timezone, tzinfo
from typing import TYPE_CHECKING, Any, Literal

from evomem.checks import (
    Sources,
    check_filter,
    check_id,
    check_k,
    check_labels,
    check_min_relevance,
    check_mode,
    check_moment,
    check_query,
    check_rerank,
    check_trust,
    check_whole,
    check_zone,
)
from evomem.client.calls import Call, Caller, Steps, awaiting, blocking, to_json
from evomem.errors import QueryError, TurnError
from evomem.influence import Influence
from evomem.memory_view import MemoryView, Mode, Point
from evomem.records import Context, Hit, Record, as_utc
from evomem.search.context_text import fit
from evomem.service.names import join_name, to_path
from evomem.service.wire import hit_from_json, influence_from_json, record_from_json, zone_to_text
from evomem.store import Filter, Namespace

if TYPE_CHECKING:
    from evomem.answering import Answer, LanguageModel
    from evomem.memory import Memory

CHARS = 3  # per token; English has about four, so that estimates rarely exceed a budget
PAGE = 1000  # turns per request of a history


class RemoteView(MemoryView):
    """A memory of a service, or a point in its past; read-only."""

    def __init__(
        self,
        caller: Caller,
        namespace: Namespace,
        point: Point | None = None,
        zone: tzinfo = timezone.utc,
    ) -> None:
        self._caller = caller
        self._point = point
        self._own_zone: tzinfo = zone
        self.namespace = namespace
        self._path = f"/memories/{to_path(join_name(namespace))}"

    def __len__(self) -> int:
        """Return the number of turns, without deleted ones."""
        return self._caller.run(self._count())

    def at(
        self,
        *,
        seq: int | None = None,
        time: datetime | str | None = None,
        added: datetime | str | None = None,
    ) -> MemoryView:
        """See `MemoryView.at`."""
        points = [point for point in (seq, time, added) if point is not None]
        if len(points) != 1:
            raise QueryError("at() takes one of seq=, time= and added=")
        past = self._past(seq if time is None else time, check_moment(added, "added"))
        value = self._caller.run(self._describe(past))
        time_, stored = (value[name] and as_utc(value[name]) for name in ("said", "added"))
        point = Point(value["seq"], time_, stored)
        return RemoteView(self._caller, self.namespace, point, self._own_zone)

    def _describe(self, past: Mapping[str, Any]) -> Steps[Any]:
        return (yield Call("GET", self._path, past))

    def _count(self) -> Steps[int]:
        value = yield from self._describe(self._past())
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
        speaker: str | None = None,
        trust: Mapping[str | None, float] | None = None,
        min_relevance: float | None = None,
        rerank: bool = False,
        now: datetime | str | None = None,
        zone: str | tzinfo | None = None,
    ) -> Steps[list[Hit]]:
        condition = check_filter(since, until, session, role, where, source, not_source, speaker)
        question = self._question(
            query, k, mode, condition, at, trust, min_relevance, rerank, now, zone
        )
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
        zone: str | tzinfo | None = None,
        **filters: Any,
    ) -> Steps[Context]:
        check_whole(max_tokens, "max_tokens", least=1)
        if count_tokens is not None:
            local = self._zone(zone)
            hits = yield from self._search(query, k, mode=mode, zone=local, **filters)
            return fit(hits, query, max_tokens, count_tokens, local)
        at, trust, min_relevance, now = (
            filters.pop(name, None) for name in ("at", "trust", "min_relevance", "now")
        )
        rerank = filters.pop("rerank", False)
        condition = check_filter(**filters)
        question = self._question(
            query, k, mode, condition, at, trust, min_relevance, rerank, now, zone
        )
        question["max_tokens"] = max_tokens
        value = yield Call("POST", f"{self._path}/context", body=to_json(question))
        return Context(value["text"], value["ids"])

    def _get(self, id: str) -> Steps[Record]:
        value = yield Call("GET", self._turn(id), self._past())
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
        all: bool = False,
        speaker: str | None = None,
    ) -> Steps[list[Record]]:
        check_whole(after, "after", least=0)
        remaining = None if limit is None else check_k(limit, "limit")
        condition = check_filter(since, until, session, role, where, source, not_source, speaker)
        params = {**_filters(condition), "all": True if all else None}
        params["where"] = json.dumps(params["where"]) if params["where"] else None
        for name in ("source", "not_source"):
            params[name] = params[name] and [label or "" for label in params[name]]
        if condition.source == ():
            return []
        records: list[Record] = []
        following: int | None = after
        while following is not None and remaining != 0:
            size = PAGE if remaining is None else min(PAGE, remaining)
            page = {**params, "after": following, "limit": size, **self._past()}
            value = yield Call("GET", f"{self._path}/turns", page)
            records += map(record_from_json, value["turns"])
            remaining = None if remaining is None else remaining - len(value["turns"])
            following = value["next"]
        return records

    def _influence(self, id: str) -> Steps[Influence]:
        value = yield Call("GET", self._turn(id) + "/influence", self._past())
        return influence_from_json(value)

    def _fork(self, *labels: str) -> Steps[Memory]:
        check_labels(labels)
        body = to_json({"labels": labels, **self._past()})
        value = yield Call("POST", f"{self._path}/fork", body=body, repeats=False)
        from evomem.client.memory import RemoteMemory  # which builds on this class

        return RemoteMemory(self._caller, tuple(value["memory"]), zone=self._own_zone)

    def answer(
        self,
        /,
        question: str,
        llm: LanguageModel | Literal["encoder"] | None = None,
        **options: Any,
    ) -> Answer:
        """See `MemoryView.answer`; only for language models, since latents stay on the service."""
        if llm == "encoder":
            raise QueryError(
                "a service does not answer from latents: pass a language model as llm=, or open the "
                "database itself"
            )
        return MemoryView.answer(self, question, llm, **options)

    async def aanswer(
        self,
        /,
        question: str,
        llm: LanguageModel | Literal["encoder"] | None = None,
        **options: Any,
    ) -> Answer:
        """Do as `answer`, without blocking the event loop."""
        return await asyncio.to_thread(self.answer, question, llm, **options)

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

    def _token_counter(self) -> Callable[[str], int]:
        return _about_tokens

    def _zone(self, zone: str | tzinfo | None) -> tzinfo:
        return self._own_zone if zone is None else check_zone(zone)

    def _past(
        self, at: int | datetime | str | None = None, added: datetime | None = None
    ) -> dict[str, int | str | None]:
        """Return the request parameters of a point of the past, no later than this view."""
        seq, said_by, added_by = self._point_at(at, added)
        return {"at": seq, "said": _iso(said_by), "added": _iso(added_by)}

    def _question(
        self,
        query: str,
        k: int,
        mode: str,
        condition: Filter,
        at: int | datetime | str | None,
        trust: Mapping[str | None, float] | None,
        min_relevance: float | None,
        rerank: bool,
        now: datetime | str | None,
        zone: str | tzinfo | None,
    ) -> dict[str, Any]:
        check_query(query)
        check_mode(mode)
        weights = check_trust(trust)
        moment = check_moment(now, "now")
        return {
            "query": query,
            "k": check_k(k),
            "mode": mode,
            **_filters(condition),
            **self._past(at),
            "trust": {label or "": weight for label, weight in weights.items()} or None,
            "min_relevance": check_min_relevance(min_relevance, mode),
            "rerank": check_rerank(rerank),
            "now": moment and moment.isoformat(),
            "zone": zone_to_text(self._zone(zone)),
        }


def _filters(condition: Filter) -> dict[str, Any]:
    """Return the filters of a search as plain JSON values."""
    return {
        "since": condition.since and condition.since.isoformat(),
        "until": condition.until and condition.until.isoformat(),
        "session": condition.session,
        "role": condition.role,
        "where": dict(condition.where) or None,
        "source": None if condition.source is None else list(condition.source),
        "not_source": list(condition.not_source) or None,
        "speaker": condition.speaker,
    }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _checked_id(id: object) -> str:
    text = check_id(id)
    if not text.strip():
        raise TurnError(f"a turn's id is text, got {id!r:.60}")
    return text


def _about_tokens(text: str) -> int:
    """Return an estimate of a text's tokens: only the service's encoder can count them."""
    return -(-len(text) // CHARS)
