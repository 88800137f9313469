"""Distributes the reading of conversations over the workers of a Ray cluster (`--ray ADDRESS`)."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from benchmarks.reporting.output import positive
from evomem.errors import EvomemError
from evomem.fleet.pool import Pool, failure_text


class Worker(Protocol):
    """Runs jobs, in this process or as an actor."""

    def run(self, job: Any) -> Any:
        """Run one job and return its result."""
        ...


def add_ray_arguments(parser: ArgumentParser) -> None:
    """Add the options that choose where conversations are read."""
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="read conversations on this Ray cluster: auto for the cluster of this machine, local "
        "to start Ray on this machine (default: read them in this process)",
    )
    parser.add_argument(
        "--ray-workers",
        type=positive,
        default=2,
        metavar="N",
        help="worker processes on the cluster (default: 2)",
    )


@contextmanager
def pool_of(options: Namespace, kind: type, *arguments: Any) -> Iterator[Pool | None]:
    """Yield the pool of workers that `options` ask for, None without `--ray`.

    Raises:
        MissingExtra: Ray is not installed.
        StoreError: A worker does not start.
    """
    if options.ray is None:
        yield None
        return
    with Pool(kind, arguments, workers=options.ray_workers, address=options.ray) as pool:
        yield pool


def results_of(
    worker: Worker, pool: Pool | None, jobs: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    """Yield the key and result of each job: from a pool as jobs finish, otherwise in order by `worker`.

    Raises:
        EvomemError: A job failed on a pool.
    """
    if pool is None:
        for key, job in jobs.items():
            yield key, worker.run(job)
        return
    for key, result in pool.run(jobs):
        if isinstance(result, Exception):
            raise EvomemError(failure_text(result)) from result
        yield key, result
