"""The cost of the service: adds and searches over HTTP and MCP, compared with the same calls in process.

    python -m benchmarks service --clients 64 --calls 4

Each client has a separate memory, and alternately adds a turn and searches. The service is a separate
process; CPU seconds are those of that process, or of this one for calls in process, which are made on the
same number of threads. The clients' own CPU time is a separate line: `evomem.connect` on threads, and the
SDK's client on one event loop.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import evomem
from benchmarks.reporting.output import setting, table, write_json
from evomem.database import Database
from evomem.errors import EvomemError
from evomem.memory import Memory
from evomem.records import Turn

TEXTS = {
    "add": "On day {number} we spoke about {topic}.",
    "search": "When did we speak about {topic}?",
}
TOPICS = ("the cat", "work in Oslo", "a trip to Bergen", "dinner with Ada", "the new bicycle")


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; return 0."""
    parser = argparse.ArgumentParser(prog="benchmarks service", description=__doc__)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--calls", type=int, default=10, help="adds and searches per client")
    parser.add_argument(
        "--rounds", type=int, default=2, help="rounds of calls in process, over HTTP and over MCP"
    )
    parser.add_argument(
        "--searches", type=int, default=60, help="searches of a client while another one imports"
    )
    parser.add_argument("--encoder", default="mini")
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args(argv)
    figures = calls_of(options) if options.rounds else {}
    reader = readers_of(options) if options.searches else {}
    print(f"load {os.getloadavg()[0]:.1f}")
    result = {
        **setting("service", argv),
        "load": os.getloadavg()[0],
        "figures": {**figures, "reader": reader},
    }
    if options.out:
        write_json(options.out, result)
    print(json.dumps(result))
    return 0


