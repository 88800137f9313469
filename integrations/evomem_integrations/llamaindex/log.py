"""The memory of a conversation: what it forgets is removed from the kept messages as well."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime

from llama_index.core.base.llms.types import MessageRole

from evomem.async_methods import async_method
from evomem.checks import Sources
from evomem.errors import NotFound
from evomem.forgetting import Progress, Receipt
from evomem.memory import Memory
from evomem.records import as_utc
from evomem.store import Namespace
from evomem_integrations._databases import Handle
from evomem_integrations.llamaindex.chats import Chats, Row, run
from evomem_integrations.llamaindex.turns import identified, placed, spoken


class ChatMemory(Memory):
    """A memory whose `purge`, `expire` and `drop` also erase messages (`Chats`).

    The log comes first. If this is interrupted between the two, doing it again erases the messages.
    """

    def __init__(
        self,
        handle: Handle,
        namespace: Namespace,
        place: tuple[str, str | None],
        zone: str | None = None,
    ) -> None:
        """Represent a memory of a database, which stays open as long as this object exists.

        Args:
            handle: On the database.
            namespace: Of the memory.
            place: The arguments of `Chats`.
            zone: As in `Database.memory`.
        """
        memory = handle.database.memory(*namespace, zone=zone)
        super().__init__(memory._engine, memory.namespace, zone=memory._own_zone)
        self._handle = handle
        self._place = place

    def purge(self, id: str, *, forks: bool = False, progress: Progress | None = None) -> Receipt:
        """See `Memory.purge`. The messages of the turn go with it.

        So do those of other turns of its session that the memory does not hold.
        """
        session = None
        with contextlib.suppress(NotFound):  # it was deleted before: its session is not known
            session = self.get(id).turn.session
            if session is None:  # it has no messages
                return super().purge(id, forks=forks, progress=progress)
        try:
            receipt = super().purge(id, forks=forks, progress=progress)
        except NotFound:
            run(self._follow((self.namespace,), session, None))
            raise
        return self._followed(receipt, session, None)

    def expire(
        self,
        *,
        before: datetime | str | None = None,
        session: str | None = None,
        source: Sources | None = None,
        forks: bool = False,
        progress: Progress | None = None,
    ) -> Receipt:
        """See `Memory.expire`. The messages of the turns go with them.

        With `session` alone, all messages of the session do; with `before`, also those that were put
        before it and belong to no turn, such as a question that was never answered, unless `source`
        is given: they have none. System messages stay.
        """
        receipt = super().expire(
            before=before, session=session, source=source, forks=forks, progress=progress
        )
        if source is not None:
            return self._followed(receipt, session, None)
        if before is None:
            return self._followed(receipt, session, None, whole=True)
        return self._followed(receipt, session, as_utc(before))

    def drop(self) -> Receipt:
        """See `Memory.drop`. All messages of all its sessions go with it, answered or not."""
        try:
            receipt = super().drop()
        except NotFound:  # messages without turns, or what an interrupted call has left
            chats = self._chats
            if chats is None or not run(chats.sessions(self.namespace)):
                raise
            receipt = Receipt((self.namespace,), (), 0)
        return self._followed(receipt, None, None, whole=True)

    # mypy takes the async methods of `Memory` to be of its methods alone.
    apurge = async_method(purge, write=True)  # type: ignore[arg-type]
    aexpire = async_method(expire, write=True)  # type: ignore[arg-type]
    adrop = async_method(drop, write=True)  # type: ignore[arg-type]

    # ---------------------------------------------------------------------------------------

    @property
    def _chats(self) -> Chats | None:
        try:
            return Chats(*self._place)
        except ValueError:  # the database is no file, and no other place was named
            return None

    def _followed(
        self,
        receipt: Receipt,
        session: str | None,
        before: datetime | None,
        *,
        whole: bool = False,
    ) -> Receipt:
        """Erase the messages of what was forgotten; return what can be said then."""
        namespaces = {self.namespace, *receipt.memories}
        clean = run(self._follow(namespaces, session, before, whole=whole))
        return replace(receipt, clean=receipt.clean and clean)

    async def _follow(
        self,
        namespaces: Collection[Namespace],
        session: str | None,
        before: datetime | None,
        *,
        whole: bool = False,
    ) -> bool:
        """Erase messages of one session, or of all if it is None; return whether no byte is left."""
        chats = self._chats
        if chats is None:
            return True
        for namespace in namespaces:
            log = Memory(self._engine, namespace)
            for name in await chats.sessions(namespace):
                if session in (None, name):
                    rows = await chats.rows(namespace, name)
                    known = set() if whole else _held(log, name)
                    ids = [row.id for row in rows] if whole else forgotten(rows, known, before)
                    await chats.erase(ids)
        if chats.beside:  # elsewhere, other databases may have unassigned messages
            await self._follow_unassigned(chats, session)
        return await chats.scrub()

    async def _follow_unassigned(self, chats: Chats, session: str | None) -> None:
        """Erase unassigned messages of turns that no memory of the database holds any more."""
        names = self._engine.store.memories(())
        for name in await chats.unassigned_sessions():
            if session in (None, name):
                known = {
                    text for labels in names for text in _held(Memory(self._engine, labels), name)
                }
                ids = forgotten(await chats.unassigned(name), known, None)
                await chats.erase(ids, unassigned=True)


Sides = tuple[str, str]
"""What the user and the assistant said in a turn."""


def forgotten(rows: Sequence[Row], known: Collection[Sides], before: datetime | None) -> list[int]:
    """Return the ids of messages whose turns are not held.

    Messages that belong to no complete turn are among them if they are older than `before`. System
    messages never are.
    """
    gone: set[int] = set()
    loose = set(range(len(rows)))
    for turn, places in placed([row.message for row in rows]):
        loose.difference_update(places)
        if (turn.user, turn.assistant) not in known:
            gone.update(places)
    if before is not None:
        gone.update(place for place in loose if rows[place].put < before)
    return [
        rows[place].id for place in sorted(gone) if rows[place].message.role != MessageRole.SYSTEM
    ]


def owner(rows: Sequence[Row], session: str, logs: Collection[Memory]) -> Namespace | None:
    """Return whose the unassigned messages of a session are, None where it is not certain.

    It is certain if all of them are questions and answers of complete turns, and the log of exactly
    one memory holds all these turns in this session.
    """
    messages = [row.message for row in rows]
    turns = placed(messages)
    answered = sum(len(places) for _, places in turns)
    if not len(spoken(messages)) == answered == len(messages):
        return None
    ids = {turn.id for turn in identified([turn for turn, _ in turns], session)}
    holders = [
        log.namespace
        for log in logs
        if ids <= {record.id for record in log.history(session=session)}
    ]
    return holders[0] if len(holders) == 1 else None


def _held(log: Memory, session: str) -> set[Sides]:
    return {(r.turn.user, r.turn.assistant) for r in log.history(session=session)}
