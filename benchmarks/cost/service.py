"""What the service costs: clients that add and search over HTTP, beside the same calls in process.

    python -m benchmarks service --clients 16 --calls 40

Each client has a memory of its own, and adds a turn and then asks a question, again and again. The
service is a process of its own; CPU seconds are those of that process (over HTTP), or of this one
(in process), where the same calls are made on as many threads.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import evomem
from benchmarks.reporting.output import setting, table, write_json
from evomem.database import Database
from evomem.errors import EvomemError
from evomem.memory import Memory
from evomem.records import Turn

TOPICS = ("the cat", "work in Oslo", "a trip to Bergen", "dinner with Ada", "the new bicycle")


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; return 0."""
    parser = argparse.ArgumentParser(prog="benchmarks service", description=__doc__)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--calls", type=int, default=40, help="of each kind and client")
    parser.add_argument("--rounds", type=int, default=2, help="in process, HTTP, in process, ...")
    parser.add_argument("--encoder", default="mini")
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args(argv)
    rounds: dict[str, list[dict[str, float]]] = {"in process": [], "over HTTP": []}
    for _ in range(options.rounds):
        for name, measure in (("in process", in_process), ("over HTTP", over_http)):
            rounds[name].append(measure(options.encoder, options.clients, options.calls))
    figures = {
        name: {key: float(np.median([run[key] for run in many])) for key in many[0]}
        for name, many in rounds.items()
    }
    keys = list(figures["in process"])
    rows = [[key, *(f"{figures[name][key]:.4g}" for name in figures)] for key in keys]
    print(table(["", *figures], rows))
    reader = beside_import(options.encoder)
    print(table(["a reader's searches", "ms"], [[k, f"{v:.4g}"] for k, v in reader.items()]))
    cpu = [figures[name]["CPU ms a call"] for name in figures]
    share = 100 * (cpu[1] - cpu[0]) / cpu[0]
    print(f"\nCPU on top of the calls in process: {share:.0f} %; load {os.getloadavg()[0]:.1f}")
    result = {
        **setting("service", argv),
        "load": os.getloadavg()[0],
        "figures": {**figures, "CPU on top, percent": share, "reader": reader},
    }
    if options.out:
        write_json(options.out, result)
    print(json.dumps(result))
    return 0


def in_process(encoder: str, clients: int, calls: int) -> dict[str, float]:
    """Return the figures of a database that this process opens."""
    with tempfile.TemporaryDirectory() as folder:
        with evomem.open(str(Path(folder) / "a.db"), encoder) as db:
            _ = db.encoder
            before = _own_cpu()
            figures = drive(lambda: db, clients, calls)
            figures["CPU ms a call"] = 1000 * (_own_cpu() - before) / (2 * clients * calls)
    return figures


def over_http(encoder: str, clients: int, calls: int) -> dict[str, float]:
    """Return the figures of a service in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        process = start_service(Path(folder) / "a.db", encoder, port)
        try:
            url = f"http://127.0.0.1:{port}"
            with evomem.connect(url) as db:
                _await(db)
                before = _cpu_of(process.pid)
                figures = drive(lambda: db, clients, calls)
                cpu = _cpu_of(process.pid) - before
            figures["CPU ms a call"] = 1000 * cpu / (2 * clients * calls)
        finally:
            process.terminate()
            process.wait()
    return figures


def beside_import(encoder: str, searches: int = 60) -> dict[str, float]:
    """Return the times of one client's searches: alone, and while another one imports."""
    times: dict[str, list[float]] = {"idle": [], "beside an import": []}
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        process = start_service(Path(folder) / "a.db", encoder, port)
        try:
            with evomem.connect(f"http://127.0.0.1:{port}") as db:
                _await(db)
                memory = db.memory("bench", "reader")
                memory.add_many(Turn(user=f"Note {n} on {TOPICS[n % 5]}.") for n in range(50))
                _search(memory, 5)
                times["idle"] = _search(memory, searches)
                stop = threading.Event()
                bulk = threading.Thread(target=_import, args=(db.memory("bench", "bulk"), stop))
                bulk.start()
                _search(memory, 5)
                times["beside an import"] = _search(memory, searches)
                stop.set()
                bulk.join()
        finally:
            process.terminate()
            process.wait()
    return {
        f"{name} p{share}": 1000 * float(np.percentile(values, share))
        for name, values in times.items()
        for share in (50, 95)
    }


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


def drive(database: Any, clients: int, calls: int) -> dict[str, float]:
    """Let clients add and search on threads; return calls a second and milliseconds."""
    times: dict[str, list[float]] = {"add": [], "search": []}
    guard = threading.Lock()

    def work(client: int) -> None:
        db: Database = database()
        memory = db.memory("bench", str(client))
        own: dict[str, list[float]] = {"add": [], "search": []}
        for number in range(calls):
            start = time.perf_counter()
            memory.add(f"On day {number} we spoke about {TOPICS[number % len(TOPICS)]}.")
            own["add"].append(time.perf_counter() - start)
            start = time.perf_counter()
            memory.search(f"When did we speak about {TOPICS[(number + 2) % len(TOPICS)]}?")
            own["search"].append(time.perf_counter() - start)
        with guard:
            for kind, values in own.items():
                times[kind] += values

    threads = [threading.Thread(target=work, args=(n,)) for n in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    figures = {"calls a second": 2 * clients * calls / seconds}
    for kind, values in times.items():
        for share in (50, 95):
            figures[f"{kind} p{share} ms"] = 1000 * float(np.percentile(values, share))
    return figures


def _await(db: Database) -> None:
    for _ in range(1200):
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