def calls_of(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Measure adding and searching each way, alternating; return medians, and additional CPU in percent."""
    ways = {"in process": in_process, "over HTTP": over_http, "over MCP": over_mcp}
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, measure in ways.items():
            rounds[name].append(measure(options.encoder, options.clients, options.calls))
            print(f"{name}: {rounds[name][-1]}", file=sys.stderr, flush=True)
    figures = {
        name: {key: float(np.median([run[key] for run in runs])) for key in runs[0]}
        for name, runs in rounds.items()
    }
    keys = list(figures["in process"])
    rows = [[key, *(f"{figures[name][key]:.4g}" for name in figures)] for key in keys]
    print(table(["", *figures], rows), flush=True)
    cpu = {name: values["CPU ms a call"] for name, values in figures.items()}
    share = {name: 100 * (value / cpu["in process"] - 1) for name, value in cpu.items()}
    for name in ("over HTTP", "over MCP"):
        print(f"additional CPU {name}: {share[name]:.0f} % of the calls in process", flush=True)
    return {**figures, "CPU on top, percent": share}


def readers_of(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Measure a client's searches while another one imports, in process and over HTTP."""
    with tempfile.TemporaryDirectory() as folder:
        with evomem.open(str(Path(folder) / "a.db"), options.encoder) as db:
            figures = {"in process": search_during_import(db, options.searches)}
    with running_service(options.encoder) as (url, _), evomem.connect(url) as db:
        figures["over HTTP"] = search_during_import(db, options.searches)
    keys = list(figures["in process"])
    rows = [[key, *(f"{values[key]:.4g}" for values in figures.values())] for key in keys]
    print(table(["a reader's searches", *figures], rows), flush=True)
    return figures


def in_process(encoder: str, clients: int, calls: int) -> dict[str, float]:
    """Return the figures of a database opened by this process."""
    with tempfile.TemporaryDirectory() as folder:
        with evomem.open(str(Path(folder) / "a.db"), encoder) as db:
            _ = db.encoder
            before = _own_cpu()
            figures = drive(lambda: db, clients, calls)
            figures["CPU ms a call"] = 1000 * (_own_cpu() - before) / (2 * clients * calls)
    return {**figures, "CPU ms of the client": 0.0}


def over_http(encoder: str, clients: int, calls: int) -> dict[str, float]:
    """Return the figures of a service in a separate process, over HTTP."""
    with running_service(encoder) as (url, pid), evomem.connect(url) as db:
        return _with_cpu(pid, 2 * clients * calls, lambda: drive(lambda: db, clients, calls))


def over_mcp(encoder: str, clients: int, calls: int) -> dict[str, float]:
    """Return the figures over MCP, with the SDK's client and the tools `remember` and `recall`."""
    with running_service(encoder) as (url, pid):
        return _with_cpu(
            pid, 2 * clients * calls, lambda: asyncio.run(drive_tools(url, clients, calls))
        )


@contextmanager
def running_service(encoder: str) -> Iterator[tuple[str, int]]:
    """Start a service and wait until it answers; yield its URL and process id."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        process = start_service(Path(folder) / "a.db", encoder, port)
        url = f"http://127.0.0.1:{port}"
        try:
            with evomem.connect(url) as db:
                _await(db)
            yield url, process.pid
        finally:
            process.terminate()
            process.wait()


def _with_cpu(pid: int, calls: int, work: Callable[[], dict[str, float]]) -> dict[str, float]:
    service_start, client_start = _cpu_of(pid), _own_cpu()
    figures = work()
    service, client = _cpu_of(pid) - service_start, _own_cpu() - client_start
    return {
        **figures,
        "CPU ms a call": 1000 * service / calls,
        "CPU ms of the client": 1000 * client / calls,
    }


def search_during_import(db: Database, searches: int) -> dict[str, float]:
    """Return the latencies of a client's searches in ms, alone and while another client imports."""
    times: dict[str, list[float]] = {"idle": [], "beside an import": []}
    memory = db.memory("bench", "reader")
    memory.add_many(Turn(user=f"Note {n} on {TOPICS[n % 5]}.") for n in range(50))
    _search(memory, 5)
    for part in range(2):  # alternate between both
        times["idle"] += _search(memory, searches // 2)
        stop = threading.Event()
        bulk = threading.Thread(target=_import, args=(db.memory("bulk", str(part)), stop))
        bulk.start()
        _search(memory, 5)
        times["beside an import"] += _search(memory, searches // 2)
        stop.set()
        bulk.join()
    figures = {
        f"{name} p{share} ms": 1000 * float(np.percentile(values, share))
        for name, values in times.items()
        for share in (50, 95)
    }
    for share in (50, 95):
        importing, idle = (figures[f"{name} p{share} ms"] for name in ("beside an import", "idle"))
        figures[f"p{share}, times idle"] = importing / idle
    return figures


def _search(memory: Memory, count: int) -> list[float]:
    seconds: list[float] = []
    for number in range(count):
        start = time.perf_counter()
        memory.search(f"What was note {number}?")
        seconds.append(time.perf_counter() - start)
    return seconds


def _import(memory: Memory, stop: threading.Event) -> None:
    number = 0
    while not stop.is_set():
        memory.add_many(
            Turn(user=f"On day {number + n} we spoke about {TOPICS[n % 5]}.") for n in range(256)
        )
        number += 256


def free_port() -> int:
    """Return an unused port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


def start_service(database: Path, encoder: str, port: int) -> subprocess.Popen[bytes]:
    """Start a service in a separate process."""
    code = "import sys; from evomem.cli import main; sys.exit(main())"
    command = ["serve", "--db", str(database), "--encoder", encoder, "--port", str(port)]
    return subprocess.Popen([sys.executable, "-c", code, *command], stderr=subprocess.DEVNULL)


def drive(database: Callable[[], Any], clients: int, calls: int) -> dict[str, float]:
    """Let clients add and search on threads; return calls per second, and latencies in milliseconds."""
    times: dict[str, list[float]] = {"add": [], "search": []}
    guard = threading.Lock()

    def work(client: int) -> None:
        db: Database = database()
        memory = db.memory("bench", str(client))
        latencies: dict[str, list[float]] = {"add": [], "search": []}
        for number in range(calls):
            for kind, call in (("add", memory.add), ("search", memory.search)):
                start = time.perf_counter()
                call(TEXTS[kind].format(number=number, topic=TOPICS[number % len(TOPICS)]))
                latencies[kind].append(time.perf_counter() - start)
        with guard:
            for kind, values in latencies.items():
                times[kind] += values

    threads = [threading.Thread(target=work, args=(n,)) for n in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return _figures(times, time.perf_counter() - start)


async def drive_tools(url: str, clients: int, calls: int) -> dict[str, float]:
    """Do as `drive` with the MCP SDK's clients on one event loop, each at the URL of its memory."""
    import httpx2
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client

    times: dict[str, list[float]] = {"add": [], "search": []}

    async def timed(kind: str, call: Awaitable[Any]) -> None:
        start = time.perf_counter()
        result = await call
        times[kind].append(time.perf_counter() - start)
        if result.is_error:
            raise RuntimeError(result.content[0].text)

    async def work(client: int) -> None:
        memory_url = f"{url}/mcp/bench%2F{client}"
        async with httpx2.AsyncClient(timeout=600) as http:
            async with Client(streamable_http_client(memory_url, http_client=http)) as tools:
                for number in range(calls):
                    values = {"number": number, "topic": TOPICS[number % len(TOPICS)]}
                    text, query = (TEXTS[kind].format(**values) for kind in ("add", "search"))
                    await timed("add", tools.call_tool("remember", {"text": text}))
                    await timed("search", tools.call_tool("recall", {"query": query}))

    start = time.perf_counter()
    await asyncio.gather(*map(work, range(clients)))
    return _figures(times, time.perf_counter() - start)


def _figures(times: dict[str, list[float]], seconds: float) -> dict[str, float]:
    figures = {"calls a second": sum(map(len, times.values())) / seconds}
    for kind, values in times.items():
        for share in (50, 95):
            figures[f"{kind} p{share} ms"] = 1000 * float(np.percentile(values, share))
    return figures


def _await(db: Database) -> None:
    for _ in range(6000):
        try:
            db.memory("bench", "warm").add("warm up")
            db.memory("bench", "warm").search("warm up")
            return
        except EvomemError:
            time.sleep(0.05)
    raise RuntimeError("the service does not answer")


def _own_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
