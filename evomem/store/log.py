"""`Log`: the protocol of a database for its memories, the single source of truth."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol

from evomem.records import Record, TimeAndSession, Turn
from evomem.scores import Scores
from evomem.state import Spec, State
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
        """The encoder that wrote the rows."""
        ...

    # memories ------------------------------------------------------------------------------
    def find_memory(self, namespace: Namespace) -> int | None:
        """Return the number of a memory, None if there is no such memory."""
        ...

    def make_memory(self, namespace: Namespace) -> int:
        """Return the number of a memory; create it if it does not exist."""
        ...

    def memories(self, prefix: Namespace = ()) -> list[Namespace]:
        """Return the namespaces that begin with `prefix`, sorted."""
        ...

    def version(self, prefix: Namespace) -> tuple[int, ...]:
        """Return numbers that change whenever a memory below `prefix` changes."""
        ...

    def sizes(self, prefix: Namespace) -> dict[Namespace, int]:
        """Return the number of visible turns of each memory below `prefix`, sorted by namespace."""
        ...

    def extracts(self, prefix: Namespace, known: Callable[[int], Extract | None]) -> list[Extract]:
        """Return extracts of all memories below `prefix`, sorted by namespace.

        Args:
            prefix: The first labels of their namespaces.
            known: Returns an extract that was read before, by the memory's number. It is returned
                again if it is current, and updated if the log has only grown.

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

        Contexts may be nested; the outermost one takes the snapshot. Write only outside them.

        Raises:
            HeadMoved: The rows of `view`, or its memory's hidden turns, have changed since the view
                was taken. Growth of the log is not a change.
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
        """Return the memory's current view, or its view at a point; several limits are combined.

        Args:
            memory: The memory's number or namespace.
            seq: The last turn of the view. If it was purged, the view ends at the last turn before
                it, but `View.seq` is `seq`.
            time: Only turns said by this time, whenever they were stored.
            added: Only turns stored by this time, whenever they were said.

        Raises:
            HeadMoved: There is no such memory.
            QueryError: `seq` is not between 0 and the newest turn.
        """
        ...

    def state(self, view: View) -> State[Turn]:
        """Rebuild the state at the view's end from the log."""
        ...

    def records(self, view: View, seqs: Sequence[int]) -> dict[int, Record]:
        """Return the visible records at `seqs`; missing and deleted turns are left out."""
        ...

    def period(self, view: View) -> tuple[datetime, datetime] | None:
        """Return the earliest and the latest time of visible turns, UTC; None if there are no turns."""
        ...

    def sessions(self, view: View) -> list[str]:
        """Return the names of the view's sessions, ordered by their start.

        A session starts at the time of its first visible turn in the log.
        """
        ...

    def around(
        self, view: View, seqs: Sequence[int]
    ) -> tuple[dict[int, Pair], dict[int, TimeAndSession]]:
        """Return the rows next to those at `seqs`, and the times of all of them.

        A purge leaves gaps between seqs, so a turn's neighbour may not have the next number. Deleted
        turns count as neighbours, but their times are left out.
        """
        ...

    def history(self, view: View, *, after: int = 0, limit: int | None = None) -> list[Record]:
        """Return the visible records with a seq greater than `after`, oldest first."""
        ...

    def of_sessions(self, view: View, sessions: Sequence[str]) -> list[Record]:
        """Return the visible records of these sessions, oldest first."""
        ...

    def find(self, view: View, ids: Sequence[str]) -> dict[str, Record]:
        """Return the records with these ids, including deleted turns (ids are never reused)."""
        ...

    def told(
        self, view: View, *, sessions: Sequence[str] | None = None, after: int = 0, limit: int
    ) -> list[tuple[Record, int | None]]:
        """Return records, oldest first, including deleted and replaced turns.

        Each comes with None if it is visible, 0 if it was deleted, and otherwise the seq of the turn
        that replaced it.

        Args:
            view: The memory.
            sessions: Only records of these sessions; None for all records.
            after: Only records with a greater seq.
            limit: How many at most.
        """
        ...

    def replacements(self, view: View) -> dict[int, int]:
        """Return the seqs of replaced turns, each with its replacement's seq."""
        ...

    def replaced(self, view: View, seqs: Collection[int]) -> dict[int, list[Record]]:
        """Return, by seq, the records that these turns replaced, directly or indirectly, oldest first.

        Turns that replaced no others, and deleted records, are left out.
        """
        ...

    def forgotten(self, view: View, facts: Sequence[Collection[str]]) -> list[bool]:
        """Return for each turn's facts (`tombstones.sought_by`) whether the turn was purged here."""
        ...

    def rows(self, view: View, *, after: int) -> list[Row]:
        """Return complete rows with a seq greater than `after`, oldest first, including deleted turns."""
        ...

    def traces(self, view: View, *, after: int) -> list[Trace]:
        """Return the traces of the rows with a seq greater than `after`, in log order.

        Deleted turns are included, since they remain in the queue.
        """
        ...

    def vectors(self, span: Span, revision: int) -> Embeddings:
        """Return the embeddings of a span's rows.

        Raises:
            HeadMoved: The span's memory is not at `revision`.
        """
        ...

    def mark(self, memory: int, seq: int) -> Mark:
        """Return the mark of a memory's own row at `seq`.

        Equal marks mean equal rows up to `seq`: an index checks this before it uses its copy.
        """
        ...

    def select(self, view: View, condition: Filter) -> Selection:
        """Return the turns to search: those that meet the condition and are not hidden.

        With a condition, or if most of the view is hidden, the result lists them (`allowed`).
        """
        ...

    def lexical(self, view: View, query: str, among: Seqs | None = None) -> Scores:
        """Return the BM25 score of every turn of the view that shares a word with `query`.

        With `among` (ascending), only of these turns; their scores are the same.

        Word statistics cover only the view, so that no other memory and no later turn influences
        the ranking.
        """
        ...

    def count(self, view: View) -> int:
        """Return the number of visible turns."""
        ...

    # writing -------------------------------------------------------------------------------
    def check_writable(self) -> None:
        """Raise `StoreError` if the database cannot be written."""
        ...

    def write_slot(self, memory: int) -> AbstractContextManager[WriteSlot]:
        """Wait for a memory's write slot and hold it, so that other writers wait.

        It saves writers from reading turns that `append` would refuse because another writer has
        appended. Correctness does not depend on it: a writer that has waited for some seconds, or
        cannot get a slot, continues without one.
        """
        ...

    def needs_lease(self, memory: int) -> bool:
        """Return whether `write_slot` has to be entered before a memory's turns are read.

        True if the database uses leases, and this worker does not hold the memory's.
        """
        ...

    def slot_is_taken(self, memory: int) -> bool:
        """Return whether another writer holds a memory's slot; call it inside a `snapshot`."""
        ...

    def append(
        self,
        view: View,
        rows: Sequence[Row],
        *,
        replaces: Mapping[int, int] = ...,
        revived: Sequence[Collection[str]] = ...,
    ) -> None:
        """Append `rows` at the view's end, atomically and durably.

        Args:
            view: The memory as it is now.
            rows: The new rows.
            replaces: Seqs of the view's turns, each with the seq of the row that replaces it:
                the turn is visible in views that end before that row, and hidden in all others.
            revived: Facts of turns that no longer count as purged (`forgotten`).

        Raises:
            HeadMoved: The log has grown or changed since `view` was taken; or, with `replaces`, a
                turn was hidden.
        """
        ...

    def hide(self, view: View, seqs: Sequence[int]) -> int:
        """Hide `seqs` in all views of this memory, including `at` points in the past.

        Returns how many of them were not hidden before.

        Raises:
            HeadMoved: The memory was rewritten since the view was taken: seqs may name other turns.
        """
        ...

    def annotate(self, view: View, seq: int, metadata: Mapping[str, Any]) -> None:
        """Replace the metadata of turn `seq`; the rest of the turn and the digest chain do not change.

        Raises:
            HeadMoved: The memory was rewritten since the view was taken: seqs may name other turns.
            NotFound: The view has no such turn, or it was deleted.
            SharedTurns: The turn is inherited, or a fork shares it.
        """
        ...

    def rewrite(
        self, view: View, seq: int, rows: Sequence[Row], *, moved: Mapping[int, int] = ...
    ) -> bool:
        """Replace the log from `seq` on with `rows`, and leave no trace of the old text.

        Turns that are not in `rows` leave tombstones (`forgotten`).

        Args:
            view: The memory as it is now.
            seq: The first turn that is replaced.
            rows: The replacements.
            moved: The seqs of turns that have another seq in `rows`, each with the new seq; a
                permutation. Hidden turns stay hidden.

        Returns whether the old text has been removed from every file (`Receipt.clean`).

        Raises:
            HeadMoved: The log has grown or changed since `view` was taken.
            SharedTurns: A fork shares a row from `seq` on.
        """
        ...

    def drop(self, prefix: Namespace, *, below: bool = True) -> Dropped:
        """Remove the memory at `prefix` and, if `below`, those below it, in one transaction.

        Rows that other forks share stay until the last of these forks is dropped.
        """
        ...
