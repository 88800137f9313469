"""`Collection`: Mem0's rows, an id with a text and a payload, as turns of evomem's memories.

Every user has a log of their own, so that users' turns do not influence each other;
entries without a user belong to their agent, or else to their run. A row is a turn; a row whose text was changed
is the newest of several turns, which share a session: the row's id.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from evomem.database import Database
from evomem.errors import NotFound, QueryError
from evomem.memory import Memory
from evomem.memory_view import Mode
from evomem.records import Hit, Record, Turn
from evomem.store import Namespace
from evomem_integrations.documents import put, text_of
from evomem_integrations.mem0.filters import OWNERS, Where, as_where, check_owner

ROOT = "mem0"  # the first label of every namespace used here
EXPIRES = "mem0_expires"  # metadata of ours, never shown
NEVER = "9999-12-31"


@dataclass(frozen=True, slots=True)
class Row:
    """What Mem0 calls a vector: an id, a payload with the text under `data`, and perhaps a score."""

    id: str
    payload: dict[str, Any]
    score: float | None = None


class Collection:
    """The rows of one collection of a database."""

    def __init__(self, database: Database, name: str) -> None:
        self.database = database
        self.name = name
        self._last: Namespace | None = None  # where a row was found last: likely there again

    # writing -------------------------------------------------------------------------------

    def add(
        self, payloads: Sequence[Mapping[str, Any]], times: Sequence[datetime | None]
    ) -> list[str]:
        """Store rows of one owner in order, all or none up to 64; return the ids made for them."""
        memory = self._memory(self._owner(payloads[0]))
        ids = [_new_id(memory.namespace) for _ in payloads]
        memory.add_many(
            _turn(id, payload, time=time)
            for id, payload, time in zip(ids, payloads, times, strict=True)
        )
        return ids

    def put(self, id: str, payload: Mapping[str, Any]) -> None:
        """Store a row under its own id; one that its owner has already is replaced.

        Raises:
            QueryError: Another owner has a row with this id, or an owner's id is `"*"`.
        """
        memory = self._memory(self._owner(payload))
        if not (_is_random(id) or memory.history(session=id)) and self.get(id) is not None:
            raise QueryError(f"the id {id!r} belongs to another owner's memory: give a new one")
        put(memory, id, lambda newest: _turn(id, payload, newest))

    def replace(self, id: str, payload: Mapping[str, Any]) -> None:
        """Replace a row's payload. If the text is the same, the turn is not read again.

        A new text is read as the newest turn, which replaces the old one.

        Raises:
            NotFound: There is no such row.
            QueryError: The payload names another owner.
        """
        memory, _ = self._find(id)
        if self._owner(payload) != memory.namespace:
            raise QueryError(
                f"the memory {id!r} is {_owned(memory.namespace)}, and an update cannot give it to "
                f"{_owned(self._owner(payload))}: delete it and add it there"
            )
        put(memory, id, lambda newest: _turn(id, payload, newest))

    def forget(self, id: str) -> None:
        """Purge a row and all that it ever said.

        Raises:
            NotFound: There is no such row.
        """
        memory, versions = self._find(id)
        memory.purge(versions[-1].id)  # with the turns whose places it took

    def forget_all(self, filters: Mapping[str, Any]) -> int:
        """Purge the rows that pass the filters; return how many."""
        count = 0
        for memory, where in self._searched(filters):
            records = memory.history(where=where)
            rows = {_session(record): record for record in records}
            for record in sorted(rows.values(), key=lambda record: -record.seq):
                memory.purge(record.id)  # the newest first: so less is read again
            count += len(rows)
        return count

    # reading -------------------------------------------------------------------------------

    def get(self, id: str) -> Row | None:
        """Return a row, None if there is none."""
        try:
            _, versions = self._find(id)
        except NotFound:
            return None
        return _row(versions[-1])

    def rows(
        self, filters: Mapping[str, Any] | None, limit: int | None, *, alive: str | None = None
    ) -> list[Row]:
        """Return rows in the order they were stored, at most `limit`.

        Args:
            filters: As in `evomem_integrations.mem0.filters`.
            limit: None for all.
            alive: A date; rows that expired before it are left out.
        """
        newest: dict[str, Record] = {}
        for memory, where in self._searched(filters, alive):
            for record in memory.history(where=where, limit=limit):
                newest[_session(record)] = record
        records = sorted(newest.values(), key=lambda record: (record.added, record.seq))
        return [_row(record) for record in records[:limit]]

    def search(
        self,
        query: str,
        filters: Mapping[str, Any] | None,
        limit: int,
        *,
        mode: Mode = "evolvable",
        alive: str | None = None,
        **asked: Any,
    ) -> list[Row]:
        """Return the rows that answer `query` best; scores are evomem's.

        Args:
            query: The question.
            filters: As in `rows`.
            limit: How many at most.
            mode: As in `Memory.search`.
            alive: As in `rows`.
            **asked: `now` and `zone`, as in `Memory.search`.
        """
        best: dict[str, Hit] = {}
        for memory, where in self._searched(filters, alive):
            for hit in memory.search(query, limit, mode=mode, where=where, **asked):
                best.setdefault(_session(hit.record), hit)
        hits = sorted(best.values(), key=lambda hit: -hit.score)
        return [_row(hit.record, hit.score) for hit in hits[:limit]]

    def count(self) -> int:
        """Return the number of rows."""
        return sum(len(self._memory(namespace)) for namespace in self._namespaces())

    # ---------------------------------------------------------------------------------------

    def _owner(self, payload: Mapping[str, Any]) -> Namespace:
        for kind in OWNERS:
            check_owner(kind, payload.get(kind))
        for kind in OWNERS:
            if payload.get(kind) is not None:
                return (ROOT, self.name, kind, str(payload[kind]))
        return (ROOT, self.name, "nobody")

    def _memory(self, namespace: Namespace) -> Memory:
        return self.database.memory(*namespace)

    def _namespaces(self) -> list[Namespace]:
        return self.database.memories(ROOT, self.name)

    def _searched(
        self, filters: Mapping[str, Any] | None, alive: str | None = None
    ) -> Iterable[tuple[Memory, Where]]:
        """Yield the memories that may hold rows which pass the filters, and the condition."""
        where = as_where(filters)
        if alive is not None:
            where = {"$and": [{EXPIRES: {"$gte": alive}}, *([where] if where else [])]}
        for namespace in self._candidates(filters or {}):
            yield self._memory(namespace), where

    def _candidates(self, filters: Mapping[str, Any]) -> list[Namespace]:
        """Return where rows with the ids of these filters may be: a user's only with the user."""
        kinds = []
        for kind in OWNERS:
            kinds.append(kind)
            if isinstance(filters.get(kind), str):
                own = self._owner({kind: filters[kind]})
                return [
                    n for n in self._namespaces() if n == own or (n[2] in kinds and n[2] != kind)
                ]
        return self._namespaces()

    def _find(self, id: str) -> tuple[Memory, list[Record]]:
        """Return where a row is, and its turns, the newest last."""
        namespaces = self._namespaces()
        namespaces.sort(key=lambda n: (_mark(n) != id.replace("-", "")[:12], n != self._last))
        for namespace in namespaces:
            memory = self._memory(namespace)
            versions = memory.history(session=id)
            if versions:
                self._last = namespace
                return memory, versions
        raise NotFound(f"Memory with id {id} not found")


