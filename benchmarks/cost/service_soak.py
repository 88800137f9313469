"""A soak test of the service: no acknowledged turn may be lost to kills, and memory must stay flat.

    python -m benchmarks service_soak --minutes 10

Clients add turns with ids and search over HTTP. Each client fills a memory, checks that every
acknowledged turn is stored once and in order, and drops the memory. In the first half, the service is
stopped repeatedly, alternately by SIGTERM and SIGKILL, and restarted. The second half is one process,
whose resident memory is sampled. The slope is that of a line through the means of ten-second blocks
after the first quarter of that half, with its 95 % interval.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

import evomem
from benchmarks.cost.service import free_port, start_service
from benchmarks.reporting.output import machine, positive, setting, write_json
from evomem.errors import EvomemError
from evomem.memory import Memory

R = TypeVar("R")

TURNS_PER_MEMORY = 12  # before it is checked and dropped
BLOCK_SECONDS = 10.0  # samples within a block are averaged


class Clients:
    """Client threads that add, search and check, and their counts and faults."""

    def __init__(self, url: str, count: int) -> None:
        self._url = url
        self._stop = threading.Event()
        self._guard = threading.Lock()
        self._threads = [threading.Thread(target=self._work, args=(n,)) for n in range(count)]
        self.turns = self.searches = self.memories = self.errors = 0
        self.faults: list[str] = []

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop the threads, each after a final check."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _work(self, client: int) -> None:
        with evomem.connect(self._url) as db:
            number = 0
            while number == 0 or not self._stop.is_set():
                self._round(db.memory("soak", str(client), str(number)))
                number += 1

    def _round(self, memory: Memory) -> None:
        """Fill a memory, check it, and drop it."""
        acknowledged: list[str] = []
        for turn in range(TURNS_PER_MEMORY):
            self._until_done(partial(memory.add, f"note {turn}", id=f"id {turn}"))
            acknowledged.append(f"id {turn}")
            self._until_done(partial(memory.search, "which note?", k=3))
            with self._guard:
                self.turns += 1
                self.searches += 1
        stored = [record.id for record in self._until_done(memory.history)]
        if stored != acknowledged:
            self.faults.append(f"{memory!r} has {stored}, but {acknowledged} were acknowledged")
        with suppress(EvomemError):  # not retried: a memory that is left over is not a fault
            memory.drop()
        with self._guard:
            self.memories += 1

    def _until_done(self, call: Callable[[], R]) -> R:
        while True:
            try:
                return call()
            except EvomemError:
                with self._guard:
                    self.errors += 1
                time.sleep(0.1)


def main(argv: Sequence[str]) -> int:
    """Run the test; return 0 if there was no fault."""
    parser = argparse.ArgumentParser(prog="benchmarks service_soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=positive, default=8)
    parser.add_argument("--encoder", default="hash")
    parser.add_argument("--life", type=float, default=20, help="seconds between two kills")
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args(argv)
    half = 30 * options.minutes
    with tempfile.TemporaryDirectory(prefix="evomem-soak-") as folder:
        place, port = Path(folder) / "a.db", free_port()
        clients = Clients(f"http://127.0.0.1:{port}", options.clients)
        process = start_service(place, options.encoder, port)
        clients.start()
        kills = {signal.SIGTERM: 0, signal.SIGKILL: 0}
        end = time.monotonic() + half
        while time.monotonic() < end:
            time.sleep(options.life)
            kind = signal.SIGTERM if sum(kills.values()) % 2 == 0 else signal.SIGKILL
            process.send_signal(kind)
            process.wait()
            kills[kind] += 1
            process = start_service(place, options.encoder, port)
        before = clients.turns
        samples = _resident_samples(process, half)
        thousands = (clients.turns - before) / 1000
        clients.stop()
        process.terminate()
        process.wait()
        with evomem.open(place) as db:
            faults = [*clients.faults, *db.verify()]
    slope, width = slope_of(samples)
    result = {
        **setting("service_soak", argv),
        "turns": clients.turns,
        "searches": clients.searches,
        "memories checked": clients.memories,
        "calls that failed": clients.errors,
        "SIGTERM": kills[signal.SIGTERM],
        "SIGKILL": kills[signal.SIGKILL],
        "faults": faults,
        "MB at the end": samples[-1][1],
        "MB a minute": slope,
        "95 % interval": [slope - width, slope + width],
        "MB for 1,000 turns": slope * half / 60 / thousands,
        "load": os.getloadavg()[0],
    }
    print(f"{machine()} · {options.clients} clients, {options.minutes:g} minutes")
    print(
        f"{clients.turns:,} turns, {clients.searches:,} searches, {clients.memories:,} memories "
        f"checked; stopped {kills[signal.SIGTERM]} times by SIGTERM, {kills[signal.SIGKILL]} by SIGKILL"
    )
    minutes_per_thousand = half / 60 / thousands
    print(
        f"resident: {samples[-1][1]:.0f} MB at the end, {slope:+.2f} ± {width:.2f} MB per minute, "
        f"{slope * minutes_per_thousand:+.2f} ± {width * minutes_per_thousand:.2f} MB per 1,000 turns "
        "with searches"
    )
    print("\n".join(faults) or "nothing lost, duplicated or reordered; verify finds no fault")
    if options.out:
        write_json(options.out, result)
    print(json.dumps(result))
    return int(bool(faults))


def _resident_samples(
    process: subprocess.Popen[bytes], seconds: float
) -> list[tuple[float, float]]:
    """Return samples of a process's resident memory, as pairs of seconds and MB."""
    samples: list[tuple[float, float]] = []
    start = time.monotonic()
    while (now := time.monotonic() - start) < seconds:
        pages = int(Path(f"/proc/{process.pid}/statm").read_text("ascii").split()[1])
        samples.append((now, pages * os.sysconf("SC_PAGE_SIZE") / 1e6))
        time.sleep(1)
    return samples


def slope_of(samples: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the slope in MB per minute, and half of its 95 % interval; NaN with too few blocks."""
    settled = [(t, mb) for t, mb in samples if t >= samples[-1][0] / 4]
    blocks: dict[int, list[tuple[float, float]]] = {}
    for t, mb in settled:
        blocks.setdefault(int(t // BLOCK_SECONDS), []).append((t, mb))
    if len(blocks) < 4:
        return float("nan"), float("nan")
    x, y = np.array([np.mean(block, axis=0) for block in blocks.values()]).T
    x = x / 60 - np.mean(x) / 60
    slope = float(x @ y / (x @ x))
    residuals = y - np.mean(y) - slope * x
    error = float(np.sqrt(residuals @ residuals / (len(x) - 2) / (x @ x)))
    return slope, 2.1 * error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
