"""Many threads add, ask and forget for a long time: nothing may be lost, reordered, or kept in memory.

    python -m benchmarks soak --minutes 10 --threads 64

Four threads share a memory. Each adds turns, searches in every mode, forks and purges in between, and
checks that what it has said is there, whole and in order, and that nothing purged is; when a memory has
had its turns it is checked as a whole and dropped, so that what is stored stays bounded and memory in
use must, too. At half time the database is re-encoded while all this continues, and opened again. Batches are made of whatever the
threads happen to want at the same time. The encoder `tiny` is the small one's network with a few
random weights: fast, so that much happens.
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

SHARE = 4  # threads of one memory
TURNS = 12  # that each of them adds before it is dropped
SAMPLES = 12  # of the memory in use, with each encoder
MODES: Sequence[Mode] = ("hybrid", "evolvable", "lexical")
CACHE_BYTES = 4 * 2**20  # of what is kept to save work: full soon, so that a leak cannot hide there


@dataclass
class Count:
    """What has happened so far."""

    turns: int = 0
    queries: int = 0
    memories: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def main(argv: Sequence[str]) -> int:
    """Run it; return 0 if nothing was lost, reordered or kept."""
    parser = argparse.ArgumentParser(
        prog="benchmarks soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--threads", type=positive, default=64)
    parser.add_argument("--encoder", default="tiny", help="tiny, or what evomem.load_encoder takes")
    parser.add_argument("--most", type=float, default=20, help="MB that memory in use may grow by")
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix="evomem-soak-"))
    try:
        encoder: Encoder = tiny(folder / "tiny.safetensors")
        if options.encoder != "tiny":
            encoder = load_encoder(options.encoder)
        later = tiny(folder / "later.safetensors", seed=1)
        count, used = soak(folder / "a.db", encoder, 60 * options.minutes, options.threads, later)
    except BaseException:
        print(f"the database is left in {folder}, to be looked at", file=sys.stderr)
        raise
    shutil.rmtree(folder)
    settled = used[len(used) // 2 :]  # pools fill, allocators settle
    grown = settled[-1] - settled[0]
    result = {
        **setting("soak", argv),
        "turns": count.turns,
        "queries": count.queries,
        "memories": count.memories,
        "MB in use": used,
        "MB grown in the second half": grown,
    }
    print(f"{machine()} · {options.threads} threads, {options.minutes:g} minutes")
    print(f"{count.turns:,} turns, {count.queries:,} queries, {count.memories:,} memories dropped")
    print(f"none lost, none reordered; MB in use: {', '.join(f'{mb:.0f}' for mb in used)}")
    if options.out:
        write_json(options.out, result)
    print(json.dumps(result))
    return int(grown > options.most)


def tiny(file: Path, seed: int = 0) -> MiniEncoder:
    """Make a small encoder of random weights."""
    torch.manual_seed(seed)
    config = MiniConfig(hidden=48, layers=3, heads=2, inner=96, turns=16, write_layer=2, match=8)
    weights.save(MiniModel(config), file)
    return MiniEncoder(str(file))


def soak(
    path: Path, encoder: Encoder, seconds: float, threads: int, later: Encoder | None = None
) -> tuple[Count, list[float]]:
    """Let `threads` work for so long, with two encoders if there is a `later` one.

    Returns what they did, and MB in use, sampled.

    Raises:
        AssertionError: A turn was lost or is out of order, or a purged one was found.
    """
    count, used = Count(), [in_use()]
    if later is not None:
        seconds /= 2
        _work(path, encoder, later, seconds, threads, count, used)
        encoder = later
    _work(path, encoder, None, seconds, threads, count, used)
    return count, used


def _work(
    path: Path,
    encoder: Encoder,
    later: Encoder | None,
    seconds: float,
    threads: int,
    count: Count,
    used: list[float],
) -> None:
    """Let `threads` work with one encoder, and let `later` take its place at the end."""
    end = time.monotonic() + seconds
    with evomem.open(str(path), encoder, synchronous="NORMAL") as db:
        if db.memories():  # rounds were under way when the encoder was changed
            db.drop("soak")  # with the forks below
        for cache in (db._engine._states, getattr(encoder, "_queues", None)):
            if cache is not None:
                cache.limit = CACHE_BYTES
        groups = [
            Group(db.memory("soak", f"m{n}"), end + (3600 if later else 0), count)
            for n in range(-(-threads // SHARE))
        ]
        with ThreadPoolExecutor(len(groups) * SHARE) as pool:
            work = [pool.submit(group.talk, n) for group in groups for n in range(SHARE)]
            for sample in range(1, SAMPLES + 1):
                wake = end - seconds * (1 - sample / (SAMPLES))
                while time.monotonic() < wake and not any(future.done() for future in work):
                    time.sleep(min(1.0, max(0.0, wake - time.monotonic())))
                used.append(in_use())
            if later is not None:
                reencode(str(path), later, synchronous="NORMAL")
            for future in work:
                future.result()
        if later is None:
            faults = db.verify()
            assert not faults, faults


class Group:
    """Threads that share a memory, in rounds; at the end of each it is checked and dropped."""

    def __init__(self, memory: Memory, end: float, count: Count) -> None:
        self.memory = memory
        self.end = end
        self.count = count
        self.over = False
        self.failed = False
        self.barrier = threading.Barrier(SHARE, self.turn_over)
        self.rounds = 0

    def turn_over(self) -> None:
        """Check the memory as a whole, and forget it; one thread does this for all."""
        if self.rounds:
            records = self.memory.history()
            ids = {f"{thread}-{n}" for thread in range(SHARE) for n in range(TURNS)}
            assert len(records) == len(ids)
            assert {record.id for record in records} == ids
            self.memory.drop()
            with self.count.lock:
                self.count.memories += 1
        self.over = self.rounds > 0 and time.monotonic() > self.end  # one round in any case
        self.rounds += 1

    def talk(self, thread: int) -> None:
        """Add and ask, together with the others, until the time is up."""
        try:
            while True:
                self.barrier.wait()
                if self.over:
                    return
                for n in range(TURNS):
                    self._say(thread, n)
        except (FingerprintMismatch, threading.BrokenBarrierError):
            self.barrier.abort()  # the database was re-encoded: it has to be opened again
            if not self.failed:
                return
            raise
        except BaseException:
            self.failed = True
            self.barrier.abort()  # or the others would wait for ever
            raise

    def _say(self, thread: int, n: int) -> None:
        self.memory.add(f"thread {thread} says thing {n}", id=f"{thread}-{n}")
        own = [r.id for r in self.memory.history() if r.id.startswith(f"{thread}-")]
        assert own == [f"{thread}-{k}" for k in range(n + 1)], own
        self._ask(thread, n)
        with self.count.lock:
            self.count.turns += 1
            self.count.queries += 1

    def _ask(self, thread: int, n: int) -> None:
        """Search in one of the modes, and now and then forget a turn for good, or fork."""
        memory, query = self.memory, f"thing {n} of thread {thread}"
        assert memory.search(query, k=1, mode=MODES[n % len(MODES)])
        passing = f"passing {thread}"
        if n % 4 == 1:
            memory.add(query, id=passing)
            memory.purge(passing, forks=True)
            hits = memory.search(query, k=50, mode=MODES[n // 4 % len(MODES)])
            assert passing not in [hit.record.id for hit in hits]
            assert passing not in [record.id for record in memory.history()]
        if n % 4 == 3:
            fork = memory.fork(f"fork {thread}")
            assert fork.context(query)
            fork.drop()


def in_use() -> float:
    """Return the megabytes of memory that this process has in use."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
