"""Opening SQL databases: tables, encoder, analyser, a shared index."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, insert, select, update

from evomem.errors import (
    DatabaseDamaged,
    FingerprintMismatch,
    IntegrityError,
    KeyMismatch,
    StoreError,
)
from evomem.integrity import FILE_VARIABLE, key_id
from evomem.rows import FORMS, Form
from evomem.state import Spec
from evomem.store import Index
from evomem_stores.database import tables
from evomem_stores.database.connections import Connections
from evomem_stores.database.seals import Seals
from evomem_stores.database.tables import LAST
from evomem_stores.log.reanalysis import reanalyse
from evomem_stores.store import SqlStore
from evomem_stores.upkeep import sealing
from evomem_stores.upkeep.generations import stored_spec
from evomem_stores.upkeep.migrations import apply, m008_storage, pending
from evomem_stores.vectors.faiss_index import WORTH, FaissIndex
from evomem_stores.words.terms import ANALYSER

if TYPE_CHECKING:  # torch comes only with a device
    from evomem_stores.vectors.device_copy import Device


_ANALYSER = select(tables.lexicon.c.analyser)


def set_up(
    connections: Connections,
    spec: Spec | None,
    key: bytes | None = None,
    embeddings: Form = "float32",
) -> Spec:
    """Bring the tables up to date; return the spec of the encoder that the rows are of.

    The connections is closed where that fails.

    Args:
        connections: Of a database that is there, or is to be made.
        spec: The encoder to be used; None to take whichever the database was written by.
        key: The integrity key (`evomem.integrity`), None for none.
        embeddings: How those of a new database are stored.

    Raises:
        KeyMismatch: The database is sealed with another key, or with none.
        FingerprintMismatch: The database was written by another encoder than `spec`.
        DatabaseDamaged: It does not say by which.
        StoreError: It is of a newer version.
    """
    try:
        if embeddings not in FORMS:
            raise StoreError(f"embeddings must be {' or '.join(FORMS)}, got {embeddings!r}")
        return _set_up(connections, spec, key, embeddings)
    except BaseException:
        connections.close()
        raise


def _set_up(
    connections: Connections, spec: Spec | None, key: bytes | None, embeddings: Form
) -> Spec:
    with connections.reading() as connection:
        waiting = pending(connection)
    if waiting:
        _check_writable(connections)
        is_new = False
        with connections.altering() as connection:
            for number, step in pending(connection):  # none: another process was quicker
                apply(connection, number, step)
                is_new = is_new or number == 1
                if is_new and step is m008_storage:
                    connection.execute(update(tables.storage).values(embeddings=embeddings))
                if number == 1 and spec is not None:
                    connection.execute(insert(tables.encoder).values(id=1, **asdict(spec)))
                    connection.execute(insert(tables.lexicon).values(id=1, analyser=ANALYSER))
    with connections.reading() as connection:
        connections.seals = _seals(connection, connections.place, key)
        stored = stored_spec(connection, connections.place)
        analyser = connection.scalar(_ANALYSER)
        connections.embeddings = _stored_form(connection, connections.place)
    if spec is not None and replace(spec, name=stored.name) != stored:
        raise FingerprintMismatch(
            f"{connections.place} was written by the encoder {stored.name!r} (fingerprint "
            f"{stored.fingerprint[:12]}), not by {spec.name!r} ({spec.fingerprint[:12]}): open it "
            "with its own encoder, or use a new path for the new one"
        )
    if connections.seals.key_id != key_id(key):
        sealing.change_key(connections, key)
    if analyser != ANALYSER:
        _check_writable(connections)
        with connections.alone() as connection:
            if connection.scalar(_ANALYSER) != ANALYSER:  # else another process was quicker
                reanalyse(connection)
                connection.execute(update(tables.lexicon).values(analyser=ANALYSER))
    return stored


def _stored_form(connection: Connection, place: str) -> Form:
    form: Form | None = connection.scalar(select(tables.storage.c.embeddings))
    if form not in FORMS:
        raise DatabaseDamaged(
            f"{place} stores embeddings as {form!r}, which this version does not know: restore a "
            "backup, or upgrade evomem"
        )
    return form


def _seals(connection: Connection, place: str, key: bytes | None) -> Seals:
    """Return the seals of a database.

    Raises:
        IntegrityError: It does not say which it is.
        KeyMismatch: It is sealed with another key than `key`, or with none.
    """
    own = connection.execute(select(tables.integrity)).one_or_none()
    if own is None or not isinstance(own.database, str):
        raise IntegrityError(
            f"{place} has lost the record of its integrity key: restore it from a backup"
        )
    if own.key == key_id(key):
        return Seals(own.database, key)
    if not key:
        raise KeyMismatch(
            f"{place} is sealed with the integrity key {own.key}: give it, with integrity_key= or "
            f"the file's name in ${FILE_VARIABLE}"
        )
    if own.key:
        raise KeyMismatch(
            f"{place} is sealed with the integrity key {own.key}, not with {key_id(key)}: give that "
            "one, or change keys with evomem keys integrity"
        )
    if connection.scalar(select(tables.memories.c.memory).limit(1)) is None:
        return Seals(own.database)  # it is new: `set_up` continues to seal it
    raise KeyMismatch(
        f"{place} is not sealed with an integrity key, though one was given: if it never was, seal "
        "it with evomem keys integrity; if it was, it has been edited: restore it from a backup"
    )


def _check_writable(connections: Connections) -> None:
    """Raise `StoreError` if tables that are not up to date cannot be changed."""
    if connections.read_only:
        raise StoreError(
            f"{connections.place} {connections.read_only}, and has to be changed before this version of "
            "evomem can read it: copy it to a folder that can be written, and open the copy"
        )


def find_device(name: str | None, index: str) -> Device | None:
    """Return where large memories are searched, None for the CPU.

    Raises:
        StoreError: There is no such device, or `index` does not search in this process.
    """
    if name is None:
        return None
    if index != "faiss":
        raise StoreError(
            f"index_device={name!r} is for index='faiss', which searches in this process; leave it "
            f"out with index={index!r}"
        )
    from evomem_stores.vectors.device_copy import (
        Device,  # torch takes seconds: only who has a device waits
    )

    return Device(name)


def open_faiss(
    store: SqlStore,
    folder: Path | None,
    max_bytes: int,
    exact_rows: int | None,
    device: Device | None,
    *,
    read_only: bool = False,
) -> Index:
    """Return the index of a log in this process. See `FaissIndex`; `read_only`: write no files."""
    index = FaissIndex(
        store,
        folder,
        max_bytes=max_bytes,
        worth=LAST if read_only else WORTH,
        exact_rows=exact_rows,
        device=device,
    )
    store.rewritten.append(lambda memory, _: index.forget(memory))
    return index


def open_milvus(
    store: SqlStore,
    connections: Connections,
    uri: str | None,
    token: str | None,
    collection: str | None,
) -> Index:
    """Return the index of a log in Milvus. See `MilvusIndex`."""
    from evomem_stores.vectors.milvus_index import (
        MilvusIndex,  # only who uses Milvus needs pymilvus
    )

    index = MilvusIndex(store, connections, uri, token=token, collection=collection)
    store.rewritten.append(index.forget)
    return index
