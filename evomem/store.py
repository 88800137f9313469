"""What a database must do: the `Store` (the log, the one source of truth) and the `Index`.

A store keeps rows; an index is a cache of their embeddings that may be deleted at any time. Both
read through a `View`: one memory as it stood at one point of its log.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from evomem.records import Record, Said, Turn
from evomem.scores import Scores
from evomem.state import Reading, Spec, State, Vectors

Seqs = npt.NDArray[np.int64]
Namespace = tuple[str, ...]
Pair = tuple[int, int]
"""The seqs directly before and behind a row, 0 for none."""


class Span(NamedTuple):
    """Rows of one log that a memory sees: those of `memory` from `first` to `last`, inclusive.

    A memory that was never forked from another has one span; a fork has its parent's, cut at the
    fork, and then its own.
    """

    memory: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class View:
    """One memory at one point of its log; what every read starts from."""

    memory: int
    seq: int
    """Where the view ends; 0 for an empty one. No turn need be there: seqs of purged turns are not
    used again."""
    key: bytes
    """Digest of the log up to `seq` (`State.key`)."""
    revision: int
    """Grows whenever rows that were already written change (purge): caches of older ones are void."""
    spans: tuple[Span, ...]
    """In log order, without empty ones."""


@dataclass(frozen=True, slots=True)
class Row:
    """A turn as it is written: with an id and a time, what reading it yielded, and its place."""

    seq: int
    turn: Turn
    added: datetime
    reading: Reading
    key: bytes
    """Digest of the log up to and including this turn."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which turns a search may return. Every condition given must hold."""

    since: datetime | None = None
    """Said at this time or later."""
    until: datetime | None = None
    """Said before this time."""
    session: str | None = None
    role: str | None = None
    """`"user"`, `"assistant"` or `"exchange"`."""
    where: Mapping[str, Any] = field(default_factory=dict)
    """Metadata: `{"topic": "travel"}` or `{"stars": {"$gte": 4}}`; see `OPERATORS`."""


class Dropped(NamedTuple):
    """What dropping memories came to."""

    memories: list[Namespace]
    erased: int
    """Turns whose rows are gone."""
    kept: int
    """Turns of memories dropped now or before that stay for forks that see them."""
    clean: bool
    """Whether their text is in no file any more (`Receipt.clean`)."""


OPERATORS = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists")


