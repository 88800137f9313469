"""What the service costs: clients that add and search over HTTP and MCP, beside the same in process.

    python -m benchmarks service --clients 64 --calls 4

Each client has a memory of its own, and adds a turn and then asks a question, again and again. The
service is a process of its own; CPU seconds are those of that process, or of this one (in process),
where the same calls are made on as many threads. What the clients themselves use is a line of its own:
`evomem.connect` on threads, and the SDK's client on one event loop.
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

SAID = {
    "add": "On day {number} we spoke about {topic}.",
    "search": "When did we speak about {topic}?",
}
TOPICS = ("the cat", "work in Oslo", "a trip to Bergen", "dinner with Ada", "the new bicycle")


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; return 0."""
    parser = argparse.ArgumentParser(prog="benchmarks service", description=__doc__)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--calls", type=int, default=10, help="of each kind and client")
    parser.add_argument(
        "--rounds", type=int, default=2, help="in process, HTTP, MCP, in process, ..."
    )
    parser.add_argument("--searches", type=int, default=60, help="of the reader beside an import")
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
    """Measure adding and searching each way, in turn; return the medians, and CPU on top in percent."""
    ways = {"in process": in_process, "over HTTP": over_http, "over MCP": over_mcp}
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, measure in ways.items():
            rounds[name].append(measure(options.encoder, options.clients, options.calls))
            print(f"{name}: {rounds[name][-1]}", file=sys.stderr, flush=True)
    figures = {
        name: {key: float(np.median([run[key] for run in many])) for key in many[0]}
        for name, many in rounds.items()
    }
    keys = list(figures["in process"])
    rows = [[key, *(f"{figures[name][key]:.4g}" for name in figures)] for key in keys]
    print(table(["", *figures], rows), flush=True)
    cpu = {name: values["CPU ms a call"] for name, values in figures.items()}
    share = {name: 100 * (value / cpu["in process"] - 1) for name, value in cpu.items()}
    for name in ("over HTTP", "over MCP"):
        print(f"CPU {name} on top of the calls in process: {share[name]:.0f} %", flush=True)
    return {**figures, "CPU on top, percent": share}


def readers_of(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Measure one client's searches while another one imports, in process and over HTTP."""
    with tempfile.TemporaryDirectory() as folder:
        with evomem.open(str(Path(folder) / "a.db"), options.encoder) as db:
            figures = {"in process": beside_import(db, options.searches)}
    with served(options.encoder) as (url, _), evomem.connect(url) as db:
        figures["over HTTP"] = beside_import(db, options.searches)
    keys = list(figures["in process"])
    rows = [[key, *(f"{values[key]:.4g}" for values in figures.values())] for key in keys]
    print(table(["a reader's searches", *figures], rows), flush=True)
    return figures


def in_process(encoder: str, clients: int, calls: int) -> dict[str, float]:
    """Return the figures of a database that this process opens."""
    with tempfile.TemporaryDirectory() as folder:
        with evomem.open(str(Path(folder) / "a.db"), encoder) as db:
            _ = db.encoder
            before = _own_cpu()
            figures = drive(lambda: db, clients, calls)
            figures["CPU ms a call"] = 1000 * (_own_cpu() - before) / (2 * clients * calls)
    return {**figures, "CPU ms of the client": 0.0}


def over_http(encoder: str, clients: int, calls: int) -> dict[str, float]:
    """Return the figures of a service in a process of its own."""
    with served(encoder) as (url, pid), evomem.connect(url) as db:
        return _with_cpu(pid, 2 * clients * calls, lambda: drive(lambda: db, clients, calls))


def over_mcp(encoder: str, clients: int, calls: int) -> dict[str, float]:
    """Return the figures of the same with the SDK's client and the tools `remember` and `recall`."""
    with served(encoder) as (url, pid):
        return _with_cpu(
            pid, 2 * clients * calls, lambda: asyncio.run(drive_tools(url, clients, calls))
        )


@contextmanager
def served(encoder: str) -> Iterator[tuple[str, int]]:
    """Start a service that has answered before; yield its address and its process id."""
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
    before, own = _cpu_of(pid), _own_cpu()
    figures = work()
    used, own = _cpu_of(pid) - before, _own_cpu() - own
    return {
        **figures,
        "CPU ms a call": 1000 * used / calls,
        "CPU ms of the client": 1000 * own / calls,
    }


def beside_import(db: Database, searches: int) -> dict[str, float]:
    """Return the times of one client's searches in ms: alone, and while another one imports."""
    times: dict[str, list[float]] = {"idle": [], "beside an import": []}
    memory = db.memory("bench", "reader")
    memory.add_many(Turn(user=f"Note {n} on {TOPICS[n % 5]}.") for n in range(50))
    _search(memory, 5)
    for part in range(2):  # alone, beside an import, alone, beside an import
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
        beside, idle = (figures[f"{name} p{share} ms"] for name in ("beside an import", "idle"))
        figures[f"p{share}, times idle"] = beside / idle
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
    """Return a port that nobody listens to."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


def start_service(database: Path, encoder: str, port: int) -> subprocess.Popen[bytes]:
    """Start a service in a process of its own."""
    code = "import sys; from evomem.cli import main; sys.exit(main())"
    command = ["serve", "--db", str(database), "--encoder", encoder, "--port", str(port)]
    return subprocess.Popen([sys.executable, "-c", code, *command], stderr=subprocess.DEVNULL)


def drive(database: Callable[[], Any], clients: int, calls: int) -> dict[str, float]:
    """Let clients add and search on threads; return calls a second and milliseconds."""
    times: dict[str, list[float]] = {"add": [], "search": []}
    guard = threading.Lock()

    def work(client: int) -> None:
        db: Database = database()
        memory = db.memory("bench", str(client))
        own: dict[str, list[float]] = {"add": [], "search": []}
        for number in range(calls):
            for kind, call in (("add", memory.add), ("search", memory.search)):
                start = time.perf_counter()
                call(SAID[kind].format(number=number, topic=TOPICS[number % len(TOPICS)]))
                own[kind].append(time.perf_counter() - start)
        with guard:
            for kind, values in own.items():
                times[kind] += values

    threads = [threading.Thread(target=work, args=(n,)) for n in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return _figures(times, time.perf_counter() - start)


async def drive_tools(url: str, clients: int, calls: int) -> dict[str, float]:
    """Do as `drive` with the SDK's client on one event loop, each at the address of its memory."""
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
        place = f"{url}/mcp/bench%2F{client}"
        async with httpx2.AsyncClient(timeout=600) as http:
            async with Client(streamable_http_client(place, http_client=http)) as tools:
                for number in range(calls):
                    facts = {"number": number, "topic": TOPICS[number % len(TOPICS)]}
                    text, query = (SAID[kind].format(**facts) for kind in ("add", "search"))
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
    raise RuntimeError("the service does not start")


def _own_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
