"""The sealed entries that reveal edits of the database: one per memory, and one for the database.

A memory's entry is its row in `memories`. It seals the memory's name, position and end, its numbers
of rows and tombstones with a sum over each, and a sum over the marks of purged turns. So a missing,
added or outdated row is detected. The database's entry, the only row of `integrity`, seals the set of
memories and the encoders. An entry is only changed after its seal was verified, so that no change
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
    String,
    bindparam,
    func,
    insert,
    select,
    update,
)

from evomem.errors import HeadMoved, IntegrityError
from evomem_stores.database.compiled import Statement
from evomem_stores.database.dialects import COMMA, Now
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
    """A memory's entry, whose seal was verified. Change it, and `put` it back."""

    memory: int
    namespace: str
    parent: int | None
    parent_seq: int
    head: int
    revision: int
    created: int
    rows: int = 0
    """The number of the memory's own turns."""
    tip: bytes = b""
    """The seal of the newest of these."""
    gone: int = 0
    """The number of its tombstones."""
    changes: int = 0
    """How often the entry was changed; never decreases."""
    stored: bytes = b""
    """The masked sums over its turns' seals, its tombstones and its marks, as they were read."""
    fence: int = 0
    """The fencing token of its newest lease (`leases`)."""
    wanted: int = 0
    """1 if a worker waits for the lease."""
    _sums: list[int] = field(default_factory=list)
    _read: tuple[Any, ...] = ()

    def sums(self, seals: Seals) -> list[int]:
        """Return the sums over turns, tombstones and marks; the caller may change the list."""
        if not self._sums:
            place = [self.memory, self.changes]
            sums = seals.unmask(self.stored, b"memory", place) if self.stored else []
            self._sums = [*sums, 0, 0, 0][:SUMS]  # older entries have no sum of marks
        return self._sums

    @property
    def named(self) -> bool:
        """Whether the memory has a name; a dropped memory has its number instead (`dropping`)."""
        return self.namespace.startswith("[")

    def add(self, seals: Seals, rows: Sequence[bytes]) -> None:
        """Record turns appended to the memory, by their seals in log order."""
        if rows:
            self.rows += len(rows)
            self.sums(seals)[0] += seals.rows(rows)
            self.tip = rows[-1]

    def remove(self, seals: Seals, rows: Sequence[bytes], tip: bytes) -> None:
        """Record that turns were removed; `tip` is the seal of the newest remaining turn, b"" for none."""
        self.rows -= len(rows)
        self.sums(seals)[0] -= seals.rows(rows)
        self.tip = tip

    def replace(self, seals: Seals, old: bytes, new: bytes) -> None:
        """Record that a turn's seal has changed."""
        self.sums(seals)[0] += seals.rows([new]) - seals.rows([old])
        if self.tip == old:
            self.tip = new

    def hide(self, seals: Seals, gone: Mapping[int, int]) -> None:
        """Record new tombstones: seqs of hidden turns, each with the seq of its replacement, 0 for none."""
        self.gone += len(gone)
        self.sums(seals)[1] += seals.tombstones(self.memory, gone)

    def show(self, seals: Seals, gone: Mapping[int, int]) -> None:
        """Record that tombstones were removed."""
        self.gone -= len(gone)
        self.sums(seals)[1] -= seals.tombstones(self.memory, gone)

    def mark(self, seals: Seals, marks: Iterable[Mark]) -> None:
        """Record new marks of purged turns."""
        self.sums(seals)[2] += seals.marks(self.memory, marks)

    def unmark(self, seals: Seals, marks: Iterable[Mark]) -> None:
        """Record that marks were removed."""
        self.sums(seals)[2] -= seals.marks(self.memory, marks)


PLAIN_COLUMNS = ("memory", "namespace", "parent", "parent_seq", "head", "revision", "created", "rows", "tip", "gone", "changes")  # fmt: skip
"""The columns of an entry that are stored as they are."""

SUMS = 3
MAX_VERIFIED_ENTRIES = 4096  # cached entries whose seals were verified
ENTRY_COLUMNS = tuple(
    memories.c[name] for name in (*PLAIN_COLUMNS, "sums", "seal", "fence", "wanted")
)
"""The columns of an entry, for queries that also read other columns."""

