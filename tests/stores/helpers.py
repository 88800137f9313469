"""Writing to a store as `Memory` does, and everything a log holds as comparable values."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from evomem.encoder import HashEncoder
from evomem.records import Turn
from evomem.state import Spec, State, Vectors
from evomem.store import Index, Row, Store, View
from evomem_stores import open_sqlite
from evomem_stores.database import tables
from evomem_stores.postgresql import open_postgresql
from evomem_stores.store import SqlStore
from evomem_stores.upkeep import sealing
from evomem_stores.upkeep.migrations import MIGRATIONS
from evomem_stores.vectors.faiss_index import FaissIndex

ENCODER = HashEncoder(32)
DAY = [datetime(2024, 1, 1, tzinfo=timezone.utc) + timedelta(days=day) for day in range(400)]


def open_at(
    location: Path | str, spec: Spec | None = ENCODER.spec, **options: Any
) -> tuple[SqlStore, FaissIndex]:
    server = str(location).startswith("postgresql")
    opener: Callable[..., tuple[Store, Index]] = open_postgresql if server else open_sqlite
    store, index = opener(str(location), spec, **options)
    assert isinstance(store, SqlStore)
    assert isinstance(index, FaissIndex)
    return store, index


DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            # a string is evaluated before the test: other processes need not import PyTorch
            pytest.mark.skipif(
                "not __import__('torch').cuda.is_available()", reason="no CUDA device"
            ),
        ],
    ),
]
"""For `index_device`: what is tested on a GPU is the same code as on the CPU."""


def open_on_device(
    device: str, location: Path | str, spec: Spec | None = ENCODER.spec, **options: Any
) -> tuple[SqlStore, FaissIndex]:
    """Open a database whose memories have all their vectors on a device, however few they are."""
    store, index = open_at(location, spec, index_device=device, **options)
    assert index._device
    index._device.rows = 0
    return store, index


def turn(text: str, number: int, **fields: Any) -> Turn:
    return Turn(user=text, **{"id": f"t{number}", "time": DAY[number % 400], **fields})


def read_rows(
    state: State[Turn], first: int, turns: Sequence[Turn], encoder: HashEncoder = ENCODER
) -> list[Row]:
    """Read turns from `state` on into rows that begin at seq `first`."""
    rows = []
    for seq, (item, reading) in enumerate(
        zip(turns, encoder.read(state, turns), strict=True), start=first
    ):
        state = state.after(item, reading)
        rows.append(Row(seq, item, DAY[0], reading, state.key))
    return rows


def write(store: Store, memory: int, turns: Sequence[Turn], encoder: HashEncoder = ENCODER) -> View:
    """Append turns to a memory; return the view after them."""
    view = store.view(memory)
    store.append(view, read_rows(store.state(view), view.seq + 1, turns, encoder))
    return store.view(memory)


def purge(store: Store, memory: int, seq: int, encoder: HashEncoder = ENCODER) -> None:
    """Forget one turn as `Memory.purge` does: read every later one again."""
    view = store.view(memory)
    state = store.state(store.view(memory, seq=seq - 1))
    rows = []
    for row in store.rows(view, after=seq):
        rows += read_rows(state, row.seq, [row.turn], encoder)
        state = state.after(row.turn, rows[-1].reading)
    store.rewrite(view, seq, rows)


def log(store: Store, view: View) -> list[tuple[Any, ...]]:
    """Everything the log holds of a view."""
    return [
        (row.seq, row.turn, row.added, row.key, row.reading.opens_chunk)
        + (row.reading.embeddings.tobytes(), row.reading.latents.tobytes())
        for row in store.rows(view, after=0)
    ]


def running(turns: Sequence[Turn], encoder: HashEncoder = ENCODER) -> State[Turn]:
    """The state of an encoder that read `turns` in one go, no store involved."""
    state: State[Turn] = State.empty(encoder.spec)
    for item, reading in zip(turns, encoder.read(state, turns), strict=True):
        state = state.after(item, reading)
    return state


def assert_same_state(left: State[Turn], right: State[Turn]) -> None:
    assert left.key == right.key
    assert [t.content for t in left.open] == [t.content for t in right.open]
    assert left.latents.dtype == right.latents.dtype == np.float32
    assert left.latents.shape == right.latents.shape
    assert np.array_equal(left.latents, right.latents)


Stored = list[tuple[int, Vectors]]


def stored(store: Store, view: View) -> Stored:
    """The seqs of a view's turns, with their embeddings, from the log."""
    return [(row.seq, row.reading.embeddings.astype(float)) for row in store.rows(view, after=0)]


