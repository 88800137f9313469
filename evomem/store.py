"""What a database must do: the `Store` (the log, the one source of truth) and the `Index`.

A store keeps rows; an index is a cache of their embeddings that may be deleted at any time. Both
read through a `View`: one memory as it stood at one point of its log.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from evomem.records import Record, Said, Turn
from evomem.rows import Form, Rows
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


class Mark(NamedTuple):
    """Identifies a memory's rows up to one of them: equal marks mean equal rows."""

    revision: int
    """Of the memory; -1 if there is no such memory."""
    key: bytes | None
    """Digest of the log up to and including the row; None if there is no such row."""


class Embeddings(NamedTuple):
    """The embeddings of some rows of one log; a row with passages has several."""

    seqs: Seqs
    """(n,) int64, ascending: each row's as often as it has embeddings."""
    rows: Rows
    """n of D numbers, each row's in the order of its text."""
    keys: list[bytes]
    """n digests of the log up to and including each row."""

    @property
    def vectors(self) -> Vectors:
        """(n, D) float32: the `rows`, as they are compared."""
        return self.rows[:]


@dataclass(frozen=True, slots=True)
class View:
    """One memory at one point of its log; the start of every read."""

    memory: int
    seq: int
    """Where the view ends; 0 for an empty one. There may be no turn at it: seqs of purged turns are not
    used again."""
    key: bytes
    """Digest of the log up to `seq` (`State.key`)."""
    revision: int
    """Grows whenever rows that were already written change (purge): caches of older ones are void."""
    spans: tuple[Span, ...]
    """In log order, without empty ones. Each ends at a row that exists."""
    ends: tuple[Mark, ...] = ()
    """The mark of each span's last row."""
    hidden: int | None = 0
    """How many turns are hidden in the view; None if that does not matter (`snapshot`)."""
    with_replaced: bool = False
    """Whether turns whose places others took are visible; deleted ones never are."""
    time: datetime | None = None
    """Turns said later are not visible; None where no row of the view was."""
    added: datetime | None = None
    """Turns stored later are not visible; None where no row of the view was."""
    restored: tuple[int, ...] = ()
    """Hidden turns that are visible in the view, since what took their places is not."""

    @property
    def hides_until(self) -> int:
        """Hidden are turns that were replaced by a row up to this seq, and deleted ones."""
        return 0 if self.with_replaced else self.seq


@dataclass(frozen=True, slots=True)
class Row:
    """A turn as it is written: with an id, a time, its reading, and its place."""

    seq: int
    turn: Turn
    added: datetime
    reading: Reading
    key: bytes
    """Digest of the log up to and including this turn."""


class Listed(NamedTuple):
    """What is kept of a turn beside its text."""

    seq: int
    id: str
    session: str | None
    metadata: Mapping[str, Any]
    """Shared by all who read it: not to be changed."""
    added: datetime
    """When it was stored, UTC."""


@dataclass(frozen=True, slots=True, eq=False)
class Extract:
    """The visible turns of one memory, without their texts, and their embeddings."""

    memory: int
    namespace: Namespace
    mark: tuple[Any, ...]
    """Equal marks of one memory mean equal extracts."""
    key: bytes
    """Digest of the log up to its end (`State.key`)."""
    turns: Sequence[Listed]
    """In log order."""
    vectors: Vectors
    """(m, D) float32; a turn with passages has several."""
    owners: Seqs
    """(m,) int64, ascending: the place in `turns` that each vector belongs to."""
    nbytes: int
    """About how much memory this takes."""


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
    """Metadata: `{"topic": "travel"}` or `{"stars": {"$gte": 4}}`; see `evomem.where`."""
    source: tuple[str | None, ...] | None = None
    """Only turns of these sources; None in it stands for turns without one."""
    not_source: tuple[str | None, ...] = ()
    """No turns of these sources."""
    speaker: str | None = None
    """The name that `Turn.speaker` gives."""


class Selection(NamedTuple):
    """Which turns of a view may be found: all, only some, or all but some; never both."""

    allowed: Seqs | None = None
    """Only these, ascending; None for all."""
    without: Seqs | None = None
    """All but these, ascending; None for all. No more than half of the view."""

    def among(self, seqs: Seqs) -> Seqs:
        """Return those of `seqs` (ascending) that may be found."""
        if self.allowed is not None:
            return np.intersect1d(seqs, self.allowed, assume_unique=True)
        if self.without is not None:
            return np.setdiff1d(seqs, self.without, assume_unique=True)
        return seqs