class Store(Protocol):
    """An append-only log of turns per memory. A failed write leaves everything as it was."""

    @property
    def spec(self) -> Spec:
        """The encoder that the rows were written by."""
        ...

    # memories ------------------------------------------------------------------------------
    def find_memory(self, namespace: Namespace) -> int | None:
        """Return the number of a memory, None if there is none."""
        ...

    def make_memory(self, namespace: Namespace) -> int:
        """Return the number of a memory, making the memory if there is none."""
        ...

    def memories(self, prefix: Namespace = ()) -> list[Namespace]:
        """Return the namespaces that begin with `prefix`, sorted."""
        ...

    def fork(self, view: View, namespace: Namespace) -> int:
        """Make a memory that shares the view's rows. Raises `NamespaceError` if it exists."""
        ...

    def forks(self, view: View, seq: int) -> list[Namespace]:
        """Return the memories forked from this one that share a row from `seq` on."""
        ...

    # reading -------------------------------------------------------------------------------
    def view(self, memory: int, *, seq: int | None = None, time: datetime | None = None) -> View:
        """Return the memory as it is now, as it was after turn `seq`, or as it was at `time`.

        At `time`: up to the last turn before the first one that was said later. With an unused
        `seq` (a purged turn's), the view ends at the last turn before it, but `View.seq` is `seq`.

        Raises:
            QueryError: `seq` is not between 0 and the newest turn.
        """
        ...

    def state(self, view: View) -> State[Turn]:
        """Rebuild the state at the view's end from the log."""
        ...

    def records(self, view: View, seqs: Sequence[int]) -> dict[int, Record]:
        """Return the visible records at `seqs`; absent and deleted ones are left out."""
        ...

    def around(self, view: View, seqs: Sequence[int]) -> tuple[dict[int, Pair], dict[int, Said]]:
        """Return which rows are next to those at `seqs`, and on which day all of them were said.

        A purge leaves gaps between seqs, so a turn's neighbour need not be the next number. Deleted
        turns are neighbours, too; when they were said is left out.
        """
        ...

    def history(self, view: View, *, after: int = 0, limit: int | None = None) -> list[Record]:
        """Return the visible records with a seq greater than `after`, oldest first."""
        ...

    def find(self, view: View, ids: Sequence[str]) -> dict[str, Record]:
        """Return the records with these ids, deleted ones too (an id is never used twice)."""
        ...

    def told(
        self, view: View, *, sessions: Sequence[str] | None = None, after: int = 0, limit: int
    ) -> list[tuple[Record, int | None]]:
        """Return records, of these sessions or of all, oldest first, deleted ones too.

        Each comes with None if it is visible, 0 if it was deleted, and otherwise with the seq of
        the turn that took its place.

        Args:
            view: The memory.
            sessions: Only records of these; None for all.
            after: Only records with a greater seq.
            limit: How many at most.
        """
        ...

    def replaced(self, view: View, seqs: Sequence[int]) -> list[Record]:
        """Return the records whose places the turns at `seqs` took, and so on back."""
        ...

    def forgotten(self, view: View, facts: Sequence[Collection[str]]) -> list[bool]:
        """Return of each turn, given by `tombstones.sought_by`, whether it was purged here."""
        ...

    def rows(self, view: View, *, after: int) -> list[Row]:
        """Return whole rows with a seq greater than `after`, deleted ones too, oldest first."""
        ...

    def vectors(self, span: Span, revision: int) -> tuple[Seqs, Vectors]:
        """Return seqs (n,) ascending and embeddings (n, D) of a span's rows.

        Raises:
            HeadMoved: The span's memory is not at `revision` (any more).
        """
        ...

    def mark(self, memory: int, seq: int) -> tuple[int, bytes | None]:
        """Return a memory's revision, and the key of its own row at `seq`, None if it has none.

        Equal marks mean that the memory's rows up to `seq` are the same: what an index checks
        before it trusts what it holds. A memory that does not exist has revision -1.
        """
        ...

    def select(self, view: View, condition: Filter) -> Seqs | None:
        """Return the seqs that may be searched, ascending; None where all of the view may."""
        ...

    def lexical(self, view: View, query: str) -> Scores:
        """Return BM25 of every turn of the view that shares a word with `query`.

        Word statistics are those of the view alone, so that no other memory, and nothing that
        came later, has a part in the ranking.
        """
        ...

    def count(self, view: View) -> int:
        """Return the number of visible turns."""
        ...

    # writing -------------------------------------------------------------------------------
    def append(
        self,
        view: View,
        rows: Sequence[Row],
        *,
        replaces: Mapping[int, int] = ...,
        revived: Sequence[Collection[str]] = ...,
    ) -> None:
        """Write `rows` behind the view's end, all or none, durably.

        Args:
            view: The memory as it is now.
            rows: What is added.
            replaces: Seqs of turns of the view, each with the seq of the row that takes its place:
                the turn is visible in views that end before that row, and hidden in all others.
            revived: Facts of turns that are no longer forgotten (`forgotten`).

        Raises:
            HeadMoved: The log has grown or changed since `view` was taken.
        """
        ...

    def hide(self, view: View, seqs: Sequence[int]) -> int:
        """Leave `seqs` out of everything that this memory returns, `at` a point of the past, too.

        Returns how many were new.
        """
        ...

    def annotate(self, view: View, seq: int, metadata: Mapping[str, Any]) -> None:
        """Replace the metadata of turn `seq`; everything else stays, the digest chain too.

        Raises:
            NotFound: The view holds no such turn (any more).
            SharedTurns: The turn is inherited, or a fork shares it.
        """
        ...

    def rewrite(self, view: View, seq: int, rows: Sequence[Row]) -> bool:
        """Replace the whole log from `seq` on by `rows` and leave no trace of the old text.

        Turns that are not among `rows` leave tombstones: see `forgotten`.

        Returns whether that text is in no file any more (`Receipt.clean`).

        Raises:
            HeadMoved: The log has grown or changed since `view` was taken.
            SharedTurns: A fork shares a row from `seq` on.
        """
        ...

    def drop(self, prefix: Namespace, *, below: bool = True) -> Dropped:
        """Forget the memory at `prefix`, and those `below` it, with all their text, at once.

        Rows that forks outside of them see stay for these forks, until the last one is dropped.
        """
        ...

    # upkeep --------------------------------------------------------------------------------
    def stats(self) -> dict[str, Any]:
        """Return counts and sizes: memories, turns, bytes."""
        ...

    def verify(self) -> list[str]:
        """Check the whole database; return what is wrong, one sentence each."""
        ...

    def mend(self) -> list[str]:
        """Repair what can be had from the log again; return what was repaired."""
        ...

    def compact(self) -> tuple[int, int]:
        """Give unused space back to the file system; return the bytes before and after."""
        ...

    def backup(self, target: Path) -> None:
        """Copy the database as it is at this moment, whoever writes meanwhile."""
        ...

    def export(self, folder: Path) -> int:
        """Write everything to open files in a new folder; return the number of turns."""
        ...

    def load(self, folder: Path) -> int:
        """Add what an export holds, as a whole or not at all; return the number of turns."""
        ...

    def generation(self, spec: Spec) -> Generation:
        """Return what another encoder has read so far, beginning if it has read nothing."""
        ...

    def drop_generations(self) -> list[str]:
        """Forget all readings but those in use; return the names of their encoders."""
        ...

    def close(self) -> None:
        """Release the database; harmless when repeated."""
        ...


