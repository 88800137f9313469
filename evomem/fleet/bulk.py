"""Bulk work on many memories, by Ray actors: imports and changes of the encoder.

An actor opens the database and loads the encoder once. If a memory fails, its error is recorded, and
the others continue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import evomem
from evomem import chats
from evomem.batching import shared
from evomem.checks import check_whole
from evomem.fleet import cluster
from evomem.fleet.pool import Pool, failure_text
from evomem.plugins import load_encoder, store_opener
from evomem.reencode import read_memory

Progress = Callable[[int, int], None]


@dataclass(slots=True)
class Summary:
    """The combined results of all jobs."""

    turns: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    """The names of failed jobs, each with its error."""


class Importer:
    """An actor that imports files, each into its own memory."""

    def __init__(
        self, database: str, encoder: str | None, device: str | None, lease: float
    ) -> None:
        self._db = evomem.open(database, encoder, device=device, lease=lease)

    def run(self, job: tuple[str, tuple[str, ...]]) -> int:
        """Import a file; return the number of new turns."""
        path, labels = job
        return self._db.memory(*labels).import_chats(chats.read(Path(path))).new


class Rereader:
    """An actor that reads memories with another encoder."""

    def __init__(
        self, database: str, encoder: str, device: str | None, options: Mapping[str, Any]
    ) -> None:
        self._store, self._index = store_opener(database)(database, None, **options)
        ready = load_encoder(encoder, device=device)
        self._generation, self._reader = self._store.generation(ready.spec), shared(ready)

    def run(self, memory: int) -> int:
        """Read a memory's turns to its end; return the number of turns."""
        return read_memory(self._generation, self._reader, memory, None)


def run(pool: Pool, jobs: Mapping[str, Any], progress: Progress | None, total: Summary) -> None:
    """Run jobs that return numbers of turns, and add their results to `total`."""
    for done, (name, result) in enumerate(pool.run(jobs), 1):
        if isinstance(result, Exception):
            total.failed[name] = failure_text(result)
        else:
            total.turns += result
        if progress:
            progress(done, len(jobs))


def import_files(
    database: str,
    histories: Mapping[str, Sequence[str]],
    *,
    encoder: str | None = None,
    device: str | None = None,
    lease: float = cluster.LEASE,
    workers: int = 2,
    gpus: float | None = None,
    address: str | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Import files of conversations, each into its own memory.

    Args:
        database: A URL that every machine can reach.
        histories: Paths that every machine can read, each with the labels of its memory.
        encoder: As for `evomem.open`.
        device: The encoder's device.
        lease: The seconds of each worker's leases.
        workers: The number of workers.
        gpus: GPUs per worker; None for one if the cluster has GPUs.
        address: The address of a Ray cluster; None starts Ray on this machine.
        progress: Called as `progress(done, total)`, in files.

    Raises:
        MissingExtra: Ray is not installed.
        FingerprintMismatch: The database was written by another encoder.
        QueryError: `workers` is not a whole number of at least 1.
        StoreError: A worker does not start.
    """
    check_whole(workers, "workers", least=1)
    evomem.open(
        database, encoder, device=device
    ).close()  # create or refuse it before workers start
    jobs = {path: (path, tuple(labels)) for path, labels in histories.items()}
    total = Summary()
    arguments = (database, encoder, device, lease)
    with Pool(Importer, arguments, workers=workers, gpus=gpus, address=address) as pool:
        run(pool, jobs, progress, total)
    return total


def reencode(
    database: str,
    encoder: str,
    *,
    device: str | None = None,
    workers: int = 2,
    gpus: float | None = None,
    address: str | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Summary:
    """Like `evomem.reencode`, with the memories distributed over a cluster's workers.

    If a memory cannot be read, the others still are, and the database keeps its encoder.

    Args:
        database: A URL that every machine can reach.
        encoder: A name, as for `evomem.open`.
        device: The encoder's device.
        workers: The number of workers.
        gpus: GPUs per worker; None for one if the cluster has GPUs.
        address: The address of a Ray cluster; None starts Ray on this machine.
        progress: Called as `progress(done, total)`, in memories, once for each layer of forks.
        **options: For the store.

    Raises:
        MissingExtra: Ray is not installed.
        NotFound: There is no database.
        QueryError: `workers` is not a whole number of at least 1.
        StoreError: A worker does not start.
    """
    check_whole(workers, "workers", least=1)
    store, index = store_opener(database)(database, None, **options)
    total = Summary()
    try:
        store.check_writable()
        spec = load_encoder(encoder, device=device).spec
        if spec.fingerprint == store.spec.fingerprint:
            return total
        generation = store.generation(spec)
        arguments = (database, encoder, device, options)
        with Pool(Rereader, arguments, workers=workers, gpus=gpus, address=address) as pool:
            while not generation.adopt():
                for layer in generation.unread():
                    jobs = {str(n): n for n in layer if str(n) not in total.failed}
                    run(pool, jobs, progress, total)
                if total.failed:
                    break
        return total
    finally:
        index.close()
        store.close()
