"""A soak test of many threads: no turn may be lost or reordered, and memory use must stay bounded.

    python -m benchmarks soak --minutes 10 --threads 64

Four threads share a memory. Each thread adds turns, searches in every mode, and forks and purges in
between. It checks that its turns are stored completely and in order, and that purged turns are gone. A
full memory is checked as a whole and dropped, so that the database stays bounded, and memory use must as
well. Halfway through, the database is re-encoded while the threads continue, and opened again. Batches
consist of whatever the threads request at the same time. The encoder `tiny` is the small encoder's
network with few random weights, which is fast, so that many operations happen.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch

import evomem
from benchmarks.reporting.output import machine, positive, setting, write_json
from evomem.encoder import Encoder
from evomem.errors import FingerprintMismatch
from evomem.memory import Memory
from evomem.memory_view import Mode
from evomem.mini import weights
from evomem.mini.config import MiniConfig
from evomem.mini.encoder import MiniEncoder
from evomem.mini.model import MiniModel
from evomem.plugins import load_encoder
from evomem.reencode import reencode

SHARE = 4  # threads per memory
TURNS = 12  # turns per thread and memory
SAMPLES = 12  # of memory use, per encoder
MODES: Sequence[Mode] = ("hybrid", "evolvable", "lexical")
CACHE_BYTES = 4 * 2**20  # small, so that caches are full early and cannot mask a leak


@dataclass
class Counts:
    """The number of operations so far."""

    turns: int = 0
    queries: int = 0
    memories: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def main(argv: Sequence[str]) -> int:
    """Run the test; return 0 if memory use stayed bounded."""
    parser = argparse.ArgumentParser(
        prog="benchmarks soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--threads", type=positive, default=64)
    parser.add_argument("--encoder", default="tiny", help="tiny, or a name for evomem.load_encoder")
    parser.add_argument("--most", type=float, default=20, help="MB by which memory use may grow")
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix="evomem-soak-"))
    try:
        encoder: Encoder = tiny(folder / "tiny.safetensors")
        if options.encoder != "tiny":
            encoder = load_encoder(options.encoder)
        later = tiny(folder / "later.safetensors", seed=1)
        count, resident = soak(
            folder / "a.db", encoder, 60 * options.minutes, options.threads, later
        )
    except BaseException:
        print(f"the database is kept in {folder} for inspection", file=sys.stderr)
        raise
    shutil.rmtree(folder)
    settled = resident[len(resident) // 2 :]  # after pools and caches have filled
    grown = settled[-1] - settled[0]
    result = {
        **setting("soak", argv),
        "turns": count.turns,
        "queries": count.queries,
        "memories": count.memories,
        "MB in use": resident,
        "MB grown in the second half": grown,
    }
    print(f"{machine()} · {options.threads} threads, {options.minutes:g} minutes")
    print(f"{count.turns:,} turns, {count.queries:,} queries, {count.memories:,} memories dropped")
    print(f"none lost, none reordered; MB in use: {', '.join(f'{mb:.0f}' for mb in resident)}")
    if options.out:
        write_json(options.out, result)
    print(json.dumps(result))
    return int(grown > options.most)


def tiny(file: Path, seed: int = 0) -> MiniEncoder:
    """Return a small encoder with random weights, which are written to `file`."""
    torch.manual_seed(seed)
    config = MiniConfig(hidden=48, layers=3, heads=2, inner=96, turns=16, match=8)
    weights.save(MiniModel(config), file)
    return MiniEncoder(str(file))


def soak(
    path: Path, encoder: Encoder, seconds: float, threads: int, later: Encoder | None = None
) -> tuple[Counts, list[float]]:
    """Let `threads` work for `seconds`, in the second half with the encoder `later` if it is given.

    Returns:
        The number of operations, and samples of memory use in MB.

    Raises:
        AssertionError: A turn was lost or is out of order, or a purged turn was found.
    """
    count, resident = Counts(), [resident_mb()]
    if later is not None:
        seconds /= 2
        _work(path, encoder, later, seconds, threads, count, resident)
        encoder = later
    _work(path, encoder, None, seconds, threads, count, resident)
    return count, resident


def _work(
    path: Path,
    encoder: Encoder,
    later: Encoder | None,
    seconds: float,
    threads: int,
    count: Counts,
    resident: list[float],
) -> None:
    """Let `threads` work with one encoder; at the end, re-encode with `later` if it is given."""
    end = time.monotonic() + seconds
    with evomem.open(str(path), encoder, synchronous="NORMAL") as db:
        if db.memories():  # from rounds that the change of the encoder interrupted
            db.drop("soak")  # including their forks
        for cache in (db._engine._states, getattr(encoder, "_queues", None)):
            if cache is not None:
                cache.limit = CACHE_BYTES
        groups = [
            Group(db.memory("soak", f"m{n}"), end + (3600 if later else 0), count)
            for n in range(-(-threads // SHARE))
        ]
        with ThreadPoolExecutor(len(groups) * SHARE) as pool:
            work = [pool.submit(group.run, n) for group in groups for n in range(SHARE)]
            for sample in range(1, SAMPLES + 1):
                wake = end - seconds * (1 - sample / (SAMPLES))
                while time.monotonic() < wake and not any(future.done() for future in work):
                    time.sleep(min(1.0, max(0.0, wake - time.monotonic())))
                resident.append(resident_mb())
            if later is not None:
                reencode(str(path), later, synchronous="NORMAL")
            for future in work:
                future.result()
        if later is None:
            faults = db.verify()
            assert not faults, faults


class Group:
    """Threads that share a memory, in rounds; after each round, the memory is checked and dropped."""

    def __init__(self, memory: Memory, end: float, count: Counts) -> None:
        self.memory = memory
        self.end = end
        self.count = count
        self.over = False
        self.failed = False
        self.barrier = threading.Barrier(SHARE, self._finish_round)
        self.rounds = 0

    def _finish_round(self) -> None:
        """Check the memory as a whole and drop it; one thread runs this for the group."""
        if self.rounds:
            records = self.memory.history()
            ids = {f"{thread}-{n}" for thread in range(SHARE) for n in range(TURNS)}
            assert len(records) == len(ids)
            assert {record.id for record in records} == ids
            self.memory.drop()
            with self.count.lock:
                self.count.memories += 1
        self.over = self.rounds > 0 and time.monotonic() > self.end  # at least one round
        self.rounds += 1

    def run(self, thread: int) -> None:
        """Add turns and search until the time is up; the main function of a thread."""
        try:
            while True:
                self.barrier.wait()
                if self.over:
                    return
                for n in range(TURNS):
                    self._add_and_check(thread, n)
        except (FingerprintMismatch, threading.BrokenBarrierError):
            self.barrier.abort()  # the database was re-encoded and has to be reopened
            if not self.failed:
                return
            raise
        except BaseException:
            self.failed = True
            self.barrier.abort()  # otherwise the other threads would wait for ever
            raise

    def _add_and_check(self, thread: int, n: int) -> None:
        self.memory.add(f"thread {thread} says thing {n}", id=f"{thread}-{n}")
        ids = [r.id for r in self.memory.history() if r.id.startswith(f"{thread}-")]
        assert ids == [f"{thread}-{k}" for k in range(n + 1)], ids
        self._search_and_purge(thread, n)
        with self.count.lock:
            self.count.turns += 1
            self.count.queries += 1

    def _search_and_purge(self, thread: int, n: int) -> None:
        """Search in one of the modes; in some rounds, also purge a turn or fork."""
        memory, query = self.memory, f"thing {n} of thread {thread}"
        assert memory.search(query, k=1, mode=MODES[n % len(MODES)])
        purged = f"passing {thread}"
        if n % 4 == 1:
            memory.add(query, id=purged)
            memory.purge(purged, forks=True)
            hits = memory.search(query, k=50, mode=MODES[n // 4 % len(MODES)])
            assert purged not in [hit.record.id for hit in hits]
            assert purged not in [record.id for record in memory.history()]
        if n % 4 == 3:
            fork = memory.fork(f"fork {thread}")
            assert fork.context(query)
            fork.drop()


def resident_mb() -> float:
    """Return the resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
