"""The memory of a conversation, whose deletions also remove the stored messages."""

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
from evomem_integrations.llamaindex.chats import Chats, StoredMessage, run
from evomem_integrations.llamaindex.turns import identified, placed, spoken


class ChatMemory(Memory):
    """A memory whose `purge`, `expire` and `drop` also erase messages (`Chats`).

    The log is changed first. After an interruption between the two, repeating the call erases the
    messages.
    """

    def __init__(
        self,
        handle: Handle,
        namespace: Namespace,
        place: tuple[str, str | None],
        zone: str | None = None,
    ) -> None:
        """Open a memory of a database, which stays open as long as this object exists.

        Args:
            handle: The handle of the database.
            namespace: The memory's namespace.
            place: The arguments of `Chats`.
            zone: As in `Database.memory`.
        """
        memory = handle.database.memory(*namespace, zone=zone)
        super().__init__(memory._engine, memory.namespace, zone=memory._own_zone)
        self._handle = handle
        self._place = place

    def purge(self, id: str, *, forks: bool = False, progress: Progress | None = None) -> Receipt:
        """See `Memory.purge`. The messages of the turn are erased as well.

        So are messages of its session that belong to no turn of the memory.
        """
        session = None
        with contextlib.suppress(NotFound):  # an already deleted turn: its session is not known
            session = self.get(id).turn.session
            if session is None:  # the turn has no messages
                return super().purge(id, forks=forks, progress=progress)
        try:
            receipt = super().purge(id, forks=forks, progress=progress)
        except NotFound:
            run(self._erase_messages((self.namespace,), session, None))
            raise
        return self._with_erased_messages(receipt, session, None)

    def expire(
        self,
        *,
        before: datetime | str | None = None,
        session: str | None = None,
        source: Sources | None = None,
        forks: bool = False,
        progress: Progress | None = None,
    ) -> Receipt:
        """See `Memory.expire`. The messages of the turns are erased as well.

        With `session` alone, all messages of the session are erased. With `before`, older messages
        that belong to no turn, such as an unanswered question, are erased as well, unless `source` is
        given, since such messages have no source. System messages are kept.
        """
        receipt = super().expire(
            before=before, session=session, source=source, forks=forks, progress=progress
        )
        if source is not None:
            return self._with_erased_messages(receipt, session, None)
        if before is None:
            return self._with_erased_messages(receipt, session, None, all_messages=True)
        return self._with_erased_messages(receipt, session, as_utc(before))

    def drop(self) -> Receipt:
        """See `Memory.drop`. All messages of all its sessions are erased, answered or not."""
        try:
            receipt = super().drop()
        except NotFound:  # there may be messages without turns, also after an interrupted call
            chats = self._chats
            if chats is None or not run(chats.sessions(self.namespace)):
                raise
            receipt = Receipt((self.namespace,), (), 0)
        return self._with_erased_messages(receipt, None, None, all_messages=True)

    # mypy binds the async methods to the signatures of `Memory`'s methods.
    apurge = async_method(purge, write=True)  # type: ignore[arg-type]
    aexpire = async_method(expire, write=True)  # type: ignore[arg-type]
    adrop = async_method(drop, write=True)  # type: ignore[arg-type]

    # ---------------------------------------------------------------------------------------

    @property
    def _chats(self) -> Chats | None:
        try:
            return Chats(*self._place)
        except ValueError:  # the database is not a file, and there is no URL for messages
            return None

    def _with_erased_messages(
        self,
        receipt: Receipt,
        session: str | None,
        before: datetime | None,
        *,
        all_messages: bool = False,
    ) -> Receipt:
        """Erase the messages of purged turns; return the receipt with `clean` updated."""
        namespaces = {self.namespace, *receipt.memories}
        clean = run(self._erase_messages(namespaces, session, before, all_messages=all_messages))
        return replace(receipt, clean=receipt.clean and clean)

    async def _erase_messages(
        self,
        namespaces: Collection[Namespace],
        session: str | None,
        before: datetime | None,
        *,
        all_messages: bool = False,
    ) -> bool:
        """Erase messages of one session, or of all if None; return whether none of their bytes are left."""
        chats = self._chats
        if chats is None:
            return True
        for namespace in namespaces:
            log = Memory(self._engine, namespace)
            for name in await chats.sessions(namespace):
                if session in (None, name):
                    rows = await chats.rows(namespace, name)
                    known = set() if all_messages else _sides_of(log, name)
                    ids = (
                        [row.id for row in rows] if all_messages else orphaned(rows, known, before)
                    )
                    await chats.erase(ids)
        if chats.next_to_database:  # a shared store may hold unassigned messages of other databases
            await self._erase_unassigned(chats, session)
        return await chats.scrub()

    async def _erase_unassigned(self, chats: Chats, session: str | None) -> None:
        """Erase unassigned messages whose turns are in no memory of the database."""
        names = self._engine.store.memories(())
        for name in await chats.unassigned_sessions():
            if session in (None, name):
                known = {
                    text
                    for labels in names
                    for text in _sides_of(Memory(self._engine, labels), name)
                }
                ids = orphaned(await chats.unassigned(name), known, None)
                await chats.erase(ids, unassigned=True)


Sides = tuple[str, str]
"""What the user and the assistant said in a turn."""


def orphaned(
    rows: Sequence[StoredMessage], known: Collection[Sides], before: datetime | None
) -> list[int]:
    """Return the ids of messages whose turns are not in `known`, without system messages.

    Messages that belong to no complete turn are included if they are older than `before`.
    """
    orphans: set[int] = set()
    outside_turns = set(range(len(rows)))
    for turn, places in placed([row.message for row in rows]):
        outside_turns.difference_update(places)
        if (turn.user, turn.assistant) not in known:
            orphans.update(places)
    if before is not None:
        orphans.update(place for place in outside_turns if rows[place].put < before)
    return [
        rows[place].id
        for place in sorted(orphans)
        if rows[place].message.role != MessageRole.SYSTEM
    ]


def owner(
    rows: Sequence[StoredMessage], session: str, logs: Collection[Memory]
) -> Namespace | None:
    """Return the owner of the unassigned messages of a session, None if it is ambiguous.

    The owner is certain if all messages are questions and answers of complete turns, and the log of
    exactly one memory holds all these turns in this session.
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


def _sides_of(log: Memory, session: str) -> set[Sides]:
    return {(r.turn.user, r.turn.assistant) for r in log.history(session=session)}
