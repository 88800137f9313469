"""`Import`: plans conversations one after the other, and writes them in batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timezone

from evomem.appending import current_view, pause, write
from evomem.chats import Conversation
from evomem.engine import TRIES, Engine
from evomem.errors import HeadMoved
from evomem.importing.entries import Entry, digest, possible_ids
from evomem.importing.nameless import Nameless
from evomem.importing.planning import ImportPlan
from evomem.importing.result import SHOWN, Imported, Tally
from evomem.reading import Pace
from evomem.store import Namespace, Store, View
from evomem.tombstones import sought_by

BATCH = 64  # turns per transaction
MAX_WAITING_MESSAGES = 4_096  # messages matched, at most, before new turns are written

Progress = Callable[[int], None]
"""Called with the number of finished messages."""


class Import:
    """One import into one memory; the caller holds the memory's lock."""

    def __init__(
        self,
        engine: Engine,
        namespace: Namespace,
        *,
        only_one: bool,
        include_forgotten: bool,
        dry_run: bool,
        turn_source: str | None,
        progress: Progress | None,
    ) -> None:
        self._engine, self._store = engine, engine.store
        self._namespace = namespace
        self._include_forgotten, self._turn_source = include_forgotten, turn_source
        self._dry_run, self._progress = dry_run, progress
        self._pace = Pace()
        self._tally = Tally()
        self._nameless = Nameless(only_one=only_one)
        self._waiting: list[Conversation] = []  # planned but not yet written
        self._waiting_messages = 0
        self._done = 0  # messages of planned conversations
        self._start()

    def _start(self) -> None:
        """Take the memory's current view, and start an empty plan."""
        self._view = current_view(self._store, self._namespace)
        self._plan = ImportPlan(
            self._store,
            self._view,
            self._tally,
            self._nameless,
            include_forgotten=self._include_forgotten,
            turn_source=self._turn_source,
        )

    def take(self, conversation: Conversation) -> None:
        """Plan the new exchanges of a conversation; write if enough turns are planned."""
        with self._store.snapshot():
            self._plan.add(conversation)
        self._done += len(conversation.messages)
        if self._dry_run:
            return
        self._waiting.append(conversation)
        self._waiting_messages += len(conversation.messages)
        if self._waiting_messages >= MAX_WAITING_MESSAGES or len(self._plan) >= BATCH:
            self._write()

    def finish(self) -> Imported:
        """Write the remaining turns; return the result of the import."""
        if self._dry_run:
            self._count(self._plan.entries)
        else:
            self._write()
        return self._tally.result()

    def _write(self) -> None:
        """Write the plan; plan again if another process has written."""
        lost = 0  # consecutive lost races
        while lost < TRIES:
            before = len(self._tally.own)
            try:
                self._append(self._plan.entries)
            except HeadMoved:
                if len(self._tally.own) > before:
                    lost = 0
                else:
                    lost += 1
                    self._pace.slower()
                self._engine.note_contention(self._namespace)
                pause(lost)
                self._nameless.reset()
                with self._store.snapshot():
                    self._start()
                    for conversation in self._waiting:
                        self._plan.add(conversation)
                continue
            self._waiting, self._waiting_messages = [], 0
            self._start()
            if self._progress:
                self._progress(self._done)
            return
        raise HeadMoved(
            f"the memory {'/'.join(self._namespace)!r}: other processes wrote first {TRIES} times "
            "in a row; import again to add the missing turns"
        )

    def _append(self, planned: list[Entry]) -> None:
        if not planned:
            return
        if not self._view.memory:
            self._view = self._store.view(self._store.make_memory(self._namespace))
            if self._view.seq:
                raise HeadMoved("another process created the memory")
        _give_ids(self._store, self._view, planned)
        now = datetime.now(timezone.utc)
        for entry in planned:
            if entry.turn.time is None:
                entry.turn = replace(entry.turn, time=now)
        while planned:
            written = self._write_some(planned[:BATCH])
            del planned[:written]

    def _write_some(self, batch: Sequence[Entry]) -> int:
        """Write turns, or only the first of them if another writer waits; return how many."""
        with self._store.write_slot(self._view.memory) as is_wanted:
            with self._store.snapshot(self._view):
                if self._store.view(self._view.memory) != self._view:
                    raise HeadMoved("another process wrote before the batch")
                state = self._engine.state(self._view)
            records = write(
                self._engine,
                self._view,
                state,
                [entry.turn for entry in batch],
                self._pace,
                is_wanted,
                {entry.turn.id or "": entry.replaces for entry in batch},
                {
                    entry.turn.id or "": sought_by(entry.turn, entry.message_ids)
                    for entry in batch
                    if entry.revived
                },
            )
        self._count(batch[: len(records)])
        self._tally.own.update(record.seq for record in records)
        self._view = self._store.view(self._view.memory)
        if self._view.seq != records[-1].seq:
            raise HeadMoved("another process wrote after the batch")
        return len(records)

    def _count(self, batch: Sequence[Entry]) -> None:
        replaced = sum(bool(entry.replaces) for entry in batch)
        first = tuple(entry.turn for entry in batch[:SHOWN])
        self._tally.written += Imported(len(batch), replaced, first=first)


def _give_ids(store: Store, view: View, planned: Sequence[Entry]) -> None:
    """Give each planned turn an unused id: a message's, or a digest of the content."""
    candidates = {entry: list(possible_ids(entry)) for entry in planned}
    taken = set(store.find(view, list({id for ids in candidates.values() for id in ids})))
    numbers: Counter[bytes] = Counter()  # distinguish the ids of equal exchanges
    for entry, ids in candidates.items():
        content = entry.turn.content
        free = next((id for id in ids if id not in taken), None)
        while free is None:
            numbers[content] += 1
            id = digest(content, entry.turn.session, numbers[content])
            if id not in taken and not store.find(view, [id]):
                free = id
        entry.turn = replace(entry.turn, id=free)
        taken.add(free)