class Generation(Protocol):
    """The log as another encoder reads it, beside the readings in use, until they swap places.

    What was read stays when the process ends: the next one goes on from there.
    """

    def progress(self) -> tuple[int, int]:
        """Return how many turns were read, and how many there are."""
        ...

    def unread(self) -> list[list[int]]:
        """Return the memories that have unread turns, in layers: forks behind what they share."""
        ...

    def next(self, memory: int, limit: int) -> tuple[State[Turn], list[Row]]:
        """Return the state before a memory's first unread turns, and up to `limit` of these.

        Raises:
            HeadMoved: A turn before them is unread (again).
        """
        ...

    def add(self, memory: int, rows: Sequence[Row]) -> None:
        """Keep what was read. Raises `HeadMoved` if a turn was purged meanwhile."""
        ...

    def adopt(self) -> bool:
        """Swap the readings, in one transaction; False if there are unread turns (again).

        The old readings are kept as a generation of theirs. Whoever has the database open is told,
        with `FingerprintMismatch`, to open it again.
        """
        ...


class Index(Protocol):
    """Nearest turns by inner product, never in disagreement with the log.

    Of a large memory one may be missed now and then; what is returned is of the log, with its true
    score, and in the right order.
    """

    def search(
        self, view: View, query: Vectors, k: int, *, allowed: Seqs | None = None
    ) -> list[tuple[int, float]]:
        """Return up to `k` (seq, cosine) of the view's turns, best first, ties by newer seq.

        Args:
            view: What may be found; rows beyond it do not exist.
            query: (D,) float32, unit length.
            k: At least 1.
            allowed: The only seqs that may be returned, ascending; None for all.
        """
        ...

    def score(self, view: View, query: Vectors, seqs: Sequence[int]) -> dict[int, float]:
        """Return the cosine of exactly these turns of the view."""
        ...

    def verify(self) -> list[str]:
        """Compare the index files with the log; return what is wrong, one sentence each."""
        ...

    def mend(self) -> list[str]:
        """Remove index files that are wrong; return what was removed, one sentence each."""
        ...

    def close(self) -> None:
        """Write what is worth keeping and release it; harmless when repeated."""
        ...


class OpenStore(Protocol):
    """What an entry point in the group `evomem.stores` must be."""

    def __call__(self, location: str, spec: Spec | None, **options: Any) -> tuple[Store, Index]:
        """Open `location`, making it for `spec` if it does not exist.

        Raises:
            NotFound: There is no database and no `spec` to make one for.
            FingerprintMismatch: The database was written by another encoder than `spec`.
        """
        ...
