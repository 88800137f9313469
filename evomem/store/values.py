"""Arguments and results of stores and indexes: views, spans, rows, filters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from evomem.records import Turn
from evomem.rows import Rows
from evomem.state import Reading, Vectors

Seqs = npt.NDArray[np.int64]
Namespace = tuple[str, ...]
Pair = tuple[int, int]
"""The seqs directly before and after a row, 0 for none."""


class Span(NamedTuple):
    """Rows of one log that a memory includes: those of `memory` from `first` to `last`, inclusive.

    A memory that is not a fork has one span; a fork has its parent's spans, cut at the fork, and then
    its own.
    """

    memory: int
    first: int
    last: int


class Mark(NamedTuple):
    """Identifies a memory's rows up to one of them: equal marks mean equal rows."""

    revision: int
    """The memory's revision; -1 if there is no such memory."""
    key: bytes | None
    """Digest of the log up to and including the row; None if there is no such row."""


class Embeddings(NamedTuple):
    """The embeddings of some rows of one log; a row with passages has several."""

    seqs: Seqs
    """(n,) int64, ascending: each row's seq, once per embedding."""
    rows: Rows
    """(n, D): the embeddings, each row's in the order of its text."""
    keys: list[bytes]
    """n digests of the log up to and including each row."""

    @property
    def vectors(self) -> Vectors:
        """(n, D) float32: the `rows` as float32."""
        return self.rows[:]


@dataclass(frozen=True, slots=True)
class View:
    """One memory at one point of its log; the start of every read."""

    memory: int
    seq: int
    """The end of the view; 0 for an empty view. The turn there may have been purged: seqs are not
    reused."""
    key: bytes
    """Digest of the log up to `seq` (`State.key`)."""
    revision: int
    """Increases whenever existing rows change, as in a purge, and so invalidates caches of old rows."""
    spans: tuple[Span, ...]
    """In log order, without empty spans. Each ends at an existing row."""
    ends: tuple[Mark, ...] = ()
    """The mark of each span's last row."""
    hidden: int | None = 0
    """The number of hidden turns in the view; None if `snapshot` need not check it."""
    with_replaced: bool = False
    """Whether replaced turns are visible; deleted turns never are."""
    time: datetime | None = None
    """Turns said later are not visible; None if the view has no such rows."""
    added: datetime | None = None
    """Turns stored later are not visible; None if the view has no such rows."""
    restored: tuple[int, ...] = ()
    """Hidden turns that are visible in the view because their replacements are not."""

    @property
    def hides_until(self) -> int:
        """Turns that were replaced by a row up to this seq are hidden, as are deleted turns."""
        return 0 if self.with_replaced else self.seq


EMPTY_VIEW = View(0, 0, b"", 0, ())
"""The view of a memory that does not exist."""


@dataclass(frozen=True, slots=True)
class Row:
    """A turn as written to the log: with id, time, reading and position."""

    seq: int
    turn: Turn
    added: datetime
    reading: Reading
    key: bytes
    """Digest of the log up to and including this turn."""


class Listed(NamedTuple):
    """A turn without its text."""

    seq: int
    id: str
    session: str | None
    metadata: Mapping[str, Any]
    """Shared between readers: do not change it."""
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
    """(m,) int64, ascending: the index in `turns` of each vector's turn."""
    nbytes: int
    """Approximate bytes in memory."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions on the turns that a search may return; all of them must hold."""

    since: datetime | None = None
    """Said at this time or later."""
    until: datetime | None = None
    """Said before this time."""
    session: str | None = None
    role: str | None = None
    """`"user"`, `"assistant"` or `"exchange"`."""
    where: Mapping[str, Any] = field(default_factory=dict)
    """Conditions on metadata: `{"topic": "travel"}` or `{"stars": {"$gte": 4}}` (`evomem.where`)."""
    source: tuple[str | None, ...] | None = None
    """Only turns of these sources; None stands for turns without a source."""
    not_source: tuple[str | None, ...] = ()
    """No turns of these sources."""
    speaker: str | None = None
    """The name that `Turn.speaker` gives."""


class Selection(NamedTuple):
    """The turns of a view that may be returned: all, only some, or all but some."""

    allowed: Seqs | None = None
    """Only these, ascending; None for all."""
    without: Seqs | None = None
    """All but these, ascending; None for all. No more than half of the view."""

    def among(self, seqs: Seqs) -> Seqs:
        """Return those of `seqs` (ascending) that the selection allows."""
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
"""Returns whether another writer waits for the slot (`Store.write_slot`)."""


def nobody_waits() -> bool:
    """Return False; used by a writer that continues without a slot."""
    return False


class Dropped(NamedTuple):
    """The result of dropping memories."""

    memories: list[Namespace]
    erased: int
    """The number of erased turns."""
    kept: int
    """The number of turns of dropped memories, now or earlier, that stay because forks share them."""
    clean: bool
    """Whether the text has been removed from every file (`Receipt.clean`)."""
