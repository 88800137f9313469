"""The sealed entries by which edits of the database are detected: one per memory, one for all.

A memory's entry is its row in `memories`. It seals the memory's name, place and end, and how many
rows and tombstones it has, with a sum over each, and one over the marks of purged turns: so a row
that is missing, added, or of an earlier day shows. The database's entry, the only row of `integrity`, seals which memories there are, and
the encoders. An entry is only ever changed by who has found its seal to fit, so that no change
covers up an edit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    Connection,
    RowMapping,
    String,
    Update,
    bindparam,
    func,
    insert,
    select,
    update,
)

from evomem.errors import HeadMoved, IntegrityError
from evomem_stores.database.dialects import Now
from evomem_stores.database.seals import MODULUS, Mark, Seals, seals_of, tombstones
from evomem_stores.database.tables import (
    Columns,
    encoder,
    generations,
    hidden,
    integrity,
    memories,
    turns,
)
from evomem_stores.log.leases import lease_of

_RESTORE = "run verify, and restore the database from a backup"


@dataclass(slots=True)
class Entry:
    """A memory's entry, whose seal fits. Change it, and `put` it back."""

    memory: int
    namespace: str
    parent: int | None
    parent_seq: int
    head: int
    revision: int
    created: int
    rows: int = 0
    """How many turns of its own the memory has."""
    tip: bytes = b""
    """The seal of the newest of them."""
    gone: int = 0
    """How many turns are hidden from it."""
    changes: int = 0
    """How often the entry was changed; never falls."""
    stored: bytes = b""
    """The sums over the seals of its turns, its tombstones and its marks, as they were read."""
    fence: int = 0
    """The number of its newest lease (`leases`)."""
    wanted: int = 0
    """1 if a worker waits for the lease."""
    _sums: list[int] = field(default_factory=list)
    _read: tuple[Any, ...] = ()

    def sums(self, seals: Seals) -> list[int]:
        """Return the sums, to read or to change: of turns, of tombstones, and of marks."""
        if not self._sums:
            place = [self.memory, self.changes]
            sums = seals.unmask(self.stored, b"memory", place) if self.stored else []
            self._sums = [*sums, 0, 0, 0][:SUMS]  # older entries have no sum of marks
        return self._sums

    @property
    def named(self) -> bool:
        """Whether the memory has a name; one that was dropped has its number (`dropping`)."""
        return self.namespace.startswith("[")

    def add(self, seals: Seals, rows: Sequence[bytes]) -> None:
        """Note new turns, given by their seals in log order; they follow all that are there."""
        if rows:
            self.rows += len(rows)
            self.sums(seals)[0] += seals.rows(rows)
            self.tip = rows[-1]

    def remove(self, seals: Seals, rows: Sequence[bytes], tip: bytes) -> None:
        """Note that turns are gone, and the seal of the newest that is left (b"" for none)."""
        self.rows -= len(rows)
        self.sums(seals)[0] -= seals.rows(rows)
        self.tip = tip

    def replace(self, seals: Seals, old: bytes, new: bytes) -> None:
        """Note that a turn has another seal."""
        self.sums(seals)[0] += seals.rows([new]) - seals.rows([old])
        if self.tip == old:
            self.tip = new

    def hide(self, seals: Seals, gone: Mapping[int, int]) -> None:
        """Note new tombstones: seqs, each with the seq of what took the turn's place, 0 for none."""
        self.gone += len(gone)
        self.sums(seals)[1] += seals.gone(self.memory, _listed(gone))

    def show(self, seals: Seals, gone: Mapping[int, int]) -> None:
        """Note that tombstones were removed."""
        self.gone -= len(gone)
        self.sums(seals)[1] -= seals.gone(self.memory, _listed(gone))

    def mark(self, seals: Seals, marks: Iterable[Mark]) -> None:
        """Note new marks of purged turns."""
        self.sums(seals)[2] += seals.marks(self.memory, marks)

    def unmark(self, seals: Seals, marks: Iterable[Mark]) -> None:
        """Note that marks were removed."""
        self.sums(seals)[2] -= seals.marks(self.memory, marks)


PLAIN = ("memory", "namespace", "parent", "parent_seq", "head", "revision", "created", "rows", "tip", "gone", "changes")  # fmt: skip
"""The columns of an entry that are stored as they are."""

SUMS = 3
PROVED = 4096  # entries that are known by heart
ENTRY = tuple(memories.c[name] for name in (*PLAIN, "sums", "seal", "fence", "wanted"))
"""The columns of an entry, for queries that read it with something else."""

