"""The service on Ray Serve with saturated replicas: strict compared with soft affinity.

Each of two replicas handles two requests at a time. More clients than that add turns over HTTP, each to
its own memory.
"""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

import evomem
from evomem._extras import require

CLIENTS = 12
IN_FLIGHT = 2  # concurrent requests per replica


def affinity(location: str, turns: int) -> list[dict[str, Any]]:
    """Return the figures of soft and of strict affinity."""
    from evomem.fleet import serving
    from evomem.service.settings import Settings

    serve = require("ray.serve", extra="ray")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = Settings(database=location, port=port, lease=2.0, in_flight=IN_FLIGHT)
    rows = []
    for name in ("soft", "strict"):
        size = serving.Size(least=2, most=2, cpus=0.5, fallbacks=0 if name == "strict" else 2)
        serving.run(settings, size, wait=False)
        with evomem.connect(f"http://127.0.0.1:{port}") as db:
            times: list[float] = []
            begin = time.perf_counter()
            with ThreadPoolExecutor(CLIENTS) as pool:
                for latencies in pool.map(partial(add, db, name, turns), range(CLIENTS)):
                    times += latencies
            seconds = time.perf_counter() - begin
        serve.shutdown()
        rows.append(
            {
                "affinity": name,
                "turns a second": len(times) / seconds,
                "p50 ms": 1e3 * float(np.percentile(times, 50)),
                "p95 ms": 1e3 * float(np.percentile(times, 95)),
                "leases taken a turn": leases_taken(location, name) / len(times),
            }
        )
    return rows


def add(db: evomem.Database, name: str, turns: int, number: int) -> list[float]:
    """Add turns to a memory; return the latency of each in seconds."""
    memory = db.memory(name, str(number))
    times = []
    for turn in range(turns):
        begin = time.perf_counter()
        memory.add(f"In conversation {number}, turn {turn} is about tea and trains.")
        times.append(time.perf_counter() - begin)
    return times


def leases_taken(location: str, name: str) -> int:
    """Return how many leases were taken on the memories below a name."""
    psycopg = require("psycopg", extra="postgres")
    url, _, schema = location.rpartition("schema=")
    with psycopg.connect(url.rstrip("?&"), options=f"-csearch_path={schema}") as server:
        query = "SELECT sum(fence) FROM memories WHERE starts_with(namespace, %s)"
        return int(server.execute(query, [f'["{name}",']).fetchone()[0])
