"""Changes the encoder: another encoder reads the log, then its readings replace the current ones.

The new encoder's readings go to a separate table, row by row, in log order, so that reading can stop
at any time and resume later. When all turns are read, one transaction swaps the new readings with the
current ones. Searches use one generation until a transaction sees the other, and never mix them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np
from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    delete,
    exists,
    func,
    insert,
    literal,
    select,
    update,
)

from evomem.errors import (
    DatabaseDamaged,
    FingerprintMismatch,
    HeadMoved,
    IntegrityError,
    KeyMismatch,
)
from evomem.records import Turn
from evomem.rows import Form
from evomem.state import Reading, Spec, State
from evomem.store import Row, Span
from evomem_stores.database.connections import Connections, driver, form_of
from evomem_stores.database.dialects import OneOf, insert_new
from evomem_stores.database.seals import seals_of
from evomem_stores.database.tables import (
    ENCODER_COLUMNS,
    MAX_SEQ,
    SAME_ROW,
    Columns,
    column_names,
    encoder,
    generations,
    memories,
    readings,
    row_number,
    turns,
)
from evomem_stores.log import ledger
from evomem_stores.log.lookup import read
from evomem_stores.log.rows import (
    RECORD_COLUMNS,
    check,
    decode_record,
    pack,
    pack_embeddings,
    unpack,
)
from evomem_stores.log.views import spans


class SqlGeneration:
    """See `evomem.store.Generation`."""

    def __init__(
        self,
        connections: Connections,
        spec: Spec,
        rewritten: Callable[[list[int], Connection | None], None],
    ) -> None:
        """Resume the readings of `spec`, or start them.

        Args:
            connections: The database.
            spec: The new encoder.
            rewritten: Called with the numbers of all memories when the readings are swapped: in that
                transaction, and after it with None.
        """
        self._connections = connections
        self._spec = spec
        self._rewritten = rewritten
        with connections.writing() as connection:
            self._number = _number(connection, spec)

    @property
    def _done(self) -> ColumnElement[bool]:
        """The condition that the new encoder has read a turn."""
        own = and_(SAME_ROW, readings.c.generation == self._number)
        return exists(select(literal(1)).where(own)).correlate(turns)

    def progress(self) -> tuple[int, int]:
        """See `Generation.progress`."""
        with self._connections.reading() as connection:
            own = readings.c.generation == self._number
            done = connection.scalar(select(func.count()).select_from(readings).where(own)) or 0
            return done, connection.scalar(select(func.count()).select_from(turns)) or 0

    def unread(self) -> list[list[int]]:
        """See `Generation.unread`."""
        with self._connections.reading() as connection:
            unread = set(connection.scalars(select(turns.c.memory).where(~self._done).distinct()))
            rows = connection.execute(
                select(memories.c.memory, memories.c.parent).order_by(memories.c.memory)
            ).all()
        depth: dict[int | None, int] = {None: 0}
        layers: dict[int, list[int]] = {}
        for memory, parent in rows:  # a memory's parent has a smaller number
            depth[memory] = depth.get(parent, 0) + 1
            if memory in unread:
                layers.setdefault(depth[memory], []).append(memory)
        return [layers[layer] for layer in sorted(layers)]

    def next(self, memory: int, limit: int) -> tuple[State[Turn], list[Row]]:
        """See `Generation.next`."""
        blank = Reading(np.zeros(0, np.float32), np.zeros((0, 0), np.float32))
        with self._connections.reading() as connection:
            first = connection.scalar(
                select(func.min(turns.c.seq)).where(turns.c.memory == memory, ~self._done)
            )
            if first is None:
                return State.empty(self._spec), []
            state = self._state(connection, spans(connection, memory, first - 1))
            columns_read = read(
                connection, [Span(memory, first, MAX_SEQ)], RECORD_COLUMNS, limit=limit
            )
            rows = []
            for columns in columns_read:
                record = decode_record(columns, seals_of(connection))
                rows.append(Row(record.seq, record.turn, record.added, blank, columns["key"]))
        return state, rows

    def add(self, memory: int, rows: Sequence[Row]) -> None:
        """See `Generation.add`."""
        for row in rows:
            check(row, self._spec)
        numbers = {row_number(memory, row.seq): row for row in rows}
        with self._connections.writing(memory) as connection:
            named = OneOf(turns.c.row, list(numbers))
            by_number = {row["row"]: row for row in _columns(connection, named)}
            new: list[Columns] = []
            for number, row in numbers.items():
                columns = by_number.get(number)
                if columns is None or columns["key"] != row.key:
                    raise HeadMoved(f"memory {memory} was changed while it was read: read it again")
                before = {**columns, **_reading(row, self._spec, form_of(connection))}
                before["chunk"] = row.seq if row.reading.opens_chunk else 0
                new.append(before)
            self._number = _number(connection, self._spec)  # a new one if the old was dropped
            own = readings.c.generation == self._number
            connection.execute(delete(readings).where(own, OneOf(readings.c.row, list(numbers))))
            chunk = self._chunk(connection, memory, rows[0].seq)
            for values in new:
                chunk = values["chunk"] = values["chunk"] or chunk
                values["checksum"] = seals_of(connection).reading(values, self._spec.fingerprint)
                columns_read = {name: values[name] for name in ("row", *ENCODER_COLUMNS)}
                connection.execute(insert(readings).values(generation=self._number, **columns_read))

    def adopt(self) -> bool:
        """See `Generation.adopt`."""
        with self._connections.exclusive() as connection:
            if connection.scalar(select(turns.c.row).where(~self._done).limit(1)) is not None:
                return False
            old = _number(connection, stored_spec(connection, self._connections.place))
            connection.execute(
                insert(readings).from_select(
                    ["generation", "row", *ENCODER_COLUMNS],
                    select(literal(old), turns.c.row, *(turns.c[name] for name in ENCODER_COLUMNS)),
                )
            )
            own = and_(SAME_ROW, readings.c.generation == self._number)
            new = {name: readings.c[name] for name in ENCODER_COLUMNS}
            connection.execute(update(turns).where(own).values(new))
            with ledger.changing(connection):
                same = generations.c.generation == self._number
                connection.execute(delete(generations).where(same))
                connection.execute(update(encoder).values(asdict(self._spec)))
            numbers = list(connection.scalars(select(memories.c.memory)))
            for number in numbers:
                entry = ledger.get(connection, number)
                entry.revision += 1
                ledger.put(connection, entry)
            self._rewritten(numbers, connection)
        self._rewritten(numbers, None)
        return True

    def _state(self, connection: Connection, seen: Sequence[Span]) -> State[Turn]:
        """Return this encoder's state after the rows of `seen`."""
        spec = self._spec
        if not seen:
            return State.empty(spec)
        chunk = self._chunk(connection, seen[-1].memory, seen[-1].last + 1)
        open_rows = list(read(connection, seen, RECORD_COLUMNS, after=chunk - 1))
        queue = -(-spec.capacity // spec.latents) if spec.latents else -len(open_rows)
        needed = queue + len(open_rows)
        newest = list(
            read(connection, seen, ("row", "key"), limit=max(needed, 1), newest_first=True)
        )
        numbers = [row["row"] for row in newest[:needed]]
        own = readings.c.generation == self._number, OneOf(readings.c.row, numbers)
        rows = connection.execute(select(readings.c.row, readings.c.latents).where(*own))
        packed = {row.row: row.latents for row in rows}
        if len(packed) < len(numbers):
            raise HeadMoved("a turn before these was changed: read it again first")
        parts = [unpack(packed[number], spec) for number in reversed(numbers)]
        latents = np.concatenate([np.zeros((0, spec.width), np.float32), *parts])
        keep = spec.capacity + len(open_rows) * spec.latents
        seals = seals_of(connection)
        open_turns = tuple(decode_record(row, seals).turn for row in open_rows)
        latents = latents[max(0, len(latents) - keep) :]
        return State(spec, newest[0]["key"], latents, open_turns)

    def _chunk(self, connection: Connection, memory: int, seq: int) -> int:
        """Return the chunk that is open before turn `seq` of a memory, 0 at the beginning."""
        seen = spans(connection, memory, seq - 1)
        if not seen:
            return 0
        newest = row_number(seen[-1].memory, seen[-1].last)
        own = readings.c.generation == self._number, readings.c.row == newest
        chunk: int | None = connection.scalar(select(readings.c.chunk).where(*own))
        if chunk is None:
            raise HeadMoved("the turn before these was changed: read it again first")
        return chunk


def stored_spec(connection: Connection, place: str) -> Spec:
    """Return the current encoder; `place` is the database's name in messages."""
    row = connection.execute(select(encoder)).mappings().one_or_none()
    if row is None:
        raise DatabaseDamaged(f"{place} has lost the record of its encoder: restore a backup")
    return Spec(**{name: value for name, value in row.items() if name != "id"})


_NOW = "SELECT name, fingerprint, key FROM encoder, integrity"


def guard(spec: Spec, key: str) -> Callable[[Connection], None]:
    """Return a check that raises if another process has changed the database's encoder or key."""

    def check_encoder(connection: Connection) -> None:
        current = driver(connection).execute(_NOW).fetchone()
        if current is None:
            raise IntegrityError(
                "the database has lost the record of its encoder: run verify, and restore it from a "
                "backup"
            )
        if current[1] != spec.fingerprint:
            raise FingerprintMismatch(
                f"the database was re-encoded: it was opened with {spec.name!r}, and its encoder is "
                f"now {current[0]!r}; open it again"
            )
        if current[2] != key:
            raise KeyMismatch(
                "the database was sealed with another integrity key since it was opened: open it "
                "again with that key"
            )

    return check_encoder


def other_encoders(connection: Connection) -> list[str]:
    """Return the names of encoders other than the current one that have readings."""
    return list(connection.scalars(select(generations.c.name).order_by(generations.c.generation)))


def drop(connection: Connection) -> list[str]:
    """Remove the readings of other encoders; return their names."""
    names = other_encoders(connection)
    if names:
        with ledger.changing(connection):
            connection.execute(delete(generations))
    return names


def _number(connection: Connection, spec: Spec) -> int:
    """Return the generation number of an encoder; create one if there is none."""
    same = select(generations.c.generation).where(generations.c.fingerprint == spec.fingerprint)
    number: int | None = connection.scalar(same)
    if number is None:  # another process may be creating it, too
        with ledger.changing(connection):
            connection.execute(insert_new(connection, generations).values(asdict(spec)))
        number = connection.scalars(same).one()
    return number


def _columns(connection: Connection, condition: ColumnElement[bool]) -> list[Columns]:
    columns = [turns.c[name] for name in column_names(turns)]
    return [dict(row) for row in connection.execute(select(*columns).where(condition)).mappings()]


def _reading(row: Row, spec: Spec, form: Form) -> Columns:
    return {
        "embedding": pack_embeddings(row.reading, form),
        "latents": pack(row.reading.latents, spec.dtype),
    }