_ENTRY = select(*ENTRY).where(memories.c.memory == bindparam("number"))
_LISTED = (
    select(
        func.aggregate_strings(hidden.c.seq.cast(String) + ":" + hidden.c.since.cast(String), ",")
    )
    .where(hidden.c.memory == memories.c.memory)
    .scalar_subquery()
    .label("listed")
)
WITH_HIDDEN = select(*ENTRY, _LISTED)
"""Entries with their tombstones, for `opened_with_hidden`."""
_WITH_HIDDEN = WITH_HIDDEN.where(memories.c.memory == bindparam("number"))


def opened(seals: Seals, row: RowMapping | Mapping[str, Any]) -> Entry:
    """Return the entry that a row of `memories` holds. Raises `IntegrityError`."""
    plain: list[Any] = [row[name] for name in PLAIN]
    read = (*plain, row["sums"], row["seal"])
    if seals.proved.get(plain[0]) != read:
        if seals.digest(b"memory", plain, row["sums"]) != row["seal"]:
            raise IntegrityError(
                f"the entry of memory {row['memory']} ({row['namespace']!r:.80}) was changed since "
                f"it was written: its seal does not fit; {_RESTORE}"
            )
        if len(seals.proved) >= PROVED:
            seals.proved.clear()
        seals.proved[plain[0]] = read
    entry = Entry(*plain)
    entry.stored, entry._read = row["sums"], tuple(plain)
    entry.fence, entry.wanted = row["fence"], row["wanted"]
    return entry


def get(connection: Connection, number: int, *, lock: bool = False) -> Entry:
    """Return a memory's entry; with `lock`, no one else changes it until the transaction ends.

    Raises:
        HeadMoved: There is no such memory (any more).
        IntegrityError: Its seal does not fit.
    """
    query = _ENTRY.with_for_update(key_share=True) if lock else _ENTRY
    row = connection.execute(query, {"number": number}).mappings().one_or_none()
    if row is None:
        raise HeadMoved(f"there is no memory number {number} any more: it was dropped meanwhile")
    return opened(seals_of(connection), row)


def with_hidden(connection: Connection, number: int) -> tuple[Entry, dict[int, int]]:
    """Return a memory's entry, and what is hidden from it: seqs, ascending, each with its `since`.

    Raises:
        HeadMoved: There is no such memory (any more).
        IntegrityError: The entry's seal, or a tombstone, does not fit.
    """
    row = connection.execute(_WITH_HIDDEN, {"number": number}).mappings().one_or_none()
    if row is None:
        raise HeadMoved(f"there is no memory number {number} any more: it was dropped meanwhile")
    return opened_with_hidden(seals_of(connection), row)


def opened_with_hidden(seals: Seals, row: RowMapping) -> tuple[Entry, dict[int, int]]:
    """Decode a row of `WITH_HIDDEN`. Raises `IntegrityError` as `with_hidden` does."""
    entry = opened(seals, row)
    listed = row["listed"] or ""
    try:
        gone = dict(sorted(tombstones(listed)))
    except ValueError:
        gone = {}
    same = len(gone) == entry.gone
    if not same or (gone and seals.gone(entry.memory, listed) != entry.sums(seals)[1] % MODULUS):
        raise wrongly_hidden(entry.memory, len(gone), entry.gone)
    return entry, gone


def wrongly_hidden(memory: int, count: int, gone: int) -> IntegrityError:
    """Return the error for tombstones that are not those of the turns that were deleted."""
    return IntegrityError(
        f"memory {memory} hides {count} turns that are not the {gone} that were deleted: somebody "
        f"edited its tombstones; {_RESTORE}"
    )


def put(connection: Connection, entry: Entry) -> None:
    """Write an entry that was changed.

    Raises:
        LeaseLost: The transaction writes under a lease that another worker has taken over.
    """
    seals = seals_of(connection)
    lease = lease_of(connection, entry.memory)
    if lease is not None:
        lease.check(entry.fence, entry.wanted)
    sums = entry.sums(seals)
    entry.changes += 1
    columns: Columns = {name: getattr(entry, name) for name in PLAIN}
    columns["sums"] = seals.mask(sums, b"memory", [entry.memory, entry.changes])
    columns["seal"] = seals.digest(b"memory", list(columns.values())[:-1], columns["sums"])
    before = dict(zip(PLAIN, entry._read, strict=False))
    changed = tuple(
        name
        for name in columns
        if name != "memory" and (name not in before or columns[name] != before[name])
    )
    values = {f"new_{name}": columns[name] for name in changed}
    values["number"] = entry.memory
    if lease is not None:
        values["micros"] = lease.micros
    connection.execute(_put(changed, lease is not None), values)
    entry.stored, entry._read = columns["sums"], tuple(columns[name] for name in PLAIN)


