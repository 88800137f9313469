"""Does the process's memory grow with the number of turns? The slope in bytes per turn, with an interval.

    python -m benchmarks growth --turns 100000 --every 50

Turns of 20 words are added one by one (`--at-once 1`) or in batches to several memories of one
database, which are searched now and then. The hashing encoder costs next to nothing. Resident memory
(RSS) is sampled after every hundredth of the turns. The slope is that of a straight line through the
second half of the samples; its interval comes from resampling the steps between samples.
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

SAMPLES = 100
MEMORIES = 20
RESAMPLES = 2000
INDEX_BYTES = 2**23  # small, so that the bounded index is full early and only a leak would grow
WORDS = [f"word{n}" for n in range(5000)]


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; return 0."""
    parser = argparse.ArgumentParser(prog="benchmarks growth", description=__doc__)
    parser.add_argument("--turns", type=positive, default=100_000)
    parser.add_argument("--at-once", type=positive, default=1, help="turns per call")
    parser.add_argument("--every", type=positive, default=50, help="calls between two searches")
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args(argv)
    begin = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        samples = np.array(list(_memory_samples(Path(folder) / "a.db", options)))
    second_half = samples[len(samples) // 2 :]
    slope, low, high = slope_of(second_half[:, 0], second_half[:, 1])
    result = {
        **setting("growth", argv),
        "CPU s": time.process_time() - begin,
        "MB at the beginning, in the middle, at the end": [
            float(samples[place, 1]) / 2**20 for place in (0, len(samples) // 2, -1)
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
    """Return the slope in bytes per turn, and its 95 % interval from resampled steps."""
    steps = np.diff(sizes) / np.diff(turns)
    means = np.random.default_rng(0).choice(steps, (RESAMPLES, len(steps))).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(np.polyfit(turns, sizes, 1)[0]), float(low), float(high)


def _memory_samples(path: Path, options: argparse.Namespace) -> Iterator[tuple[int, int]]:
    """Add turns; yield samples of the number of turns so far and the resident bytes."""
    rng = random.Random(0)
    step = max(options.at_once, options.turns // SAMPLES)
    with evomem.open(path, "hash", synchronous="NORMAL", index_bytes=INDEX_BYTES) as db:
        memories = [db.memory(f"m{n}") for n in range(MEMORIES)]
        next_sample = 0
        for call, start in enumerate(range(0, options.turns, options.at_once)):
            memory = memories[call % MEMORIES]
            memory.add_many(
                [Turn(user=" ".join(rng.choices(WORDS, k=20))) for _ in range(options.at_once)]
            )
            if call % options.every == 0:
                memory.search(" ".join(rng.choices(WORDS, k=3)))
            if start >= next_sample:
                next_sample += step
                yield start + options.at_once, _resident_bytes()


def _resident_bytes() -> int:
    for line in Path("/proc/self/status").read_text("utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return 1024 * int(line.split()[1])
    raise SystemExit("this benchmark needs /proc: run it on Linux")
