"""The log in SQLite and its index in FAISS, as `evomem.open("agent.db")` opens them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Literal

from evomem.errors import NotFound, StoreError
from evomem.integrity import find_key
from evomem.rows import Form
from evomem.state import Spec
from evomem.store import Index, Store
from evomem_stores.database.connections import check_timeout
from evomem_stores.database.sqlite import SqliteConnections, Synchronous, prepare
from evomem_stores.database.sqlite_forks import using_sqlite
from evomem_stores.log.leases import Leases, check_lease
from evomem_stores.opening import find_device, open_faiss, open_milvus, set_up
from evomem_stores.store import SqlStore
from evomem_stores.vectors.codes import MAX_EXACT_ROWS

__all__ = ["open_sqlite"]


def open_sqlite(
    location: str,
    spec: Spec | None,
    *,
    synchronous: Synchronous = "FULL",
    busy_timeout: float = 30.0,
    index: Literal["faiss", "milvus"] = "faiss",
    index_bytes: int = 2**30,
    exact_rows: int | None = MAX_EXACT_ROWS,
    index_device: str | None = None,
    milvus_uri: str | None = None,
    milvus_token: str | None = None,
    milvus_collection: str | None = None,
    integrity_key: bytes | str | Path | None = None,
    embeddings: Form = "float32",
    lease: float | None = None,
) -> tuple[Store, Index]:
    """Open an SQLite database and its index; create them for `spec` if there are none.

    Args:
        location: A file, `sqlite:///<file>`, or `":memory:"`.
        spec: The encoder; None for the one that wrote the database.
        synchronous: `"FULL"`: writes survive a power loss. `"NORMAL"`: writes survive a crash of the
            process, but a power loss may undo the last ones.
        busy_timeout: Seconds to wait while another process writes.
        index: Where vectors are searched: `"faiss"` in this process, or `"milvus"` in a Milvus server.
        index_bytes: FAISS: bytes of memory for the vectors of recently searched memories.
        exact_rows: FAISS: larger memories are searched approximately; None to search all exactly.
        index_device: FAISS: the device, such as `"cuda"`, that searches memories of more than 10,000
            turns, exactly at any size; None for the CPU.
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
        NotFound: There is no database, and no `spec` to create one with.
        FingerprintMismatch: The database was written by an encoder other than `spec`.
        DatabaseDamaged: The file is not an evomem database, or cannot be read.
        KeyMismatch: The database is sealed with another integrity key, or with none.
        DatabaseBusy: Another process held the lock for longer than `busy_timeout`.
        StoreError: The file cannot be opened, a newer version wrote it, or there is no such device.
    """
    if index not in ("faiss", "milvus"):
        raise StoreError(f"index must be 'faiss' or 'milvus', got {index!r}")
    busy_timeout = check_timeout(busy_timeout)
    device = find_device(index_device, index)
    key = find_key(integrity_key)
    seconds = check_lease(lease)
    path = None
    if location != ":memory:":
        path = Path(location.removeprefix("sqlite:///")).expanduser().absolute()
    exists = False
    if path:
        with using_sqlite(str(path)):
            exists = prepare(path, create=spec is not None, busy_timeout=busy_timeout)
    if not exists and spec is None:
        raise NotFound(
            f"there is no database at {location!r}: name an encoder to create one, "
            'such as encoder="static:all-MiniLM-L6-v2"'
        )
    connections = SqliteConnections(path, synchronous, busy_timeout)
    folder = None if path is None else path.with_name(path.name + ".index")
    spec = set_up(connections, spec, key, embeddings)
    leases = Leases(connections, seconds, busy_timeout) if seconds else None
    store = SqlStore(connections, spec, folder, leases)
    with suppress(StoreError):
        connections.finish()
    try:
        if index == "milvus":
            return store, open_milvus(
                store, connections, milvus_uri, milvus_token, milvus_collection
            )
        read_only = connections.read_only is not None
        return store, open_faiss(
            store, folder, index_bytes, exact_rows, device, read_only=read_only
        )
    except BaseException:
        connections.close()
        raise
