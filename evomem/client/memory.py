"""`RemoteMemory`: the methods of `Memory`, as requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evomem.checks import Sources, check_filter
from evomem.client.calls import Call, Steps, awaiting, blocking, to_json
from evomem.client.uploads import batches, upload
from evomem.client.view import RemoteView
from evomem.engine import TRIES
from evomem.errors import HeadMoved
from evomem.forgetting import Progress, Receipt
from evomem.memory import Memory, check_ids, new_id, turn_of
from evomem.pairing import Message, as_turns
from evomem.records import Record, Turn, as_utc
from evomem.service.wire import (
    imported_from_json,
    receipt_from_json,
    record_from_json,
    turn_to_json,
    zone_to_text,
)

if TYPE_CHECKING:
    from evomem.documents import Document, Ingested
    from evomem.importing import Imported

UNKNOWN = "?"
"""The mark that requests the turns of the sessions, if their mark is unknown."""


class RemoteMemory(RemoteView, Memory):
    """A memory of a service. Get one from `RemoteDatabase.memory`."""

    def _add(  # type: ignore[override]  # `Memory._add` is never called here
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
            id=id or new_id(),
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

    def _correct(
        self,
        id: str,
        text: str,
        *,
        reply: str | None = None,
        time: datetime | str | None = None,
        source: str | None = None,
        recalled: Sequence[str] = (),
    ) -> Steps[Record]:
        moment = as_utc(time)
        turn = turn_of(
            text, "user", reply, source=source, recalled=recalled
        )  # checks the arguments
        body = {
            "text": text,
            "reply": reply,
            "time": moment and moment.isoformat(),
            "source": turn.source,
            "recalled": turn.recalled,
        }
        path = self._turn(id) + "/correct"
        value = yield Call("POST", path, body=to_json(body), repeats=False)
        return record_from_json(value)

    def _replace_sessions(
        self,
        sessions: Collection[str],
        build: Callable[[Sequence[Record]], Iterable[Turn]],
        *,
        where: Mapping[str, Any] | None = None,
    ) -> Steps[list[Record]]:
        """Assume first that the sessions are empty, so that one request may suffice."""
        check_filter(where=where)
        head = {"sessions": sorted(set(sessions)), "where": where and dict(where)}
        stored: list[Record] = []
        mark = ""
        for attempt in range(TRIES):
            try:
                turns = [replace(turn, id=turn.id or new_id()) for turn in build(stored)]
            except Exception:  # `build` needs the stored turns
                if attempt:
                    raise
                turns, mark = [], UNKNOWN
            check_ids(turns)
            lines = [{**head, "mark": mark}, *map(turn_to_json, turns)]
            body = b"\n".join(map(to_json, lines))
            path = f"{self._path}/turns/replace"
            value = yield Call("POST", path, body=body, media_type="application/x-ndjson")
            if value["records"] is not None:
                return [record_from_json(record) for record in value["records"]]
            stored, mark = [record_from_json(record) for record in value["held"]], value["mark"]
        raise HeadMoved(
            f"{self!r}: other processes wrote first {TRIES} times in a row; nothing was written"
        )

    def _add_many(
        self, items: Iterable[Turn | Message], *, progress: Progress | None = None
    ) -> Steps[list[Record]]:
        turns = [replace(turn, id=turn.id or new_id()) for turn in as_turns(items)]
        check_ids(turns)
        records: list[Record] = []
        for body in batches(turns):
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
            "timezone": None if zone is None else zone_to_text(zone),
            "since": since and since.isoformat(),
            "include_forgotten": include_forgotten,
            "dry_run": dry_run,
            "turn_source": turn_source,
        }
        with upload(source, reading.get("name")) as (body, name):
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
        condition = check_filter(until=before, session=session, source=source)
        body = {
            "before": condition.until and condition.until.isoformat(),
            "session": session,
            "source": condition.source,
            "forks": forks,
        }
        value = yield Call("POST", f"{self._path}/expire", body=to_json(body), repeats=False)
        return receipt_from_json(value)

    def _reread(self, *, progress: Progress | None = None) -> Steps[int]:
        value = yield Call("POST", f"{self._path}/reread", repeats=False)
        turns: int = value["turns"]
        return turns

    def _drop(self) -> Steps[Receipt]:
        value = yield Call("DELETE", self._path, repeats=False)
        return receipt_from_json(value)

    add_document = Memory.add_document  # reads the document locally, and calls the other methods
    add = blocking(_add)
    add_many = blocking(_add_many)
    correct = blocking(_correct)
    replace_sessions = blocking(_replace_sessions)
    import_chats = blocking(_import_chats)
    annotate = blocking(_annotate)
    delete = blocking(_delete)
    purge = blocking(_purge)
    expire = blocking(_expire)
    reread = blocking(_reread)
    drop = blocking(_drop)

    async def aadd_document(self, document: Document | str | Path, **options: Any) -> Ingested:
        """Do as `add_document`, without blocking the event loop."""
        return await asyncio.to_thread(self.add_document, document, **options)

    aadd = awaiting(_add, write=True)
    aadd_many = awaiting(_add_many, write=True)
    acorrect = awaiting(_correct, write=True)
    areplace_sessions = awaiting(_replace_sessions, write=True)
    aimport_chats = awaiting(_import_chats, write=True)
    aannotate = awaiting(_annotate, write=True)
    adelete = awaiting(_delete, write=True)
    apurge = awaiting(_purge, write=True)
    aexpire = awaiting(_expire, write=True)
    areread = awaiting(_reread, write=True)
    adrop = awaiting(_drop, write=True)
