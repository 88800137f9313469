"""Opens SQL databases: checks tables, encoder and analyser, and opens the index."""

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
from evomem_stores.database.tables import MAX_SEQ
from evomem_stores.log.reanalysis import reanalyse
from evomem_stores.store import SqlStore
from evomem_stores.upkeep import sealing
from evomem_stores.upkeep.generations import stored_spec
from evomem_stores.upkeep.migrations import apply, m008_storage, pending
from evomem_stores.vectors.faiss_index import MIN_NEW_ROWS, FaissIndex
from evomem_stores.words.terms import ANALYSER

if TYPE_CHECKING:  # importing it imports torch
    from evomem_stores.vectors.device_copy import Device


_ANALYSER = select(tables.lexicon.c.analyser)


def set_up(
    connections: Connections,
    spec: Spec | None,
    key: bytes | None = None,
    embeddings: Form = "float32",
) -> Spec:
    """Bring the tables up to date; return the spec of the encoder that wrote the rows.

    Closes the connections on failure.

    Args:
        connections: To an existing database, or to an empty one.
        spec: The encoder; None for the one that wrote the database.
        key: The integrity key (`evomem.integrity`), None for none.
        embeddings: How a new database stores embeddings.

    Raises:
        KeyMismatch: The database is sealed with another key, or with none.
        FingerprintMismatch: The database was written by an encoder other than `spec`.
        DatabaseDamaged: The record of the database's encoder is missing.
        StoreError: A newer version wrote the database.
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
        missing_steps = pending(connection)
    if missing_steps:
        _check_writable(connections)
        is_new = False
        with connections.altering() as connection:
            for number, step in pending(connection):  # empty if another process was faster
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
            "with that encoder, use a new path for this one, or read the turns again with it: evomem "
            "reencode"
        )
    if connections.seals.key_id != key_id(key):
        sealing.change_key(connections, key)
    if analyser != ANALYSER:
        _check_writable(connections)
        with connections.exclusive() as connection:
            if connection.scalar(_ANALYSER) != ANALYSER:  # else another process was faster
                reanalyse(connection)
                connection.execute(update(tables.lexicon).values(analyser=ANALYSER))
    return stored


def _stored_form(connection: Connection, place: str) -> Form:
    form: Form | None = connection.scalar(select(tables.storage.c.embeddings))
    if form not in FORMS:
        raise DatabaseDamaged(
            f"{place} stores embeddings as {form!r}, which this version does not support: restore a "
            "backup, or upgrade evomem"
        )
    return form


def _seals(connection: Connection, place: str, key: bytes | None) -> Seals:
    """Return the seals of a database.

    Raises:
        IntegrityError: The record of the integrity key is missing.
        KeyMismatch: The database is sealed with a key other than `key`, or with none.
    """
    record = connection.execute(select(tables.integrity)).one_or_none()
    if record is None or not isinstance(record.database, str):
        raise IntegrityError(
            f"{place} has lost the record of its integrity key: restore it from a backup"
        )
    if record.key == key_id(key):
        return Seals(record.database, key)
    if not key:
        raise KeyMismatch(
            f"{place} is sealed with the integrity key {record.key}: pass it as integrity_key=, or "
            f"name its file in ${FILE_VARIABLE}"
        )
    if record.key:
        raise KeyMismatch(
            f"{place} is sealed with the integrity key {record.key}, not with {key_id(key)}: pass the "
            "former, or change keys with evomem keys integrity"
        )
    if connection.scalar(select(tables.memories.c.memory).limit(1)) is None:
        return Seals(record.database)  # a new database, which `set_up` seals next
    raise KeyMismatch(
        f"{place} is not sealed with an integrity key, though one was given: if it never was, seal "
        "it with evomem keys integrity; if it was, it has been edited: restore it from a backup"
    )


def _check_writable(connections: Connections) -> None:
    """Raise `StoreError` if the database, whose tables are outdated, is read-only."""
    if connections.read_only:
        raise StoreError(
            f"{connections.place} {connections.read_only}, but has to be upgraded before this version "
            "of evomem can read it: copy it to a writable folder, and open the copy"
        )


def find_device(name: str | None, index: str) -> Device | None:
    """Return the device that searches large memories, None for the CPU.

    Raises:
        StoreError: There is no such device, or `index` does not search in this process.
    """
    if name is None:
        return None
    if index != "faiss":
        raise StoreError(
            f"index_device={name!r} only works with index='faiss', which searches in this process; "
            f"leave it out with index={index!r}"
        )
    from evomem_stores.vectors.device_copy import Device  # imports torch, which takes seconds

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
    """Return the index of a log in this process (`FaissIndex`); if `read_only`, it writes no files."""
    index = FaissIndex(
        store,
        folder,
        max_bytes=max_bytes,
        min_new_rows=MAX_SEQ if read_only else MIN_NEW_ROWS,
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
    """Return the index of a log in Milvus (`MilvusIndex`)."""
    from evomem_stores.vectors.milvus_index import MilvusIndex  # needs pymilvus

    index = MilvusIndex(store, connections, uri, token=token, collection=collection)
    store.rewritten.append(index.forget)
    return index