_BY_NUMBER = select(*ENTRY_COLUMNS).where(memories.c.memory == bindparam("number"))
_ENTRY = Statement(_BY_NUMBER)
_LOCKED_ENTRY = Statement(_BY_NUMBER.with_for_update(key_share=True))
_LISTED = (
    select(
        func.aggregate_strings(hidden.c.seq.cast(String) + ":" + hidden.c.since.cast(String), COMMA)
    )
    .where(hidden.c.memory == memories.c.memory)
    .scalar_subquery()
    .label("listed")
)
WITH_HIDDEN = select(*ENTRY_COLUMNS, _LISTED)
"""Entries with their tombstones, for `ledger.open_with_hidden`."""
_WITH_HIDDEN = Statement(WITH_HIDDEN.where(memories.c.memory == bindparam("number")))


def open_entry(seals: Seals, row: Sequence[Any]) -> Entry:
    """Return the entry in a row whose first columns are `ENTRY_COLUMNS`.

    Raises:
        IntegrityError: Its seal does not match.
    """
    plain = tuple(row[: len(PLAIN_COLUMNS)])
    sums, seal, fence, wanted = row[len(PLAIN_COLUMNS) : len(ENTRY_COLUMNS)]
    read = (*plain, sums, seal)
    if seals.verified_entries.get(plain[0]) != read:
        if seals.digest(b"memory", plain, sums) != seal:
            raise IntegrityError(
                f"the entry of memory {plain[0]} ({plain[1]!r:.80}) was changed since it was "
                f"written: its seal does not match; {_RESTORE}"
            )
        if len(seals.verified_entries) >= MAX_VERIFIED_ENTRIES:
            seals.verified_entries.clear()
        seals.verified_entries[plain[0]] = read
    entry = Entry(*plain)
    entry.stored, entry.fence, entry.wanted, entry._read = sums, fence, wanted, plain
    return entry


def get(connection: Connection, number: int, *, lock: bool = False) -> Entry:
    """Return a memory's entry; `lock` keeps others from changing it until the transaction ends.

    Raises:
        HeadMoved: There is no such memory.
        IntegrityError: Its seal does not match.
    """
    row = (_LOCKED_ENTRY if lock else _ENTRY).row(connection, {"number": number})
    if row is None:
        raise HeadMoved(f"there is no memory number {number} any more: it was dropped meanwhile")
    return open_entry(seals_of(connection), row)


def with_hidden(connection: Connection, number: int) -> tuple[Entry, dict[int, int]]:
    """Return a memory's entry and its tombstones: seqs, ascending, each with its `since`.

    Raises:
        HeadMoved: There is no such memory.
        IntegrityError: The entry's seal does not match, or a tombstone was changed.
    """
    row = _WITH_HIDDEN.row(connection, {"number": number})
    if row is None:
        raise HeadMoved(f"there is no memory number {number} any more: it was dropped meanwhile")
    return open_with_hidden(seals_of(connection), row)


def open_with_hidden(seals: Seals, row: Sequence[Any]) -> tuple[Entry, dict[int, int]]:
    """Decode a row of `WITH_HIDDEN`. Raises `IntegrityError` as `with_hidden` does."""
    entry = open_entry(seals, row)
    listed = row[len(ENTRY_COLUMNS)] or ""
    try:
        gone = dict(sorted(tombstones(listed)))
    except ValueError:
        gone = {}
    same = len(gone) == entry.gone
    if not same or (
        gone and seals.tombstone_sum(entry.memory, listed) != entry.sums(seals)[1] % MODULUS
    ):
        raise wrong_tombstones(entry.memory, len(gone), entry.gone)
    return entry, gone


def wrong_tombstones(memory: int, count: int, gone: int) -> IntegrityError:
    """Return the error for tombstones that do not match the memory's entry."""
    return IntegrityError(
        f"memory {memory} hides {count} turns that are not the {gone} that were deleted: somebody "
        f"edited its tombstones; {_RESTORE}"
    )


