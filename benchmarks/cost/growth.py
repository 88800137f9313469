"""Does memory grow with what is added? The slope of the process's memory over many adds, with an interval.

    python -m benchmarks growth --turns 100000 --every 50

Turns of 20 words are added one after the other (`--at-once 1`) or in batches, to several memories of one
database, and now and then one is searched; the hashing encoder costs next to nothing. Memory in use
(RSS) is read after every hundredth of the turns. The slope is that of the straight line through the
second half, in bytes a turn; its interval comes from resampling the steps between the readings.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

import evomem
from benchmarks.reporting.output import positive, setting, write_json
from evomem.records import Turn

READINGS = 100
MEMORIES = 20
SAMPLES = 2000
INDEX_BYTES = 2**23  # of vectors in memory: soon reached, so that only what has no bound would grow
WORDS = [f"word{n}" for n in range(5000)]


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; return 0."""
    parser = argparse.ArgumentParser(prog="benchmarks growth", description=__doc__)
    parser.add_argument("--turns", type=positive, default=100_000)
    parser.add_argument("--at-once", type=positive, default=1, help="turns of one call")
    parser.add_argument("--every", type=positive, default=50, help="calls between two searches")
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args(argv)
    begin = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        readings = np.array(list(_grow(Path(folder) / "a.db", options)))
    second_half = readings[len(readings) // 2 :]
    slope, low, high = slope_of(second_half[:, 0], second_half[:, 1])
    result = {
        **setting("growth", argv),
        "CPU s": time.process_time() - begin,
        "MB at the beginning, in the middle, at the end": [
            float(readings[place, 1]) / 2**20 for place in (0, len(readings) // 2, -1)
        ],
        "bytes a turn in the second half": slope,
        "95 % interval": [low, high],
    }
    print(f"{slope:.0f} bytes a turn [{low:.0f}, {high:.0f}]")
    print(json.dumps(result))
    if options.out:
        write_json(options.out, result)
    return 0


def slope_of(turns: np.ndarray, sizes: np.ndarray) -> tuple[float, float, float]:
    """Return bytes a turn, and the 95 % interval of steps drawn again."""
    steps = np.diff(sizes) / np.diff(turns)
    drawn = np.random.default_rng(0).choice(steps, (SAMPLES, len(steps))).mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(np.polyfit(turns, sizes, 1)[0]), float(low), float(high)


def _grow(path: Path, options: argparse.Namespace) -> Iterator[tuple[int, int]]:
    """Yield how many turns were added, and the bytes of memory in use."""
    drawn = random.Random(0)
    step = max(options.at_once, options.turns // READINGS)
    with evomem.open(path, "hash", synchronous="NORMAL", index_bytes=INDEX_BYTES) as db:
        memories = [db.memory(f"m{n}") for n in range(MEMORIES)]
        due = 0
        for call, start in enumerate(range(0, options.turns, options.at_once)):
            memory = memories[call % MEMORIES]
            memory.add_many(
                [Turn(user=" ".join(drawn.choices(WORDS, k=20))) for _ in range(options.at_once)]
            )
            if call % options.every == 0:
                memory.search(" ".join(drawn.choices(WORDS, k=3)))
            if start >= due:
                due += step
                yield start + options.at_once, _in_use()


def _in_use() -> int:
    for line in Path("/proc/self/status").read_text("utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return 1024 * int(line.split()[1])
    raise SystemExit("this benchmark reads /proc, which only Linux has")