class Trace(NamedTuple):
    """The parts of a row that `influence` needs."""

    seq: int
    id: str
    chunk: int
    """Seq of the first turn of the row's chunk."""
    recalled: tuple[str, ...]


WriteSlot = Callable[[], bool]
"""Says whether another writer waits for the slot (`Store.write_slot`)."""


def nobody_waits() -> bool:
    """Return False: the slot of a writer that continues without one."""
    return False


class Dropped(NamedTuple):
    """The result of dropping memories."""

    memories: list[Namespace]
    erased: int
    """Turns whose rows are gone."""
    kept: int
    """Turns of memories dropped now or before that stay for forks that see them."""
    clean: bool
    """Whether their text is in no file any more (`Receipt.clean`)."""


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
        """Return numbers that stay equal as long as nothing changes in memories below `prefix`."""
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
        """Let every read of this thread, until the context ends, see the database at one moment.

        Contexts may be nested; the outermost one decides the moment. Write only outside of them.

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
        """Return the memory as it is now, or as it was at a point; given several, all must hold.

        Args:
            memory: Its number, or its namespace.
            seq: After that turn. With an unused one (a purged turn's), the view ends at the last
                turn before it, but `View.seq` is `seq`.
            time: With the turns that were said by then, whenever they were stored.
            added: With the turns that were stored by then, whenever they were said.

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
        """Return which rows are next to those at `seqs`, and when all of them were said.

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
        the turn that took its place.

        Args:
            view: The memory.
            sessions: Only records of these; None for all.
            after: Only records with a greater seq.
            limit: How many at most.
        """
        ...

    def replacements(self, view: View) -> dict[int, int]:
        """Return the seqs of replaced turns, each with that of the turn that took its place."""
        ...

    def replaced(self, view: View, seqs: Collection[int]) -> dict[int, list[Record]]:
        """Return, by seq, the records whose places these turns took, and so on back, oldest first.

        Turns that took no other's place, and records that were deleted, are left out.
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

    def mark(self, memory: int, seq: int) -> Mark:
        """Return the mark of a memory's own row at `seq`.

        Equal marks mean that the memory's rows up to `seq` are the same: an index checks this
        before it uses its copy.
        """
        ...

    def select(self, view: View, condition: Filter) -> Selection:
        """Return which turns may be searched: without a condition, all but those that are hidden.

        With a condition, and where most of the view is hidden, it lists those that may (`allowed`).
        """
        ...

    def lexical(self, view: View, query: str) -> Scores:
        """Return BM25 of every turn of the view that shares a word with `query`.

        Word statistics are those of the view alone, so that no other memory, and no
        later turn, influences the ranking.
        """
        ...

    def count(self, view: View) -> int:
        """Return the number of visible turns."""
        ...

    # writing -------------------------------------------------------------------------------
    def check_writable(self) -> None:
        """Raise `StoreError` if the database cannot be written, before anyone prepares to."""
        ...

    def write_slot(self, memory: int) -> AbstractContextManager[WriteSlot]:
        """Wait for a memory's write slot and hold it, so that other writers wait meanwhile.

        It keeps writers from reading turns in vain: `append` refuses them if another writer has
        appended since. Nothing else depends on it. A writer that has waited for some seconds, or
        cannot get a slot, continues without one.
        """
        ...

    def slot_is_taken(self, memory: int) -> bool:
        """Say whether another writer holds a memory's slot; call this inside of a `snapshot`."""
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
            rows: What is added.
            replaces: Seqs of turns of the view, each with the seq of the row that replaces it:
                the turn is visible in views that end before that row, and hidden in all others.
            revived: Facts of turns that are no longer forgotten (`forgotten`).

        Raises:
            HeadMoved: The log has grown or changed since `view` was taken; or, with `replaces`, a
                turn was hidden.
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

    def rewrite(
        self, view: View, seq: int, rows: Sequence[Row], *, moved: Mapping[int, int] = ...
    ) -> bool:
        """Replace the whole log from `seq` on by `rows` and leave no trace of the old text.

        Turns that are not among `rows` leave tombstones: see `forgotten`.

        Args:
            view: The memory as it is now.
            seq: The first turn that is replaced.
            rows: What takes their places.
            moved: The seqs of turns that are among `rows` under another, each with that one; a
                permutation. What is hidden stays hidden.

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


class Upkeep(Protocol):
    """Work on a whole database."""

    def stats(self) -> dict[str, Any]:
        """Return counts and sizes: memories, turns, bytes."""
        ...

    def verify(self, anchor: Mapping[str, Any] | None = None) -> list[str]:
        """Check the whole database; return what is wrong, one sentence each.

        With `anchor`, what an earlier call of `anchor` returned: also whether the database is that
        one, or what became of it.
        """
        ...

    @property
    def key_id(self) -> str:
        """Which integrity key the database is sealed with (`evomem.integrity.key_id`); "" for none."""
        ...

    def anchor(self) -> dict[str, Any]:
        """Return a record that identifies this state of the database, as JSON values.

        Raises:
            IntegrityError: The database was edited.
        """
        ...

    def seal(self, key: bytes | None) -> int:
        """Seal everything with another integrity key; return the number of turns.

        Raises:
            IntegrityError: The database was edited, or is damaged; nothing was sealed.
        """
        ...

    def check_encoder(self) -> None:
        """Raise `IntegrityError` if the encoder's entry was edited, its name for example."""
        ...

    def repair(self) -> list[str]:
        """Repair what can be rebuilt from the log; return what was repaired."""
        ...

    def compact(self, embeddings: Form | None = None) -> tuple[int, int]:
        """Return unused space to the file system; return the bytes before and after.

        Args:
            embeddings: Store all of them in this form first, and those of later turns.

        Raises:
            IntegrityError: What the encoder made of a turn was changed; all stays as it is.
        """
        ...

    def backup(self, target: Path) -> None:
        """Copy the database as it is at this moment; others may write meanwhile."""
        ...

    def export(self, folder: Path) -> int:
        """Write everything to readable files in a new folder; return the number of turns."""
        ...

    def load(self, folder: Path, key: bytes | None = None) -> int:
        """Add what an export holds, as a whole or not at all; return the number of turns.

        The export must be sealed with the integrity key `key`, or with the database's own if that is
        None and the export names it.
        """
        ...

    def generation(self, spec: Spec) -> Generation:
        """Return what another encoder has read so far, beginning if it has read nothing."""
        ...

    def drop_generations(self) -> list[str]:
        """Forget all readings but those in use; return the names of their encoders."""
        ...


class Store(Log, Upkeep, Protocol):
    """An append-only log of turns per memory. A failed write leaves everything as it was."""

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
    """Finds the nearest turns by inner product; always agrees with the log.

    In a large memory a hit may be missed now and then. Every hit that is returned is in the log, has
    its exact score, and is in the right order.
    """

    def reading(self, view: View) -> AbstractContextManager[None]:
        """Prepare for `search` and `score` of a view inside a `Store.snapshot`, and clean up after.

        Enter this before the snapshot and leave it after: what an index has to write, and what it
        has to check in a transaction of its own, happens outside of the snapshot. `search` and
        `score` do all of this themselves when they are called outside of a snapshot.

        Raises:
            HeadMoved: On leaving: the log was rewritten, so that answers may be incomplete.
        """
        ...

    def search(
        self,
        view: View,
        query: Vectors,
        k: int,
        *,
        allowed: Seqs | None = None,
        without: Seqs | None = None,
    ) -> list[tuple[int, float]]:
        """Return up to `k` (seq, cosine) of the view's turns, best first, ties by newer seq.

        The cosine of a turn with several embeddings is that of its closest one.

        Args:
            view: What may be found; rows beyond it do not exist.
            query: (D,) float32, unit length.
            k: At least 1.
            allowed: The only seqs that may be returned, ascending; None for all.
            without: Seqs that may not be returned, ascending; only without `allowed`.

        Raises:
            HeadMoved: The view's rows have changed since it was taken.
        """
        ...

    def score(self, view: View, query: Vectors, seqs: Sequence[int]) -> dict[int, float]:
        """Return the cosine of exactly these turns of the view, as in `search`."""
        ...

    def stats(self) -> dict[str, int]:
        """Return counts of what this process has done since it opened the index."""
        ...

    def verify(self) -> list[str]:
        """Compare the index files with the log; return what is wrong, one sentence each."""
        ...

    def repair(self) -> list[str]:
        """Remove index files that are wrong; return what was removed, one sentence each."""
        ...

    def close(self) -> None:
        """Write what should be kept and release the rest; harmless when repeated."""
        ...


class OpenStore(Protocol):
    """What an entry point in the group `evomem.stores` must be."""

    def __call__(self, location: str, spec: Spec | None, **options: Any) -> tuple[Store, Index]:
        """Open `location`, making it for `spec` if it does not exist.

        `evomem.open` gives `embeddings=` among the options: how a new database stores them.

        Raises:
            NotFound: There is no database and no `spec` to make one for.
            FingerprintMismatch: The database was written by another encoder than `spec`.
        """
        ...
