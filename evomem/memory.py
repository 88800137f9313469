"""`Memory`: one ordered log of turns, and the operations on it.

turn ─► encoder.read(state, turn) ─► store.append (one transaction) ─► the index catches up
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evomem.appending import Draft, append, id_of, known_turns, pause, turn_to_replace
from evomem.async_methods import async_method
from evomem.checks import Sources, check_filter, check_id
from evomem.engine import TRIES
from evomem.errors import DuplicateTurn, HeadMoved, NotFound, QueryError, TurnError
from evomem.forgetting import Progress, Receipt, drop, forget
from evomem.memory_view import MemoryView
from evomem.pairing import Message, as_turns
from evomem.reading import MAX_PASS_TURNS, Pace
from evomem.records import Record, Turn, as_utc, changed
from evomem.rereading import reread
from evomem.store import View

if TYPE_CHECKING:
    from evomem.documents import Document, Ingested
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
            id: The turn's id; generated if not given. Adding an id again with the same text
                changes nothing.
            time: When it was said, with a time zone; now if not given.
            session: The conversation it belongs to.
            metadata: Anything JSON can hold, to filter by later.
            source: Who or what the text came from, such as `"user"`, `"tool"` or `"web"`: a label
                to filter and weight by (docs/operations/poisoning.md).
            recalled: Ids of the turns that were in the prompt when the answer was written, for
                `influence`.
            supersedes: Id of the turn that this one replaces, in the same transaction: the old one is
                only visible `at` points before this turn.

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
        known: list[Record] = []

        def draft(view: View) -> Draft:
            known[:] = self._known(view, [turn], [id] if id else []).values()
            if not known:
                return Draft([turn], {id_of(turn): [self._to_replace(view, supersedes).seq]})
            earlier = self._engine.store.replaced(view, [known[0].seq])
            if supersedes not in {record.id for records in earlier.values() for record in records}:
                raise DuplicateTurn(
                    f"{self!r} holds the id {id!r} already, and that turn does not take the place "
                    f"of {supersedes!r}: use a new id"
                )
            return Draft([])

        with self._engine.lock(self.namespace):
            return (self._append(draft, Pace()) or known)[0]

    def correct(
        self,
        id: str,
        text: str,
        *,
        reply: str | None = None,
        time: datetime | str | None = None,
        source: str | None = None,
        recalled: Sequence[str] = (),
    ) -> Record:
        """Replace a turn with a corrected one, in one transaction.

        Like `add(text, supersedes=id)`, with the role, the speaker, the session and the metadata of
        the old turn. The old turn stays visible `at` earlier points and in `history(all=True)`, and
        hits of the new one list it (`Hit.replaced`).

        Args:
            id: The turn to correct.
            text: The corrected text. In an exchange, it replaces the user's side.
            reply: The assistant's answer to it; the old turn's answer is not kept.
            time: When the correction was said, with a time zone; now if not given.
            source: Who or what the correction came from.
            recalled: As in `add`.

        Returns:
            The new turn.

        Raises:
            NotFound: There is no such turn, or it was already replaced.
            TurnError: The text cannot be stored; nothing was written.
        """
        moment = as_utc(time)

        def draft(view: View) -> Draft:
            old = self._to_replace(view, id)
            if old.turn.role == "assistant" and reply is not None:
                raise TurnError(f"{id!r} is a turn of the assistant's, which has no reply")
            is_reply = old.turn.role == "assistant"
            turn = replace(
                old.turn,
                user="" if is_reply else text,
                assistant=text if is_reply else reply or "",
                id=None,
                time=moment,
                source=source,
                recalled=recalled,
            )
            turn = _complete(turn)
            return Draft([turn], {id_of(turn): [old.seq]})

        with self._engine.lock(self.namespace):
            return self._append(draft, Pace())[0]

    def replace_sessions(
        self,
        sessions: Collection[str],
        build: Callable[[Sequence[Record]], Iterable[Turn]],
        *,
        where: Mapping[str, Any] | None = None,
    ) -> list[Record]:
        """Replace all turns of some sessions with new ones, in one transaction.

        For stores that keep one value per key: the key is the session. At every moment, a session
        holds either its old turns or its new ones. The old turns count as replaced by the last new
        turn of their session.

        Args:
            sessions: The sessions that may be replaced.
            build: Called with the turns that these sessions hold, oldest first; returns the new
                turns, each with one of the sessions. A session without a new turn stays as it is.
                It is called again if another process writes meanwhile.
            where: Replace only turns with this metadata, as in `search`; None for all.

        Returns:
            The new turns.

        Raises:
            TurnError: A new turn has no session, or one that is not listed; nothing was written.
            DuplicateTurn: An id is taken; nothing was written.
        """
        names = sorted(set(sessions))

        def draft(view: View) -> Draft:
            store = self._engine.store
            if where is None:
                stored = store.of_sessions(view, names)
            else:
                conditions = (check_filter(session=name, where=where) for name in names)
                parts = [store.select(view, condition).allowed for condition in conditions]
                seqs = [seq for part in parts if part is not None for seq in part.tolist()]
                stored = [record for _, record in sorted(store.records(view, seqs).items())]
            turns = [_complete(turn) for turn in build(stored)]
            check_ids(turns)
            for turn in turns:
                if turn.session not in names:
                    raise TurnError(
                        f"the turn {turn.id!r} has the session {turn.session!r}, which is not "
                        f"one of those to be replaced: {', '.join(names)}"
                    )
            last = {turn.session: id_of(turn) for turn in turns}
            replaces: dict[str, list[int]] = {}
            for record in stored:
                if record.turn.session in last:
                    replaces.setdefault(last[record.turn.session], []).append(record.seq)
            return Draft(turns, replaces)

        with self._engine.lock(self.namespace):
            return self._append(draft, Pace(), queue=len(names) > MAX_PASS_TURNS, whole=True)

    def add_many(
        self, items: Iterable[Turn | Message], *, progress: Progress | None = None
    ) -> list[Record]:
        """Read and store turns, or chat messages paired into exchanges (`evomem.pairing`), in order.

        Everything is checked before anything is written. Turns are committed in batches of up to
        64, and of fewer where another process waits to write to the same memory; after a crash,
        add turns with ids again.

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
                batch = turns[len(records) : len(records) + BATCH]
                records += self._add(batch, named, pace)
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
        """Add what is new in conversations; see docs/guides/import.md.

        A conversation that continues may be imported as often as you like, as a whole or its newest
        messages: nothing is added twice. Turns that were completed, regenerated or edited replace
        the old ones, which stay visible `at` earlier points.

        Args:
            source: `Chats`, or what `evomem.chats.read` takes: a path, bytes, message objects.
            include_forgotten: Whether to import turns again that were purged.
            dry_run: Whether to only report what would be written.
            turn_source: The source of the turns that are written (`Turn.source`). Source
                fields in the messages are ignored, since a text must not choose its own label.
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

    def add_document(
        self,
        document: Document | str | Path,
        *,
        name: str | None = None,
        source: str = "document",
        length: int = 900,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> Ingested:
        """Add a file, or bring its passages up to date; see docs/guides/documents.md.

        Each passage is a turn: its session is the document's name, its speaker the headings above
        it, and its metadata records its location (`evomem.documents.place`). If a document is added
        again, changed passages replace the old ones, which stay visible `at` earlier points;
        removed passages are deleted, and the others are not touched. `expire(session=name)` forgets
        a document.

        Args:
            document: The path of a Markdown, text, HTML, PDF or Word file, or a `Document`.
            name: What identifies it; by default, a file's absolute path.
            source: The source of its turns (`Turn.source`), to search only documents or none.
            length: Characters of a passage, at most.
            dry_run: Whether to only report what would be written.
            progress: Called with the numbers of changes that are done and to be done.

        Raises:
            InputError: The file cannot be read or holds no text; nothing was written.
            MissingExtra: The extra `documents` is not installed.
        """
        from evomem.documents import add_document

        return add_document(
            self,
            document,
            name=name,
            source=source,
            length=length,
            dry_run=dry_run,
            progress=progress,
        )

    def annotate(self, id: str, metadata: Mapping[str, Any]) -> Record:
        """Replace a turn's metadata, which no embedding depends on; return the new record.

        Raises:
            NotFound: There is no such turn.
            TurnError: The metadata cannot be stored; nothing was written.
            SharedTurns: The turn is shared with a fork.
        """

        def annotate(view: View, record: Record) -> Record:
            turn = replace(record.turn, metadata=metadata)
            self._engine.store.annotate(view, record.seq, turn.metadata)
            return replace(record, turn=turn)

        return self._change(id, annotate)

    def delete(self, id: str) -> Record:
        """Hide a turn at once from everything this memory returns; return it.

        Its influence on later turns stays, and so does its text on disk: see `purge`.

        Raises:
            NotFound: There is no such turn.
            TurnError: The id is not a string.
        """

        def hide(view: View, record: Record) -> Record:
            self._engine.store.hide(view, [record.seq])
            return record

        return self._change(id, hide)

    def purge(self, id: str, *, forks: bool = False, progress: Progress | None = None) -> Receipt:
        """Remove a turn: its row, its text on disk, and its influence on later turns.

        Every later turn is read again without it; afterwards the memory equals one that never
        received the turn, except that the other turns keep their seqs.

        Args:
            id: The turn; it may have been deleted before.
            forks: Purge it from the forks that hold it as well.
            progress: Called while the later turns are read.

        Raises:
            NotFound: There is no such turn.
            TurnError: The id is not a string.
            SharedTurns: Forks share the turn or later ones, and `forks` is not set.
        """
        check_id(id)

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
        """Purge all turns that meet every given condition; see `purge`.

        This rolls back a session or a source, including its influence on later turns.
        `history` with the same conditions (`until` for `before`) lists the turns, except for
        deleted ones, which are purged as well. For a retention of 30 days, call it regularly with
        `before=now - timedelta(days=30)`. Later turns are read again only once, however many are
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
        condition = check_filter(until=before, session=session, source=source)

        def expired(view: View) -> list[Record]:
            return [
                Record(row.seq, row.turn, row.added)
                for row in self._engine.store.rows(view, after=0)
                if session in (None, row.turn.session)
                and (condition.source is None or row.turn.source in condition.source)
                and (condition.until is None or (row.turn.time or row.added) < condition.until)
            ]

        return forget(self._engine, self.namespace, expired, forks, progress)

    def reread(self, *, progress: Progress | None = None) -> int:
        """Read all turns again in the order in which they were said; return how many were read.

        For a memory to which earlier turns were added later: afterwards it equals one that was
        given the turns in the order of time. One transaction sorts the log, so seqs change; ids,
        texts, times, deletions and replacements stay.

        Args:
            progress: Called while turns are read.

        Raises:
            SharedTurns: A fork shares a turn that would move; nothing was written.
        """
        return reread(self._engine, self.namespace, progress)

    def drop(self) -> Receipt:
        """Remove this memory as a whole; its forks keep the turns that they share.

        `Database.drop` forgets a memory together with everything below its name.

        Raises:
            NotFound: There is no such memory.
        """
        with self._engine.lock(self.namespace):
            return drop(self._engine, self.namespace, below=False)

    aadd = async_method(add, write=True)
    aadd_many = async_method(add_many, write=True)
    acorrect = async_method(correct, write=True)
    areplace_sessions = async_method(replace_sessions, write=True)
    aimport_chats = async_method(import_chats, write=True)
    aadd_document = async_method(add_document)  # it serialises its writes itself
    aannotate = async_method(annotate, write=True)
    adelete = async_method(delete, write=True)
    apurge = async_method(purge, write=True)
    aexpire = async_method(expire, write=True)
    areread = async_method(reread, write=True)
    adrop = async_method(drop, write=True)

    # ---------------------------------------------------------------------------------------

    def _add(self, turns: Sequence[Turn], named: Collection[str], pace: Pace) -> list[Record]:
        """Write those of `turns` that are new, or the first of them; return the records in order."""
        known: dict[str, Record] = {}

        def draft(view: View) -> Draft:
            known.clear()
            known.update(self._known(view, turns, named))
            return Draft([turn for turn in turns if turn.id not in known])

        records = self._append(draft, pace, queue=len(turns) > MAX_PASS_TURNS)
        known.update({record.id: record for record in records})
        return [known[id] for id in takewhile(known.__contains__, map(id_of, turns))]

    def _append(self, draft: Callable[[View], Draft], pace: Pace, **options: bool) -> list[Record]:
        return append(self._engine, self.namespace, draft, pace, **options)

    def _change(self, id: str, write: Callable[[View, Record], Record]) -> Record:
        """Call `write` with a turn, again if another process rewrote the memory meanwhile."""
        store = self._engine.store
        with self._engine.lock(self.namespace):
            for attempt in range(TRIES):
                with store.snapshot():
                    view, record = self._view(), self.get(id)
                try:
                    return write(view, record)
                except HeadMoved:
                    pause(attempt)
        raise HeadMoved(f"{self!r} changes too often; nothing was written: try again later")

    def _known(
        self, view: View, turns: Sequence[Turn], ids: Collection[str | None]
    ) -> dict[str, Record]:
        return known_turns(self._engine.store, self.namespace, view, turns, ids)

    def _to_replace(self, view: View, id: str) -> Record:
        return turn_to_replace(self._engine.store, self.namespace, view, id)


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


def new_id() -> str:
    """Return an id for a turn that has none: a short one, since contexts show it."""
    return secrets.token_hex(8)


def _complete(turn: Turn) -> Turn:
    if turn.id and turn.time:
        return turn
    return changed(turn, id=turn.id or new_id(), time=turn.time or datetime.now(timezone.utc))


def check_ids(turns: Sequence[Turn]) -> None:
    """Raise `DuplicateTurn` if two turns have the same id."""
    seen: dict[str, Turn] = {}
    for turn in turns:
        if seen.setdefault(id_of(turn), turn) is not turn:
            raise DuplicateTurn(f"the id {turn.id!r} occurs twice in one call; ids must be unique")
