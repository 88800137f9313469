"""A service that is used and killed for a long time: nothing acknowledged may be lost, memory flat.

    python -m benchmarks service_soak --minutes 10

Clients add turns with ids and search, over HTTP. Each has a memory for some turns, checks then that all
that was acknowledged is there, once and in order, and drops it. In the first half, the service is ended
again and again, in turn by SIGTERM and by SIGKILL, and started again; the second half is one process,
whose resident memory is sampled. The slope is that of a line through the means of ten-second blocks
after the first quarter of that time, with its 95 % interval.
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

TURNS = 12  # of a memory before it is checked and dropped
BLOCK = 10.0  # seconds whose samples are averaged


class Clients:
    """Threads that add and search, and their findings."""

    def __init__(self, url: str, count: int) -> None:
        self._url = url
        self._stop = threading.Event()
        self._guard = threading.Lock()
        self._threads = [threading.Thread(target=self._work, args=(n,)) for n in range(count)]
        self.turns = self.searches = self.memories = self.errors = 0
        self.faults: list[str] = []

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, each after a check of what it has written."""
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
        done: list[str] = []
        for turn in range(TURNS):
            self._until_done(partial(memory.add, f"note {turn}", id=f"id {turn}"))
            done.append(f"id {turn}")
            self._until_done(partial(memory.search, "which note?", k=3))
            with self._guard:
                self.turns += 1
                self.searches += 1
        stored = [record.id for record in self._until_done(memory.history)]
        if stored != done:
            self.faults.append(f"{memory!r} has {stored}, acknowledged were {done}")
        with suppress(EvomemError):  # asked for once; a rest is no loss
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
    """Run it; return 0 if nothing was lost and no fault was found."""
    parser = argparse.ArgumentParser(prog="benchmarks service_soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=positive, default=8)
    parser.add_argument("--encoder", default="hash")
    parser.add_argument("--life", type=float, default=20, help="seconds between two ends")
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args(argv)
    half = 30 * options.minutes
    with tempfile.TemporaryDirectory(prefix="evomem-soak-") as folder:
        place, port = Path(folder) / "a.db", free_port()
        clients = Clients(f"http://127.0.0.1:{port}", options.clients)
        process = start_service(place, options.encoder, port)
        clients.start()
        ends = {signal.SIGTERM: 0, signal.SIGKILL: 0}
        end = time.monotonic() + half
        while time.monotonic() < end:
            time.sleep(options.life)
            how = signal.SIGTERM if sum(ends.values()) % 2 == 0 else signal.SIGKILL
            process.send_signal(how)
            process.wait()
            ends[how] += 1
            process = start_service(place, options.encoder, port)
        before = clients.turns
        samples = _watch(process, half)
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
        "SIGTERM": ends[signal.SIGTERM],
        "SIGKILL": ends[signal.SIGKILL],
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
        f"checked; ended {ends[signal.SIGTERM]} times by SIGTERM, {ends[signal.SIGKILL]} by SIGKILL"
    )
    each = half / 60 / thousands
    print(
        f"resident: {samples[-1][1]:.0f} MB at the end, {slope:+.2f} ± {width:.2f} MB a minute, "
        f"{slope * each:+.2f} ± {width * each:.2f} MB for 1,000 turns with searches"
    )
    print("\n".join(faults) or "nothing lost, doubled or reordered; verify finds nothing")
    if options.out:
        write_json(options.out, result)
    print(json.dumps(result))
    return int(bool(faults))


def _watch(process: subprocess.Popen[bytes], seconds: float) -> list[tuple[float, float]]:
    """Return the resident megabytes of a process over time."""
    samples: list[tuple[float, float]] = []
    begun = time.monotonic()
    while (now := time.monotonic() - begun) < seconds:
        pages = int(Path(f"/proc/{process.pid}/statm").read_text("ascii").split()[1])
        samples.append((now, pages * os.sysconf("SC_PAGE_SIZE") / 1e6))
        time.sleep(1)
    return samples


def slope_of(samples: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return megabytes a minute, and half of the 95 % interval; NaN with too few blocks."""
    settled = [(t, mb) for t, mb in samples if t >= samples[-1][0] / 4]
    blocks: dict[int, list[tuple[float, float]]] = {}
    for t, mb in settled:
        blocks.setdefault(int(t // BLOCK), []).append((t, mb))
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