@lru_cache(maxsize=64)
def _put(names: tuple[str, ...], renew: bool) -> Update:
    """Return the statement that changes columns of an entry: those with an index as rarely as can be."""
    new: Columns = {name: bindparam(f"new_{name}") for name in names}
    if renew:
        new["leased"] = Now() + bindparam("micros")
    return update(memories).where(memories.c.memory == bindparam("number")).values(new)


def closed_seal(connection: Connection, number: int) -> bytes:
    """Return the seal of a memory's entry as it is stored."""
    return connection.scalar(select(memories.c.seal).where(memories.c.memory == number)) or b""


def newest(connection: Connection, number: int) -> bytes:
    """Return the seal of a memory's newest own row, b"" if it has none."""
    query = select(turns.c.seal).where(turns.c.memory == number).order_by(turns.c.row.desc())
    return connection.scalar(query.limit(1)) or b""


# the database --------------------------------------------------------------------------------


@dataclass(slots=True)
class Whole:
    """The database's entry, whose seal fits. Change it inside of `changing`."""

    changes: int
    """How often the entry was changed; never falls."""
    memories: int
    """How many memories there are, dropped ones that stay for their forks counted as well."""
    total: int
    """The sum of their numbers' shares."""

    def add(self, seals: Seals, number: int) -> None:
        """Note a new memory."""
        self.memories += 1
        self.total += seals.share(b"memories", [number])

    def remove(self, seals: Seals, number: int) -> None:
        """Note that a memory is gone."""
        self.memories -= 1
        self.total -= seals.share(b"memories", [number])


def whole(connection: Connection, *, lock: bool = False) -> Whole:
    """Return the database's entry; with `lock`, no one else changes it until the transaction ends.

    Raises:
        IntegrityError: Its seal does not fit, or it is not there.
    """
    query = select(integrity)
    row = connection.execute(query.with_for_update() if lock else query).mappings().one_or_none()
    seals = seals_of(connection)
    sealed = None if row is None else _sealed(connection, row["changes"], row["memories"])
    if row is None or seals.digest(b"database", sealed or [], row["total"]) != row["seal"]:
        raise IntegrityError(
            "the database's entry (its encoders and its number of memories) was changed since it "
            f"was written: its seal does not fit; {_RESTORE}"
        )
    [total] = seals.unmask(row["total"], b"database", [row["changes"]])
    return Whole(row["changes"], row["memories"], total)


@contextmanager
def changing(connection: Connection) -> Iterator[Whole]:
    """Provide the database's entry, to change it or what it seals; seal it again afterwards.

    Memories that are made or dropped at the same time wait for each other here, and only here.
    """
    entry = whole(connection, lock=True)
    yield entry
    put_whole(connection, entry)


def put_whole(connection: Connection, entry: Whole) -> None:
    """Seal the database as it is now."""
    seals = seals_of(connection)
    entry.changes += 1
    total = seals.mask([entry.total], b"database", [entry.changes])
    sealed = _sealed(connection, entry.changes, entry.memories)
    columns: Columns = {
        "changes": entry.changes,
        "memories": entry.memories,
        "total": total,
        "seal": seals.digest(b"database", sealed, total),
        "key": seals.key_id,
    }
    connection.execute(update(integrity).values(columns))


def found(connection: Connection, entry: Whole) -> str | None:
    """Return the fault in the set of memories, None for none."""
    seals = seals_of(connection)
    numbers = connection.scalars(select(memories.c.memory)).all()
    total = sum(seals.share(b"memories", [number]) for number in numbers)
    if len(numbers) != entry.memories or (total - entry.total) % MODULUS:
        return (
            f"there are {len(numbers)} memories, and not the {entry.memories} that there should be"
        )
    return None


def begin(connection: Connection, seals: Seals) -> None:
    """Create the entry of a database without memories."""
    connection.execute(
        insert(integrity).values(
            id=1, database=seals.database, key="", changes=0, memories=0, total=b"", seal=b""
        )
    )


def _sealed(connection: Connection, changes: object, memories: object) -> list[object]:
    own = [list(row) for row in connection.execute(select(encoder))]
    others = connection.execute(select(generations).order_by(generations.c.generation))
    return [changes, memories, own, [list(row) for row in others]]


def _listed(gone: Mapping[int, int]) -> str:
    return ",".join(f"{seq}:{since}" for seq, since in gone.items())