def nearest(rows: Stored, query: Vectors, k: int, allowed: Any = None) -> list[int]:
    """The seqs of the nearest turns by NumPy alone."""
    scored = [
        (float(np.float32((embeddings @ query.astype(float)).max())), seq)
        for seq, embeddings in rows
        if allowed is None or seq in allowed
    ]
    return [seq for _, seq in sorted(scored, reverse=True)[:k]]


def exact(store: Store, view: View, query: Vectors, k: int, allowed: Any = None) -> list[int]:
    """The seqs of the nearest turns by NumPy alone, from the log."""
    return nearest(stored(store, view), query, k, allowed)


def words(store: Store, view: View, query: str) -> dict[int, float]:
    """BM25 of the turns that share a word with `query`, by seq."""
    return dict(store.lexical(view, query))


def query(text: str) -> Vectors:
    vector: Vectors = ENCODER.embed_queries(State.empty(ENCODER.spec), [text])[0]
    return vector


def found(hits: Sequence[tuple[int, float]]) -> list[int]:
    return [seq for seq, _ in hits]


SINCE = {
    9: """
        ALTER TABLE memories DROP COLUMN fence; ALTER TABLE memories DROP COLUMN holder;
        ALTER TABLE memories DROP COLUMN leased; ALTER TABLE memories DROP COLUMN wanted""",
    8: "DROP TABLE storage",
    7: "SELECT 1",
    6: "ALTER TABLE hidden DROP COLUMN since; DROP TABLE forgotten",
    5: """
        ALTER TABLE turns DROP COLUMN seal; DROP TABLE integrity;
        ALTER TABLE memories DROP COLUMN "rows"; ALTER TABLE memories DROP COLUMN tip;
        ALTER TABLE memories DROP COLUMN gone; ALTER TABLE memories DROP COLUMN changes;
        ALTER TABLE memories DROP COLUMN sums; ALTER TABLE memories DROP COLUMN seal""",
    4: """
        DROP INDEX turns_source; ALTER TABLE turns DROP COLUMN source;
        DROP INDEX turns_recalled; ALTER TABLE turns DROP COLUMN recalled""",
    3: "DROP TABLE postings; DROP TABLE runs",
    2: "DROP TABLE readings; DROP TABLE generations",
}
"""What takes the place of a step of the migrations in a database that lacks it."""


@contextmanager
def raw(location: str) -> Iterator[Callable[..., Any]]:
    """Give what runs statements on a database behind evomem's back."""
    if location.startswith("postgresql"):
        url, _, schema = location.rpartition("schema=")
        with psycopg.connect(url.rstrip("?&"), options=f"-csearch_path={schema}") as server:
            yield lambda sql, *values: server.execute(sql.replace("?", "%s"), *values)
        return
    with closing(sqlite3.connect(location)) as file, file:
        yield file.execute


def downgrade(location: str, version: int) -> None:
    """Make a database what it was with fewer migrations."""
    with raw(location) as execute:
        if version < 5 <= len(MIGRATIONS):
            names = [name for name in tables.column_names(tables.turns) if name != "seal"]
            quoted = ", ".join(f'"{name}"' for name in names)
            for row in execute(f"SELECT {quoted} FROM turns").fetchall():
                before = sealing.checksum_without_seals(dict(zip(names, row, strict=True)))
                execute('UPDATE turns SET checksum = ? WHERE "row" = ?', (before, row[0]))
        for step in range(len(MIGRATIONS), version, -1):
            for statement in SINCE[step].split(";"):
                execute(statement)
        execute(f"DELETE FROM migrations WHERE number > {version}")


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


FILES = """
    SELECT pg_relation_filepath(oid) FROM pg_class
    WHERE relnamespace = to_regnamespace(%(schema)s) AND relkind IN ('r', 'i') OR oid IN (
        SELECT reltoastrelid FROM pg_class WHERE relnamespace = to_regnamespace(%(schema)s))
    ORDER BY oid"""


def bytes_held(location: str) -> bytes:
    """Every byte that a database keeps on disk: all files beside a file, all tables of a schema."""
    if not location.startswith("postgresql"):
        return bytes_of(Path(location).parent)
    url, _, schema = location.rpartition("schema=")
    with psycopg.connect(url.rstrip("?&"), autocommit=True) as admin:
        admin.execute("CHECKPOINT")
        read = "SELECT pg_read_binary_file(%s)"
        files = [path for (path,) in admin.execute(FILES, {"schema": schema}) if path]
        return b"".join(admin.execute(read, [path]).fetchone()[0] for path in files)  # type: ignore[index]
