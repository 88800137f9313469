"""`RemoteMemory` and `RemoteView`: the methods of `Memory` and `MemoryView`, as requests.

What is given is checked here, with the checks of the memory itself, so that mistakes raise the same
errors and cost no request.
"""

from __future__ import annotations

import json
import os
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

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
from evomem.errors import InputError, QueryError, TurnError
from evomem.forgetting import Progress, Receipt
from evomem.influence import Influence
from evomem.memory import Memory, check_ids, turn_of
from evomem.memory_view import MemoryView, Mode, fit
from evomem.pairing import Message, as_turns
from evomem.records import Context, Hit, Record, Turn, as_utc
from evomem.service.names import join_name, to_path
from evomem.service.wire import (
    hit_from_json,
    imported_from_json,
    influence_from_json,
    receipt_from_json,
    record_from_json,
    turn_to_json,
)
from evomem.store import Filter, Namespace

if TYPE_CHECKING:
    from evomem.importing import Imported

PAGE = 1000  # turns of one request for a history
BATCH = 64  # turns of one request to add, as many as of one transaction
BATCH_BYTES = 1 << 20


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


class RemoteMemory(RemoteView, Memory):
    """A memory of a service. Get one from `RemoteDatabase.memory`."""

    def _add(
        self,
        text: str,
        *,
        role: str = "user",
        reply: str | None = None,
        speaker: str | None = None,
        id: str | None = None,
        time: datetime | str | None = None,
        session: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        source: str | None = None,
        recalled: Sequence[str] = (),
        supersedes: str | None = None,
    ) -> Steps[Record]:
        turn = turn_of(
            text,
            role,
            reply,
            speaker=speaker,
            id=id or uuid.uuid4().hex,
            time=as_utc(time),
            session=session,
            metadata={} if metadata is None else metadata,
            source=source,
            recalled=recalled,
        )
        values = turn_to_json(turn)
        for side in ("user", "assistant"):
            values.pop(side, None)
        body = {**values, "text": text, "role": role, "reply": reply, "supersedes": supersedes}
        value = yield Call("POST", f"{self._path}/turns", body=to_json(body))
        return record_from_json(value)

    def _add_many(
        self, items: Iterable[Turn | Message], *, progress: Progress | None = None
    ) -> Steps[list[Record]]:
        turns = [replace(turn, id=turn.id or uuid.uuid4().hex) for turn in as_turns(items)]
        check_ids(turns)
        records: list[Record] = []
        for body in _batches(turns):
            value = yield Call(
                "POST", f"{self._path}/turns/many", {"records": True}, body, "application/x-ndjson"
            )
            records += map(record_from_json, value["records"])
            if progress:
                progress(len(records), len(turns))
        return records

    def _import_chats(
        self,
        /,
        source: object,
        *,
        include_forgotten: bool = False,
        dry_run: bool = False,
        turn_source: str | None = None,
        progress: Progress | None = None,
        **reading: Any,
    ) -> Steps[Imported]:
        zone, since = reading.pop("zone", None), as_utc(reading.pop("since", None))
        params = {
            **reading,
            "timezone": _zone_name(zone),
            "since": since and since.isoformat(),
            "include_forgotten": include_forgotten,
            "dry_run": dry_run,
            "turn_source": turn_source,
        }
        with _upload(source, reading.get("name")) as (body, name):
            value = yield Call(
                "POST",
                f"{self._path}/import",
                {**params, "name": name},
                body,
                "application/octet-stream",
            )
        return imported_from_json(value)

    def _annotate(self, id: str, metadata: Mapping[str, Any]) -> Steps[Record]:
        body = to_json({"metadata": dict(Turn(user="-", metadata=metadata).metadata)})
        value = yield Call("PATCH", self._turn(id), body=body)
        return record_from_json(value)

    def _delete(self, id: str) -> Steps[Record]:
        value = yield Call("DELETE", self._turn(id), repeats=False)
        return record_from_json(value)

    def _purge(
        self, id: str, *, forks: bool = False, progress: Progress | None = None
    ) -> Steps[Receipt]:
        body = to_json({"forks": forks})
        value = yield Call("POST", self._turn(id) + "/purge", body=body, repeats=False)
        return receipt_from_json(value)

    def _expire(
        self,
        *,
        before: datetime | str | None = None,
        session: str | None = None,
        source: Sources | None = None,
        forks: bool = False,
        progress: Progress | None = None,
    ) -> Steps[Receipt]:
        condition = check_filter(None, before, session, None, None, source)
        body = {
            "before": condition.until and condition.until.isoformat(),
            "session": session,
            "source": condition.source,
            "forks": forks,
        }
        value = yield Call("POST", f"{self._path}/expire", body=to_json(body), repeats=False)
        return receipt_from_json(value)

    def _drop(self) -> Steps[Receipt]:
        value = yield Call("DELETE", self._path, repeats=False)
        return receipt_from_json(value)

    add = blocking(_add)
    add_many = blocking(_add_many)
    import_chats = blocking(_import_chats)
    annotate = blocking(_annotate)
    delete = blocking(_delete)
    purge = blocking(_purge)
    expire = blocking(_expire)
    drop = blocking(_drop)
    aadd = awaiting(_add, write=True)
    aadd_many = awaiting(_add_many, write=True)
    aimport_chats = awaiting(_import_chats, write=True)
    aannotate = awaiting(_annotate, write=True)
    adelete = awaiting(_delete, write=True)
    apurge = awaiting(_purge, write=True)
    aexpire = awaiting(_expire, write=True)
    adrop = awaiting(_drop, write=True)


# -------------------------------------------------------------------------------------------


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


def _batches(turns: Sequence[Turn]) -> Iterator[bytes]:
    """Yield turns as JSON lines, as many as one request takes."""
    lines: list[bytes] = []
    size = 0
    for turn in turns:
        line = to_json(turn_to_json(turn))
        if lines and (len(lines) == BATCH or size + len(line) > BATCH_BYTES):
            yield b"\n".join(lines)
            lines, size = [], 0
        lines.append(line)
        size += len(line)
    if lines:
        yield b"\n".join(lines)


def _zone_name(zone: tzinfo | None) -> str | None:
    if zone is None:
        return None
    if isinstance(zone, ZoneInfo) and zone.key:
        return str(zone.key)
    if zone is timezone.utc:
        return "UTC"
    raise InputError(
        f"a service takes time zones with a name, such as ZoneInfo('UTC'), got {zone!r}"
    )


@contextmanager
def _upload(source: object, name: str | None) -> Iterator[tuple[bytes | Path, str | None]]:
    """Give what is sent of chats: a file or bytes as they are, and objects as JSON lines."""
    if isinstance(source, bytes | bytearray | memoryview):
        yield bytes(source), name
        return
    if isinstance(source, str | os.PathLike) and Path(source).expanduser().is_file():
        path = Path(source).expanduser()
        yield path, name or path.name
        return
    from evomem.chats import Chats, read

    chats = source if isinstance(source, Chats) else read(source, name=name)
    with tempfile.TemporaryDirectory(prefix="evomem-") as folder:
        path = Path(folder, "chats.jsonl")
        with path.open("wb") as file:
            for talk in chats.conversations:
                value = {"id": talk.id, "title": talk.title, "messages": list(talk.messages)}
                file.write(json.dumps(value, default=_iso).encode() + b"\n")
        yield path, name


def _iso(value: object) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    raise InputError(f"a message holds what is not JSON: {value!r:.60}")