def _turn(
    id: str,
    payload: Mapping[str, Any],
    newest: Record | None = None,
    *,
    time: datetime | None = None,
) -> Turn:
    """Return a row as a turn, to be put in the place of the `newest` turn of the same row."""
    data = payload.get("data")
    sides = data if isinstance(data, Turn) else _one_sided(payload)
    metadata = {key: value for key, value in payload.items() if key != "data"}
    metadata[EXPIRES] = payload.get("expiration_date") or NEVER
    return Turn(
        user=sides.user,
        assistant=sides.assistant,
        speaker=sides.speaker,
        id=id if newest is None else f"{id}/{uuid.uuid4().hex}",
        time=time,
        session=id,
        metadata=metadata,
    )


def _one_sided(payload: Mapping[str, Any]) -> Turn:
    text, role, speaker = payload.get("data"), payload.get("role"), payload.get("actor_id")
    if not isinstance(text, str):
        raise QueryError(f"a memory needs text, got {text!r}")
    if role == "assistant":
        return Turn(assistant=text, speaker=speaker)
    return Turn(user=text, speaker=speaker or (role if role not in (None, "user") else None))


def _row(record: Record, score: float | None = None) -> Row:
    payload = {k: v for k, v in record.turn.metadata.items() if k != EXPIRES}
    return Row(_session(record), {"data": text_of(record), **payload}, score)


def _session(record: Record) -> str:
    return record.turn.session or record.id


def _new_id(namespace: Namespace) -> str:
    """Return a random UUID that begins with the mark of its owner, for fast lookup."""
    mark = bytes.fromhex(_mark(namespace))
    return str(uuid.UUID(bytes=mark + os.urandom(10), version=4))


def _is_random(id: str) -> bool:
    """Return whether an id is a random UUID, as Mem0 generates them, which needs no check."""
    try:
        return uuid.UUID(id).version == 4
    except ValueError:
        return False


def _owned(namespace: Namespace) -> str:
    return " ".join(namespace[2:]) + "'s"


def _mark(namespace: Namespace) -> str:
    return hashlib.blake2b("\0".join(namespace).encode(), digest_size=6).hexdigest()