def put(connection: Connection, entry: Entry) -> None:
    """Write a changed entry.

    Raises:
        LeaseLost: Another worker has acquired the lease under which the transaction writes.
    """
    seals = seals_of(connection)
    lease = lease_of(connection, entry.memory)
    if lease is not None:
        lease.check(entry.fence, entry.wanted)
    sums = entry.sums(seals)
    entry.changes += 1
    columns: Columns = {name: getattr(entry, name) for name in PLAIN_COLUMNS}
    columns["sums"] = seals.mask(sums, b"memory", [entry.memory, entry.changes])
    columns["seal"] = seals.digest(b"memory", list(columns.values())[:-1], columns["sums"])
    before = dict(zip(PLAIN_COLUMNS, entry._read, strict=False))
    changed = tuple(
        name
        for name in columns
        if name != "memory" and (name not in before or columns[name] != before[name])
    )
    values = {f"new_{name}": columns[name] for name in changed}
    values["number"] = entry.memory
    if lease is not None:
        values["micros"] = lease.micros
    _put(changed, lease is not None).run(connection, values)
    entry.stored, entry._read = columns["sums"], tuple(columns[name] for name in PLAIN_COLUMNS)


@lru_cache(maxsize=64)
def _put(names: tuple[str, ...], renew: bool) -> Statement:
    """Return the statement that changes columns of an entry; it leaves unchanged columns alone."""
    new: Columns = {name: bindparam(f"new_{name}") for name in names}
    if renew:
        new["leased"] = Now() + bindparam("micros")
    return Statement(update(memories).where(memories.c.memory == bindparam("number")).values(new))


def stored_seal(connection: Connection, number: int) -> bytes:
    """Return the seal of a memory's entry as it is stored."""
    return connection.scalar(select(memories.c.seal).where(memories.c.memory == number)) or b""


def newest_seal(connection: Connection, number: int) -> bytes:
    """Return the seal of a memory's newest own row, b"" if it has none."""
    query = select(turns.c.seal).where(turns.c.memory == number).order_by(turns.c.row.desc())
    return connection.scalar(query.limit(1)) or b""


# the database --------------------------------------------------------------------------------


@dataclass(slots=True)
class DatabaseEntry:
    """The database's entry, whose seal was verified. Change it inside `changing`."""

    changes: int
    """How often the entry was changed; never decreases."""
    memories: int
    """The number of memories, including dropped ones that stay for their forks."""
    total: int
    """The sum over the shares of their numbers."""

    def add(self, seals: Seals, number: int) -> None:
        """Record a new memory."""
        self.memories += 1
        self.total += seals.share(b"memories", [number])

    def remove(self, seals: Seals, number: int) -> None:
        """Record that a memory was removed."""
        self.memories -= 1
        self.total -= seals.share(b"memories", [number])


def database_entry(connection: Connection, *, lock: bool = False) -> DatabaseEntry:
    """Return the database's entry; `lock` keeps others from changing it until the transaction ends.

    Raises:
        IntegrityError: The entry is missing, or its seal does not match.
    """
    query = select(integrity)
    row = connection.execute(query.with_for_update() if lock else query).mappings().one_or_none()
    seals = seals_of(connection)
    sealed = None if row is None else _sealed(connection, row["changes"], row["memories"])
    if row is None or seals.digest(b"database", sealed or [], row["total"]) != row["seal"]:
        raise IntegrityError(
            "the database's entry (its encoders and its number of memories) was changed since it "
            f"was written: its seal does not match; {_RESTORE}"
        )
    [total] = seals.unmask(row["total"], b"database", [row["changes"]])
    return DatabaseEntry(row["changes"], row["memories"], total)


@contextmanager
def changing(connection: Connection) -> Iterator[DatabaseEntry]:
    """Provide the database's entry, to change it or what it seals, and seal it afterwards.

    Creating and dropping memories is serialised here, and only here.
    """
    entry = database_entry(connection, lock=True)
    yield entry
    put_database_entry(connection, entry)


def put_database_entry(connection: Connection, entry: DatabaseEntry) -> None:
    """Write the database's entry with a new seal."""
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


def memories_fault(connection: Connection, entry: DatabaseEntry) -> str | None:
    """Return what is wrong with the set of memories, None if nothing is."""
    seals = seals_of(connection)
    numbers = connection.scalars(select(memories.c.memory)).all()
    total = sum(seals.share(b"memories", [number]) for number in numbers)
    if len(numbers) != entry.memories or (total - entry.total) % MODULUS:
        return f"there are {len(numbers)} memories that are not the {entry.memories} in the database's entry"
    return None


def create_database_entry(connection: Connection, seals: Seals) -> None:
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
