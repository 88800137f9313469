"""`Collection`: Mem0's rows (an id with a text and a payload) as turns of evomem's memories.

Every user has a separate log, so that users' turns do not influence each other. Rows without a user
belong to their agent, otherwise to their run. A row is a turn with the row's id as its session; if
the text of a row was changed, the row is the newest turn of that session.
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

ROOT = "mem0"  # the first label of every namespace
EXPIRES = "mem0_expires"  # internal metadata, never shown
NEVER = "9999-12-31"


@dataclass(frozen=True, slots=True)
class Item:
    """A vector in Mem0's sense: an id, a payload with the text under `data`, and optionally a score."""

    id: str
    payload: dict[str, Any]
    score: float | None = None


class Collection:
    """The rows of one collection of a database."""

    def __init__(self, database: Database, name: str) -> None:
        self.database = database
        self.name = name
        self._last: Namespace | None = None  # where the last row was found, which is searched first

    # writing -------------------------------------------------------------------------------

    def add(
        self, payloads: Sequence[Mapping[str, Any]], times: Sequence[datetime | None]
    ) -> list[str]:
        """Store rows of one owner in order; return their new ids. Up to 64 rows are one transaction."""
        memory = self._memory(self._owner(payloads[0]))
        ids = [_new_id(memory.namespace) for _ in payloads]
        memory.add_many(
            _turn(id, payload, time=time)
            for id, payload, time in zip(ids, payloads, times, strict=True)
        )
        return ids

    def put(self, id: str, payload: Mapping[str, Any]) -> None:
        """Store a row under a given id; an existing row of the same owner is replaced.

        Raises:
            QueryError: Another owner has a row with this id, or an owner's id is `"*"`.
        """
        memory = self._memory(self._owner(payload))
        if not (_is_random(id) or memory.history(session=id)) and self.get(id) is not None:
            raise QueryError(f"the id {id!r} belongs to another owner's memory: use a new id")
        put(memory, id, lambda newest: _turn(id, payload, newest))

    def replace(self, id: str, payload: Mapping[str, Any]) -> None:
        """Replace a row's payload. An unchanged text is not read again.

        A new text is read as a new turn, which replaces the old one.

        Raises:
            NotFound: There is no such row.
            QueryError: The payload names a different owner.
        """
        memory, _ = self._find(id)
        if self._owner(payload) != memory.namespace:
            raise QueryError(
                f"the memory {id!r} is {_possessive(memory.namespace)}, and an update cannot give it to "
                f"{_possessive(self._owner(payload))}: delete it and add it there"
            )
        put(memory, id, lambda newest: _turn(id, payload, newest))

    def forget(self, id: str) -> None:
        """Purge a row with all versions of its text.

        Raises:
            NotFound: There is no such row.
        """
        memory, versions = self._find(id)
        memory.purge(versions[-1].id)  # purges the turns that it replaced as well

    def forget_all(self, filters: Mapping[str, Any]) -> int:
        """Purge the rows that pass the filters; return how many."""
        count = 0
        for memory, where in self._searched(filters):
            records = memory.history(where=where)
            rows = {_session(record): record for record in records}
            for record in sorted(rows.values(), key=lambda record: -record.seq):
                memory.purge(record.id)  # newest first: fewer turns are read again
            count += len(rows)
        return count

    # reading -------------------------------------------------------------------------------

    def get(self, id: str) -> Item | None:
        """Return a row, or None if there is no row with this id."""
        try:
            _, versions = self._find(id)
        except NotFound:
            return None
        return _row(versions[-1])

    def rows(
        self, filters: Mapping[str, Any] | None, limit: int | None, *, alive: str | None = None
    ) -> list[Item]:
        """Return rows in the order they were stored.

        Args:
            filters: As in `evomem_integrations.mem0.filters`.
            limit: The maximum number, None for all.
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
        **options: Any,
    ) -> list[Item]:
        """Return the rows that answer `query` best; scores are evomem's.

        Args:
            query: The question.
            filters: As in `rows`.
            limit: The maximum number.
            mode: As in `Memory.search`.
            alive: As in `rows`.
            **options: `now` and `zone`, as in `Memory.search`.
        """
        best: dict[str, Hit] = {}
        for memory, where in self._searched(filters, alive):
            for hit in memory.search(query, limit, mode=mode, where=where, **options):
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
        """Yield the memories that may hold rows which pass the filters, each with the condition."""
        where = as_where(filters)
        if alive is not None:
            where = {"$and": [{EXPIRES: {"$gte": alive}}, *([where] if where else [])]}
        for namespace in self._candidates(filters or {}):
            yield self._memory(namespace), where

    def _candidates(self, filters: Mapping[str, Any]) -> list[Namespace]:
        """Return the namespaces that may hold rows with the ids of these filters.

        The first id of `OWNERS` in the filters decides: a row with this id is in the id's namespace,
        or in that of an id that precedes it in `OWNERS`.
        """
        kinds = []
        for kind in OWNERS:
            kinds.append(kind)
            if isinstance(filters.get(kind), str):
                namespace = self._owner({kind: filters[kind]})
                return [
                    n
                    for n in self._namespaces()
                    if n == namespace or (n[2] in kinds and n[2] != kind)
                ]
        return self._namespaces()

    def _find(self, id: str) -> tuple[Memory, list[Record]]:
        """Return the memory that holds a row, and the row's turns, newest last."""
        namespaces = self._namespaces()
        namespaces.sort(
            key=lambda n: (_owner_digest(n) != id.replace("-", "")[:12], n != self._last)
        )
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
    """Return a row as a turn, which replaces the row's `newest` turn, if any."""
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


def _row(record: Record, score: float | None = None) -> Item:
    payload = {k: v for k, v in record.turn.metadata.items() if k != EXPIRES}
    return Item(_session(record), {"data": text_of(record), **payload}, score)


def _session(record: Record) -> str:
    return record.turn.session or record.id


def _new_id(namespace: Namespace) -> str:
    """Return a random UUID that starts with a digest of its owner, for fast lookup."""
    mark = bytes.fromhex(_owner_digest(namespace))
    return str(uuid.UUID(bytes=mark + os.urandom(10), version=4))


def _is_random(id: str) -> bool:
    """Return whether an id is a random UUID, as Mem0 generates, which cannot collide."""
    try:
        return uuid.UUID(id).version == 4
    except ValueError:
        return False


def _possessive(namespace: Namespace) -> str:
    return " ".join(namespace[2:]) + "'s"


def _owner_digest(namespace: Namespace) -> str:
    return hashlib.blake2b("\0".join(namespace).encode(), digest_size=6).hexdigest()
