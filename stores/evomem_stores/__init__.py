"""The log in SQLite, its index in FAISS: what `evomem.open("agent.db")` opens."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from sqlalchemy import insert, select, update

from evomem.errors import DatabaseDamaged, FingerprintMismatch, NotFound, StoreError
from evomem.state import Spec
from evomem.store import Index, Store
from evomem_stores import tables
from evomem_stores.engine import Engine, Synchronous, prepare
from evomem_stores.faiss_index import FaissIndex
from evomem_stores.lexical import ANALYSER
from evomem_stores.migrations import apply, pending
from evomem_stores.sql import SqlStore
from evomem_stores.writing import write_terms

__all__ = ["open_sqlite"]


def open_sqlite(
    location: str,
    spec: Spec | None,
    *,
    synchronous: Synchronous = "FULL",
    busy_timeout: float = 30.0,
    index_bytes: int = 2**30,
) -> tuple[Store, Index]:
    """Open an SQLite database and its index, making them for `spec` if there are none.

    Args:
        location: A file, `sqlite:///<file>`, or `":memory:"`.
        spec: The encoder to be used; None to take whichever the database was written by.
        synchronous: `"FULL"`: what was written survives a power loss. `"NORMAL"`: it survives the
            end of the process, but a power loss may take the last writes back.
        busy_timeout: Seconds to wait while another process writes.
        index_bytes: How much memory the vectors of recently searched memories may take.

    Raises:
        NotFound: There is no database and no `spec` to make one for.
        FingerprintMismatch: The database was written by another encoder than `spec`.
        DatabaseDamaged: The file is not a database of ours, or cannot be read.
        DatabaseBusy: Another process held the lock for longer than `busy_timeout`.
        StoreError: The file cannot be opened, or is of a newer version.
    """
    path = None
    if location != ":memory:":
        path = Path(location.removeprefix("sqlite:///")).expanduser().absolute()
    if not (path and prepare(path, create=spec is not None)) and spec is None:
        raise NotFound(
            f"there is no database at {location!r}: name an encoder to make one, "
            'such as encoder="static:all-MiniLM-L6-v2"'
        )
    engine = Engine(path, synchronous, busy_timeout)
    try:
        stored = _set_up(engine, spec, location)
    except BaseException:
        engine.close()
        raise
    with suppress(StoreError):
        engine.finish()
    store = SqlStore(engine, stored)
    folder = None if path is None else path.with_name(path.name + ".index")
    index = FaissIndex(store, folder, max_bytes=index_bytes)
    store.rewritten.append(index.forget)
    return store, index


def _set_up(engine: Engine, spec: Spec | None, location: str) -> Spec:
    """Bring the schema up to date; return the spec of the encoder that the rows are of."""
    with engine.reading() as connection:
        waiting = len(pending(connection))
    for _ in range(waiting):
        with engine.writing() as connection:
            for number, step in pending(connection)[:1]:  # none: another process was quicker
                apply(connection, number, step)
                if number == 1 and spec is not None:
                    connection.execute(insert(tables.encoder).values(id=1, **asdict(spec)))
                    connection.execute(insert(tables.lexicon).values(id=1, analyser=ANALYSER))
    with engine.reading() as connection:
        row = connection.execute(select(tables.encoder)).mappings().one_or_none()
        analyser = connection.scalar(select(tables.lexicon.c.analyser))
    if row is None:
        raise DatabaseDamaged(f"{location} does not say which encoder wrote it: restore a backup")
    stored = Spec(**{name: value for name, value in row.items() if name != "id"})
    if spec is not None and replace(spec, name=stored.name) != stored:
        raise FingerprintMismatch(
            f"{location} was written by the encoder {stored.name!r} (fingerprint "
            f"{stored.fingerprint[:12]}), not by {spec.name!r} ({spec.fingerprint[:12]}): open it "
            "with its own encoder, or use a new path for the new one"
        )
    if analyser != ANALYSER:
        with engine.writing() as connection:
            write_terms(connection)
            connection.execute(update(tables.lexicon).values(analyser=ANALYSER))
    return stored
