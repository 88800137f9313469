"""Bulk work on many memories at once: imports and changes of the encoder, by Ray actors.

An actor opens the database and loads the encoder once. What it does with a memory can be done again
without harm, so Ray restarts actors that die. A memory that fails is set aside with its error, and the
others continue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import evomem
from evomem import chats
from evomem._extras import require
from evomem.batching import shared
from evomem.checks import check_whole
from evomem.errors import EvomemError, StoreError
from evomem.fleet import cluster
from evomem.plugins import load_encoder, store_opener
from evomem.reencode import read_memory

TRIES = 3  # of a memory whose database is busy or away for a moment, or whose worker dies
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one memory."""

    name: str
    turns: int = 0
    error: str = ""
    """Why it was set aside; empty if it was not."""


@dataclass(slots=True)
class Outcomes:
    """What came of all of them."""

    turns: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    """Those that were set aside, each with its error."""

    def add(self, outcome: Outcome) -> None:
        """Count one."""
        self.turns += outcome.turns
        if outcome.error:
            self.failed[outcome.name] = outcome.error


def attempt(name: str, call: Callable[[], int]) -> Outcome:
    """Make a call that may fail; its errors are values."""
    for again in range(TRIES, 0, -1):
        try:
            return Outcome(name, call())
        except StoreError as error:
            if again == 1:
                return Outcome(name, error=f"{type(error).__name__}: {error}")
        except (EvomemError, OSError) as error:
            return Outcome(name, error=f"{type(error).__name__}: {error}")
        except Exception as error:  # of a file or an encoder that nobody foresaw
            return Outcome(name, error=f"{type(error).__name__}: {error}")
    raise AssertionError


class Importer:
    """An actor that imports files, each into its own memory."""

    def __init__(
        self, database: str, encoder: str | None, device: str | None, lease: float
    ) -> None:
        self._db = evomem.open(database, encoder, device=device, lease=lease)

    def run(self, job: tuple[str, tuple[str, ...]]) -> Outcome:
        """Import a file."""
        path, labels = job

        def call() -> int:
            imported = self._db.memory(*labels).import_chats(chats.read(Path(path)))
            return imported.new

        return attempt(path, call)


class Rereader:
    """An actor that reads memories with another encoder."""

    def __init__(
        self, database: str, encoder: str, device: str | None, options: Mapping[str, Any]
    ) -> None:
        self._store, self._index = store_opener(database)(database, None, **options)
        ready = load_encoder(encoder, device=device)
        self._generation, self._reader = self._store.generation(ready.spec), shared(ready)

    def run(self, memory: int) -> Outcome:
        """Read a memory's turns to its end."""
        call = lambda: read_memory(self._generation, self._reader, memory, None)  # noqa: E731
        return attempt(str(memory), call)


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
) -> Outcomes:
    """Import files of conversations, each into a memory of its own.

    Args:
        database: A URL that every machine reaches.
        histories: Paths that every machine reaches, each with the labels of its memory.
        encoder: As for `evomem.open`.
        device: Where it runs.
        lease: Of each worker, in seconds.
        workers: How many there are.
        gpus: That each gets; None for one where the cluster has any.
        address: Of a Ray cluster; None starts Ray on this machine.
        progress: Called as `progress(done, total)`, in files.

    Raises:
        MissingExtra: Ray is not installed.
        FingerprintMismatch: The database was written by another encoder.
        QueryError: `workers` is not a whole number of at least 1.
        StoreError: A worker does not start.
    """
    check_whole(workers, "workers", least=1)
    evomem.open(database, encoder, device=device).close()  # made, and refused, before workers start
    jobs = {path: (path, tuple(labels)) for path, labels in histories.items()}
    with _Pool(Importer, (database, encoder, device, lease), workers, gpus, address) as pool:
        return pool.run(jobs, progress)


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
) -> Outcomes:
    """Do as `evomem.reencode`, with the memories spread over a cluster's workers.

    If a memory cannot be read, all others are, and the database keeps its encoder.

    Args:
        database: A URL that every machine reaches.
        encoder: A name, as for `evomem.open`.
        device: Where it runs.
        workers: How many there are.
        gpus: That each gets; None for one where the cluster has any.
        address: Of a Ray cluster; None starts Ray on this machine.
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
    total = Outcomes()
    try:
        store.check_writable()
        spec = load_encoder(encoder, device=device).spec
        if spec.fingerprint == store.spec.fingerprint:
            return total
        generation = store.generation(spec)
        with _Pool(Rereader, (database, encoder, device, options), workers, gpus, address) as pool:
            while not generation.adopt():
                for layer in generation.unread():
                    jobs = {str(n): n for n in layer if str(n) not in total.failed}
                    done = pool.run(jobs, progress)
                    total.turns += done.turns
                    total.failed |= done.failed
                if total.failed:
                    break
        return total
    finally:
        index.close()
        store.close()


class _Pool:
    """Actors that take jobs as they become free."""

    def __init__(
        self, kind: type, arguments: tuple[Any, ...], workers: int, gpus: float | None, address: Any
    ) -> None:
        ray = self._ray = cluster.start(address)
        options = {
            "max_restarts": -1,
            "max_task_retries": TRIES - 1,
            "num_cpus": 1,
            "num_gpus": cluster.gpus(ray, gpus),
        }
        actor = ray.remote(**options)(kind)
        self._actors = [actor.remote(*arguments) for _ in range(workers)]

    def __enter__(self) -> _Pool:
        """Wait until all workers are there. Raises `StoreError` if they do not start."""
        try:
            self._ray.get([actor.__ray_ready__.remote() for actor in self._actors])
        except self._ray.exceptions.RayError as error:
            self.__exit__()
            says = str(error).strip().splitlines()[-1]
            raise StoreError(f"a worker does not start ({says}): see Ray's log") from error
        return self

    def __exit__(self, *_: object) -> None:
        for actor in self._actors:
            self._ray.kill(actor)

    def run(self, jobs: Mapping[str, Any], progress: Progress | None) -> Outcomes:
        """Do jobs, given by their names; return what came of them."""
        pool = require("ray.util", extra="ray").ActorPool(self._actors)
        total, done = Outcomes(), set()
        for job in jobs.values():
            pool.submit(lambda actor, job: actor.run.remote(job), job)
        deaths: list[str] = []
        while pool.has_next():
            try:
                outcome: Outcome = pool.get_next_unordered()
            except self._ray.exceptions.RayError as error:  # it took its actor with it
                deaths.append(str(error).partition("\n")[0])
                continue
            total.add(outcome)
            done.add(outcome.name)
            if progress:
                progress(len(done), len(jobs))
        for name in _without(jobs, done):
            total.add(Outcome(name, error=f"its worker died: {deaths[-1]}"))
        return total


def _without(names: Iterable[str], done: set[str]) -> list[str]:
    return [name for name in names if name not in done]
