"""The log on a PostgreSQL server, as `evomem.open("postgresql://user@host/db")` opens it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from evomem.errors import NotFound, StoreError
from evomem.integrity import find_key
from evomem.rows import Form
from evomem.state import Spec
from evomem.store import Index, Store
from evomem_stores.database.postgresql import Commit, PostgresConnections
from evomem_stores.log.leases import Leases, check_lease
from evomem_stores.opening import find_device, open_faiss, open_milvus, set_up
from evomem_stores.store import SqlStore
from evomem_stores.vectors.codes import MAX_EXACT_ROWS
from evomem_stores.vectors.pgvector_index import PgvectorIndex, forget_copy


def open_postgresql(
    location: str,
    spec: Spec | None,
    *,
    synchronous_commit: Commit = "on",
    busy_timeout: float = 30.0,
    pool_size: int = 16,
    index: Literal["faiss", "pgvector", "milvus"] = "faiss",
    index_folder: str | Path | None = None,
    index_bytes: int = 2**30,
    exact_rows: int | None = MAX_EXACT_ROWS,
    index_device: str | None = None,
    hnsw_rows: int | None = None,
    milvus_uri: str | None = None,
    milvus_token: str | None = None,
    milvus_collection: str | None = None,
    integrity_key: bytes | str | Path | None = None,
    embeddings: Form = "float32",
    lease: float | None = None,
) -> tuple[Store, Index]:
    """Open a database on a PostgreSQL server and its index; create the tables if there are none.

    Args:
        location: A URL that psycopg accepts. `?schema=<name>` names the schema of the tables
            (default `evomem`): one schema holds the memories of one encoder.
        spec: The encoder; None for the one that wrote the database.
        synchronous_commit: The server's setting for this process's writes. `"on"`: writes survive a
            power loss. `"off"`: the last turns may be lost when the server crashes. PostgreSQL's
            manual describes the other values.
        busy_timeout: Seconds to wait for a lock, or for a connection of the pool.
        pool_size: How many connections this process may have open at once.
        index: Where vectors are searched: `"faiss"` in this process, in its own copy of the vectors;
            `"pgvector"` in the server, which needs that extension; `"milvus"` in a Milvus server or
            cluster. All processes of a database must use the same index.
        index_folder: FAISS: where this process keeps files between runs; None to keep no files.
        index_bytes: FAISS: bytes of memory for the vectors of recently searched memories.
        exact_rows: FAISS: larger memories are searched approximately; None to search all exactly.
        index_device: FAISS: the device, such as `"cuda"`, that searches memories of more than 10,000
            turns, exactly at any size; None for the CPU.
        hnsw_rows: pgvector: memories of at least this many turns get an HNSW index and approximate
            answers; a view of fewer turns is searched exactly. None for no HNSW index.
        milvus_uri: Milvus: `"http://host:19530"`, or a file ending in `.db` for milvus-lite.
        milvus_token: Milvus: `"user:password"` or an API key.
        milvus_collection: Milvus: the collection; None for one named after the database.
        integrity_key: The key that seals the database: 32 bytes, or a file that holds them; None
            to look it up in the environment (`evomem.integrity.find_key`).
        embeddings: How a new database stores embeddings: `"float32"`, exactly, or `"int8"`, in a
            quarter of the space (`Database.compact` changes it).
        lease: Seconds for which a worker that wrote to a memory keeps other workers from writing to
            it (docs/operations/fleet.md); None for no leases.

    Raises:
        NotFound: There are no tables, and no `spec` to create them with.
        FingerprintMismatch: The database was written by an encoder other than `spec`.
        KeyMismatch: The database is sealed with another integrity key, or with none.
        DatabaseDamaged: The schema holds another program's tables.
        StoreError: The server cannot be reached or is too old, a newer version wrote the tables, or
            there is no such device.
    """
    if index not in ("faiss", "pgvector", "milvus"):
        raise StoreError(f"index must be 'faiss', 'pgvector' or 'milvus', got {index!r}")
    device = find_device(index_device, index)
    key = find_key(integrity_key)
    seconds = check_lease(lease)
    connections = PostgresConnections(
        location,
        synchronous_commit=synchronous_commit,
        busy_timeout=busy_timeout,
        pool_size=pool_size,
    )
    try:
        if not connections.is_ours() and spec is None:
            raise NotFound(
                f"there are no tables at {connections.place}: name an encoder to create them, "
                'such as encoder="static:all-MiniLM-L6-v2"'
            )
    except BaseException:
        connections.close()
        raise
    folder = None if index_folder is None else Path(index_folder).expanduser().absolute()
    spec = set_up(connections, spec, key, embeddings)
    leases = Leases(connections, seconds, busy_timeout) if seconds else None
    store = SqlStore(connections, spec, folder, leases)
    store.rewritten.append(
        forget_copy
    )  # another process may use pgvector even if this one does not
    try:
        if index == "pgvector":
            return store, PgvectorIndex(store, connections, hnsw_rows=hnsw_rows)
        if index == "milvus":
            return store, open_milvus(
                store, connections, milvus_uri, milvus_token, milvus_collection
            )
        return store, open_faiss(store, folder, index_bytes, exact_rows, device)
    except BaseException:
        connections.close()
        raise
