"""`Memory`: one ordered log of turns, and what may be done to it.

turn ─► encoder.read(state, turn) ─► store.append (one transaction) ─► the index catches up
"""

from __future__ import annotations

import random
import time as clock
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime, timezone
from itertools import takewhile
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from evomem.async_methods import async_method
from evomem.checks import Sources, check_filter
from evomem.errors import DuplicateTurn, HeadMoved, NotFound, QueryError, TurnError
from evomem.forgetting import Progress, Receipt, drop, forget
from evomem.memory_view import TRIES, MemoryView
from evomem.pairing import Message, as_turns
from evomem.reading import BLANK, PASS, Pace, read_until
from evomem.records import Record, Turn, as_utc
from evomem.state import State
from evomem.store import Row, View, WriteSlot, nobody_waits

if TYPE_CHECKING:
    from evomem.importing import Imported

BATCH = 64  # turns of one transaction in `add_many`, at most


class Memory(MemoryView):
    """One ordered log of turns: the unit of isolation. Get one from `Database.memory`."""

    def add(
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
    ) -> Record:
        """Read one turn and store it; when this returns, the turn survives a crash.

        Args:
            text: What was said.
            role: `"user"` or `"assistant"`: who said it.
            reply: The assistant's answer; makes the turn an exchange.
            speaker: A name instead of "User" or "Assistant".
            id: Yours, or made up. Adding an id again with the same text changes nothing.
            time: When it was said, with a time zone; now if not given.
            session: The conversation it belongs to.
            metadata: Anything JSON can hold, to filter by later.
            source: Who or what the text came from, such as `"user"`, `"tool"` or `"web"`: a label
                to filter and weight by (docs/poisoning.md).
            recalled: Ids of the turns that were in the prompt when the answer was written, for
                `influence`.
            supersedes: Id of the turn whose place this one takes, in the same transaction: that one
                is only visible `at` points before this turn.

        Raises:
            TurnError: The turn cannot be stored as it is; nothing was written.
            DuplicateTurn: The id is taken by another text; nothing was written.
            NotFound: There is no turn to supersede; nothing was written.
        """
        turn = turn_of(
            text,
            role,
            reply,
            speaker=speaker,
            id=id,
            time=as_utc(time),
            session=session,
            metadata={} if metadata is None else metadata,
            source=source,
            recalled=recalled,
        )
        if supersedes is None:
            return self.add_many([turn])[0]
        turn = _complete(turn)
        named = {_id(turn)} if id else set[str]()
        with self._engine.lock(self.namespace):
            return self._append([turn], named, Pace(), {_id(turn): supersedes})[0]

    def add_many(
        self, items: Iterable[Turn | Message], *, progress: Progress | None = None
    ) -> list[Record]:
        """Read and store turns, or chat messages paired into exchanges (`evomem.pairing`), in order.

        Everything is checked before anything is written. Turns are committed in batches of up to
        64, and of fewer where another process waits to write to the same memory; after a crash,
        turns with ids can simply be added again.

        Raises:
            TurnError: An item cannot be stored; the message names its position.
            DuplicateTurn: An id is taken by another text.
        """
        given = list(as_turns(items))
        turns = [_complete(turn) for turn in given]
        check_ids(turns)
        named = {turn.id for turn in given if turn.id}  # an id made up here is known to be new
        records: list[Record] = []
        with self._engine.lock(self.namespace):
            if len(turns) > BATCH:  # refuse duplicates before the first batch is written
                with self._engine.store.snapshot():
                    self._known(self._view(), turns, named)
            pace = Pace()
            while len(records) < len(turns):
                some = turns[len(records) : len(records) + BATCH]
                records += self._append(some, named, pace)
                if progress:
                    progress(len(records), len(turns))
        return records

    def import_chats(
        self,
        /,
        source: object,
        *,
        include_forgotten: bool = False,
        dry_run: bool = False,
        turn_source: str | None = None,
        progress: Progress | None = None,
        **reading: Any,
    ) -> Imported:
        """Add what is new in conversations; see docs/import.md.

        A conversation that goes on may be imported as often as you like, as a whole or its newest
        messages: nothing is added twice, and what was completed, made anew or edited takes the
        place of the old turns, which stay visible `at` earlier points.

        Args:
            source: `Chats`, or what `evomem.chats.read` takes: a path, bytes, message objects.
            include_forgotten: Whether turns that were purged come back.
            dry_run: Whether to write nothing, and only say what would be written.
            turn_source: The source of the turns that are written (`Turn.source`). What the messages
                say of their source is not looked at: what a source is trusted with is not for the
                source to say.
            progress: Called while turns are read, with numbers of messages.
            **reading: Options of `evomem.chats.read`, such as `format`, `zone` or `skip_bad`.

        Raises:
            InputError: The source cannot be read; nothing was written.
        """
        from evomem.chats import Chats, read
        from evomem.importing import import_conversations

        chats = source if isinstance(source, Chats) else read(source, **reading)

        def done(messages: int) -> None:
            if progress:
                progress(messages, chats.messages)

        return import_conversations(
            self,
            chats.conversations,
            include_forgotten=include_forgotten,
            dry_run=dry_run,
            turn_source=turn_source,
            progress=done,
        )

    def annotate(self, id: str, metadata: Mapping[str, Any]) -> Record:
        """Replace a turn's metadata, which no embedding depends on; return the turn as it is now.

        Raises:
            NotFound: There is no such turn.
            TurnError: The metadata cannot be stored; nothing was written.
            SharedTurns: The turn is shared with a fork.
        """
        store = self._engine.store
        with self._engine.lock(self.namespace):
            with store.snapshot():
                view, record = self._view(), self.get(id)
            turn = replace(record.turn, metadata=metadata)
            store.annotate(view, record.seq, turn.metadata)
            return replace(record, turn=turn)

    def delete(self, id: str) -> Record:
        """Hide a turn at once from everything this memory returns; return it.

        Its influence on later turns stays, and so does its text on disk: see `purge`.

        Raises:
            NotFound: There is no such turn.
        """
        store = self._engine.store
        with self._engine.lock(self.namespace):
            with store.snapshot():
                view, record = self._view(), self.get(id)
            store.hide(view, [record.seq])
            return record

    def purge(self, id: str, *, forks: bool = False, progress: Progress | None = None) -> Receipt:
        """Forget a turn truly: its row, its text on disk, and its influence on later turns.

        Every later turn is read again without it; afterwards the memory equals one that was never
        fed the turn, except that the other turns keep their seqs.

        Args:
            id: The turn; it may have been deleted before.
            forks: Purge it from the forks that hold it as well.
            progress: Called while the later turns are read.

        Raises:
            NotFound: There is no such turn.
            SharedTurns: Forks share the turn or later ones, and `forks` is not set.
        """

        def named(view: View) -> list[Record]:
            return list(self._engine.store.find(view, [id]).values())

        receipt = forget(self._engine, self.namespace, named, forks, progress)
        if not receipt.turns:
            raise NotFound(f"{self!r} has no turn with the id {id!r}")
        return receipt

    def expire(
        self,
        *,
        before: datetime | str | None = None,
        session: str | None = None,
        source: Sources | None = None,
        forks: bool = False,
        progress: Progress | None = None,
    ) -> Receipt:
        """Purge all turns that meet every condition given; see `purge`.

        This rolls back what a session or a source brought, its influence on later turns included.
        `history` with the same conditions (`until` for `before`) shows what would go; turns that
        were deleted go, too. For a retention of 30 days, call it now and then with
        `before=now - timedelta(days=30)`. Later turns are read again once, however many are
        forgotten.

        Args:
            before: Turns said before this time.
            session: Turns of this session.
            source: Turns of this source, or of one of these, as in `search`.
            forks: Purge them from the forks that hold them as well.
            progress: Called while the later turns are read.

        Raises:
            QueryError: No condition is given, or one of them makes no sense.
            SharedTurns: Forks share such turns or later ones, and `forks` is not set.
        """
        if before is None and session is None and source is None:
            raise QueryError(
                "expire() takes before=, session= or source=: without them it would forget "
                "everything"
            )
        condition = check_filter(None, before, session, None, None, source)

        def expired(view: View) -> list[Record]:
            return [
                Record(row.seq, row.turn, row.added)
                for row in self._engine.store.rows(view, after=0)
                if session in (None, row.turn.session)
                and (condition.source is None or row.turn.source in condition.source)
                and (condition.until is None or (row.turn.time or row.added) < condition.until)
            ]

        return forget(self._engine, self.namespace, expired, forks, progress)

    def drop(self) -> Receipt:
        """Forget this memory as a whole; its forks live on, with the turns that they share.

        `Database.drop` forgets a memory together with everything below its name.

        Raises:
            NotFound: There is no such memory.
        """
        with self._engine.lock(self.namespace):
            return drop(self._engine, self.namespace, below=False)

    aadd = async_method(add, write=True)
    aadd_many = async_method(add_many, write=True)
    aimport_chats = async_method(import_chats, write=True)
    aannotate = async_method(annotate, write=True)
    adelete = async_method(delete, write=True)
    apurge = async_method(purge, write=True)
    aexpire = async_method(expire, write=True)
    adrop = async_method(drop, write=True)

    # ---------------------------------------------------------------------------------------

    def _append(
        self,
        turns: Sequence[Turn],
        named: Collection[str],
        pace: Pace,
        supersedes: Mapping[str, str] = MappingProxyType({}),
    ) -> list[Record]:
        """Write what is new of `turns` in one transaction; return their records, in order.

        If another writer waits, only the first of them are written, and the records of these are
        returned. `supersedes` maps ids of turns to the ids of those whose places they take.
        """
        store, engine = self._engine.store, self._engine
        # A few turns are quickly read: without a slot, unless somebody else is at it.
        queue = len(turns) > PASS or engine.is_contended(self.namespace)
        for attempt in range(TRIES):
            try:
                number = None
                if queue:
                    number = store.find_memory(self.namespace) or store.make_memory(self.namespace)
                slot = nullcontext(nobody_waits) if number is None else store.write_slot(number)
                with slot as is_wanted:
                    with store.snapshot():
                        number = number or store.find_memory(self.namespace)
                        view = View(0, 0, b"", 0, ()) if number is None else store.view(number)
                        known = self._known(view, turns, named)
                        new = [turn for turn in turns if turn.id not in known]
                        if not new:
                            return [known[_id(turn)] for turn in turns]
                        if number and not queue and store.slot_is_taken(number):
                            engine.note_contention(self.namespace)
                            queue = True
                            continue
                        replaces = {
                            id: [self.get(supersedes[id]).seq]
                            for id in map(_id, new)
                            if id in supersedes
                        }
                        state = engine.state(view)
                    if number is None:
                        view = store.view(store.make_memory(self.namespace))
                        if view.seq:
                            raise HeadMoved("another process made the memory, and added to it")
                    records = self._write(view, state, new, pace, is_wanted, replaces)
            except HeadMoved:  # another process was quicker: read again behind its turns
                engine.note_contention(self.namespace)
                queue = True
                pace.slower()
                clock.sleep(random.uniform(0, 0.002 * min(attempt + 1, 25)))
                continue
            known.update({record.id: record for record in records})
            return [known[id] for id in takewhile(known.__contains__, map(_id, turns))]
        raise HeadMoved(
            f"{self!r}: other processes were quicker {TRIES} times in a row; nothing was written"
        )

    def _write(
        self,
        view: View,
        state: State[Turn],
        turns: Sequence[Turn],
        pace: Pace,
        is_wanted: WriteSlot,
        replaces: Mapping[str, Sequence[int]] = MappingProxyType({}),
        revived: Mapping[str, Collection[str]] = MappingProxyType({}),
    ) -> list[Record]:
        """Read turns at the end of the log and append them in one transaction; return their records.

        If another writer wants the slot, only the first of them are written.

        Args:
            view: The memory as it is now.
            state: The one at the view's end.
            turns: New ones, with ids and times.
            pace: How many turns to read before asking whether another writer waits.
            is_wanted: Says so.
            replaces: Ids of turns, each with the seqs whose places it takes.
            revived: Ids of turns, each with facts that are no longer forgotten (`Store.append`).

        Raises:
            HeadMoved: The log is not at `view` any more; nothing was written.
        """
        engine = self._engine
        added = datetime.now(timezone.utc)
        places = [Row(view.seq + n, turn, added, BLANK, b"") for n, turn in enumerate(turns, 1)]
        rows, state = read_until(engine.reader, state, places, pace, is_wanted)
        ids = {_id(row.turn): row.seq for row in rows}
        engine.store.append(
            view,
            rows,
            replaces={seq: by for id, by in ids.items() for seq in replaces.get(id, ())},
            revived=[revived[id] for id in ids if id in revived],
        )
        engine.remember(state)
        return [Record(row.seq, row.turn, added) for row in rows]

    def _known(
        self, view: View, turns: Sequence[Turn], named: Collection[str | None]
    ) -> dict[str, Record]:
        """Return those of `turns` that the log holds, looking for the ids in `named`.

        Raises:
            DuplicateTurn: The log holds another text under one of them, or it was deleted.
        """
        ids = [_id(turn) for turn in turns if turn.id in named]
        known = self._engine.store.find(view, ids) if ids else {}
        if not known:
            return {}
        visible = self._engine.store.records(view, [record.seq for record in known.values()])
        for turn in turns:
            record = known.get(_id(turn))
            if record is None:
                continue
            if record.turn.content != turn.content:
                raise DuplicateTurn(
                    f"{self!r} holds the id {turn.id!r} already, with another text: "
                    f"{record.text[:60]!r}; use a new id, or purge the old turn first"
                )
            if record.seq not in visible:
                raise DuplicateTurn(
                    f"{self!r} held the id {turn.id!r} and it was deleted; use a new id, "
                    "or purge the old turn first"
                )
        return known


def turn_of(text: str, role: str, reply: str | None, **fields: Any) -> Turn:
    """Return a turn in which `role` says `text`. Raises `TurnError`."""
    if role not in ("user", "assistant"):
        raise TurnError(f"role must be 'user' or 'assistant', got {role!r}")
    if reply is not None and role != "user":
        raise TurnError("reply= is the assistant's answer to a user's text; leave role='user'")
    sides: dict[str, Any] = {role: text}
    if reply is not None:
        sides["assistant"] = reply
    return Turn(**sides, **fields)


def _complete(turn: Turn) -> Turn:
    return replace(
        turn, id=turn.id or uuid.uuid4().hex, time=turn.time or datetime.now(timezone.utc)
    )


def check_ids(turns: Sequence[Turn]) -> None:
    """Raise `DuplicateTurn` if two turns have the same id."""
    seen: dict[str, Turn] = {}
    for turn in turns:
        if seen.setdefault(_id(turn), turn) is not turn:
            raise DuplicateTurn(f"the id {turn.id!r} occurs twice in one call; ids must be unique")


def _id(turn: Turn) -> str:
    return turn.id or ""
