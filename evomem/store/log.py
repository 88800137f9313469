"""`Log`: the protocol of a database for its memories; the only source of truth."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol

from evomem.records import Record, Said, Turn
from evomem.scores import Scores
from evomem.state import Spec, State, Vectors
from evomem.store.values import (
    Dropped,
    Embeddings,
    Extract,
    Filter,
    Mark,
    Namespace,
    Pair,
    Row,
    Selection,
    Seqs,
    Span,
    Trace,
    View,
    WriteSlot,
)


class Log(Protocol):
    """The log of turns: memories, reading and writing. Safe to use from many threads and processes."""

    @property
    def spec(self) -> Spec:
        """The encoder that the rows were written by."""
        ...

    # memories ------------------------------------------------------------------------------
    def find_memory(self, namespace: Namespace) -> int | None:
        """Return the number of a memory, None if there is none."""
        ...

    def make_memory(self, namespace: Namespace) -> int:
        """Return the number of a memory; create the memory if there is none."""
        ...

    def memories(self, prefix: Namespace = ()) -> list[Namespace]:
        """Return the namespaces that begin with `prefix`, sorted."""
        ...

    def version(self, prefix: Namespace) -> tuple[int, ...]:
        """Return numbers that stay the same as long as nothing changes in memories below `prefix`."""
        ...

    def sizes(self, prefix: Namespace) -> dict[Namespace, int]:
        """Return how many visible turns each memory below `prefix` has, sorted by namespace."""
        ...

    def extracts(self, prefix: Namespace, known: Callable[[int], Extract | None]) -> list[Extract]:
        """Return extracts of all memories below `prefix`, sorted by namespace.

        Args:
            prefix: The labels that their namespaces begin with.
            known: Returns an extract of a memory, by its number, that was read before. It is
                returned again if it holds, and brought up to date if the log has only grown.

        Raises:
            IntegrityError: A turn or an entry was changed since it was written.
        """
        ...

    def fork(self, view: View, namespace: Namespace) -> int:
        """Create a memory that shares the view's rows. Raises `NamespaceError` if it exists."""
        ...

    def forks(self, view: View, seq: int) -> list[Namespace]:
        """Return the memories forked from this one that share a row from `seq` on."""
        ...

    # reading -------------------------------------------------------------------------------
    def snapshot(self, view: View | None = None) -> AbstractContextManager[None]:
        """Let all reads of this thread see one snapshot of the database until the context ends.

        Contexts may be nested; the outermost one takes the snapshot. Write only outside of them.

        Raises:
            HeadMoved: The rows of `view`, or which of its memory's turns are hidden, have changed
                since the view was taken. A log that has only grown is no change.
        """
        ...

    @property
    def in_snapshot(self) -> bool:
        """Whether this thread is inside a `snapshot`."""
        ...

    def view(
        self,
        memory: int | Namespace,
        *,
        seq: int | None = None,
        time: datetime | None = None,
        added: datetime | None = None,
    ) -> View:
        """Return the memory as it is now, or as it was at a point; several limits are combined.

        Args:
            memory: Its number, or its namespace.
            seq: After that turn. With an unused one (a purged turn's), the view ends at the last
                turn before it, but `View.seq` is `seq`.
            time: With the turns said by then, whenever they were stored.
            added: With the turns stored by then, whenever they were said.

        Raises:
            HeadMoved: There is no such memory (any more).
            QueryError: `seq` is not between 0 and the newest turn.
        """
        ...

    def state(self, view: View) -> State[Turn]:
        """Rebuild the state at the view's end from the log."""
        ...

    def records(self, view: View, seqs: Sequence[int]) -> dict[int, Record]:
        """Return the visible records at `seqs`; absent and deleted ones are left out."""
        ...

    def period(self, view: View) -> tuple[datetime, datetime] | None:
        """Return when the view's first and last visible turns were said, UTC; None without any."""
        ...

    def sessions(self, view: View) -> list[str]:
        """Return the names of the view's sessions, in the order in which they began.

        A session begins at the time of its first visible turn in the log.
        """
        ...

    def around(self, view: View, seqs: Sequence[int]) -> tuple[dict[int, Pair], dict[int, Said]]:
        """Return the rows next to those at `seqs`, and the times of all of them.

        A purge leaves gaps between seqs, so a turn's neighbour need not be the next number. Deleted
        turns are neighbours, too; when they were said is left out.
        """
        ...

    def history(self, view: View, *, after: int = 0, limit: int | None = None) -> list[Record]:
        """Return the visible records with a seq greater than `after`, oldest first."""
        ...

    def of_sessions(self, view: View, sessions: Sequence[str]) -> list[Record]:
        """Return the visible records of these sessions, oldest first."""
        ...

    def find(self, view: View, ids: Sequence[str]) -> dict[str, Record]:
        """Return the records with these ids, deleted ones too (an id is never used twice)."""
        ...

    def told(
        self, view: View, *, sessions: Sequence[str] | None = None, after: int = 0, limit: int
    ) -> list[tuple[Record, int | None]]:
        """Return records, of these sessions or of all, oldest first, deleted ones too.

        Each comes with None if it is visible, 0 if it was deleted, and otherwise with the seq of
        the turn that replaced it.

        Args:
            view: The memory.
            sessions: Only records of these; None for all.
            after: Only records with a greater seq.
            limit: How many at most.
        """
        ...

    def replacements(self, view: View) -> dict[int, int]:
        """Return the seqs of replaced turns, each with that of its replacement."""
        ...

    def replaced(self, view: View, seqs: Collection[int]) -> dict[int, list[Record]]:
        """Return, by seq, the records that these turns replaced, however often, oldest first.

        Turns that replaced none, and deleted records, are left out.
        """
        ...

    def forgotten(self, view: View, facts: Sequence[Collection[str]]) -> list[bool]:
        """Return of each turn, given by `tombstones.sought_by`, whether it was purged here."""
        ...

    def rows(self, view: View, *, after: int) -> list[Row]:
        """Return whole rows with a seq greater than `after`, deleted ones too, oldest first."""
        ...

    def traces(self, view: View, *, after: int) -> list[Trace]:
        """Return the traces of the rows with a seq greater than `after`, in log order.

        Deleted turns are included: they remain in the queue.
        """
        ...

    def vectors(self, span: Span, revision: int) -> Embeddings:
        """Return the embeddings of a span's rows.

        Raises:
            HeadMoved: The span's memory is not at `revision` (any more).
        """
        ...

    def embeddings(self, view: View, seqs: Sequence[int]) -> dict[int, Vectors]:
        """Return the embedding of each of these turns of the view, (D,), without those of passages."""
        ...

    def mark(self, memory: int, seq: int) -> Mark:
        """Return the mark of a memory's own row at `seq`.

        Equal marks mean that the memory's rows up to `seq` are the same: an index checks this
        before it uses its copy.
        """
        ...

    def select(self, view: View, condition: Filter) -> Selection:
        """Return which turns may be searched: without a condition, all except hidden ones.

        With a condition, or if most of the view is hidden, the allowed ones are listed (`allowed`).
        """
        ...

    def lexical(self, view: View, query: str, among: Seqs | None = None) -> Scores:
        """Return BM25 of every turn of the view that shares a word with `query`.

        With `among` (ascending), only of those; their scores are the same.

        Word statistics cover only the view, so that no other memory and no later turn influences
        the ranking.
        """
        ...

    def count(self, view: View) -> int:
        """Return the number of visible turns."""
        ...

    # writing -------------------------------------------------------------------------------
    def check_writable(self) -> None:
        """Raise `StoreError` if the database cannot be written, before any preparation."""
        ...

    def write_slot(self, memory: int) -> AbstractContextManager[WriteSlot]:
        """Wait for a memory's write slot and hold it, so that other writers wait meanwhile.

        It saves writers from reading turns that `append` would refuse because another writer has
        appended since. Nothing else depends on it. A writer that has waited for some seconds, or
        cannot get a slot, continues without one.
        """
        ...

    def needs_lease(self, memory: int) -> bool:
        """Say whether `write_slot` has to be entered before a memory's turns are read.

        It is if the database is used with leases, and this worker does not hold the memory's.
        """
        ...

    def slot_is_taken(self, memory: int) -> bool:
        """Say whether another writer holds a memory's slot; call this within a `snapshot`."""
        ...

    def append(
        self,
        view: View,
        rows: Sequence[Row],
        *,
        replaces: Mapping[int, int] = ...,
        revived: Sequence[Collection[str]] = ...,
    ) -> None:
        """Append `rows` to the view's end, all or none, durably.

        Args:
            view: The memory as it is now.
            rows: The new rows.
            replaces: Seqs of turns of the view, each with the seq of the row that replaces it:
                the turn is visible in views that end before that row, and hidden in all others.
            revived: Facts of turns that are no longer forgotten (`forgotten`).

        Raises:
            HeadMoved: The log has grown or changed since `view` was taken; or, with `replaces`, a
                turn was hidden.
        """
        ...

    def hide(self, view: View, seqs: Sequence[int]) -> int:
        """Hide `seqs` in everything that this memory returns, also `at` a point in the past.

        Returns how many were new.

        Raises:
            HeadMoved: The memory was rewritten since the view was taken: seqs may name other turns.
        """
        ...

    def annotate(self, view: View, seq: int, metadata: Mapping[str, Any]) -> None:
        """Replace the metadata of turn `seq`; everything else stays, including the digest chain.

        Raises:
            HeadMoved: The memory was rewritten since the view was taken: seqs may name other turns.
            NotFound: The view holds no such turn (any more).
            SharedTurns: The turn is inherited, or a fork shares it.
        """
        ...

    def rewrite(
        self, view: View, seq: int, rows: Sequence[Row], *, moved: Mapping[int, int] = ...
    ) -> bool:
        """Replace the whole log from `seq` on by `rows` and leave no trace of the old text.

        Turns that are not among `rows` leave tombstones: see `forgotten`.

        Args:
            view: The memory as it is now.
            seq: The first turn that is replaced.
            rows: Their replacements.
            moved: The seqs of turns that are among `rows` under another, each with that one; a
                permutation. What is hidden stays hidden.

        Returns whether that text is in no file any more (`Receipt.clean`).

        Raises:
            HeadMoved: The log has grown or changed since `view` was taken.
            SharedTurns: A fork shares a row from `seq` on.
        """
        ...

    def drop(self, prefix: Namespace, *, below: bool = True) -> Dropped:
        """Remove the memory at `prefix`, and those `below` it, with their text, in one transaction.

        Rows that forks outside of them see stay for these forks, until the last one is dropped.
        """
        ...
