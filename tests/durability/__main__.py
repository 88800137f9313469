"""The long run: `python -m tests.durability --runs 10000`. Prints every trial that failed.

A trial is decided by its seed alone (moments in time aside): `--seed 123 --runs 1` repeats it.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.durability.machine import Machine
from tests.durability.trials import ERRORS, SHORT, Bench

KINDS = ("kill", "tear", "moment", "once", "lasting", "power", "power NORMAL")


def trial(bench: Bench, kind: str, rng: random.Random) -> None:
    """Run one trial."""
    plan = rng.choice(SHORT)
    if kind == "moment":
        bench.kill_after("stream", rng.uniform(0, 0.3))
    elif kind in ("kill", "tear"):
        bench.kill_at(plan, rng.randint(1, bench.calls(plan)), torn=kind == "tear")
    elif kind in ("once", "lasting"):
        number = rng.randint(1, bench.calls(plan))
        bench.fail_at(plan, number, rng.choice(ERRORS), lasting=kind == "lasting")
    else:
        synchronous = kind[6:] or "FULL"
        calls = bench.recorded(plan, synchronous)
        bench.cut_power(plan, calls, lost=synchronous == "NORMAL", rng=rng)


def main() -> int:
    """Run trials until enough have been run or time is up; return 1 if any failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.durability", description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--seed", type=int, default=1, help="of the first trial")
    args = parser.parse_args()
    begin, done, failed = time.monotonic(), Counter[str](), 0
    with tempfile.TemporaryDirectory() as folder, Machine() as machine:
        bench = Bench(machine, Path(folder))
        for seed in range(args.seed, args.seed + args.runs):
            if time.monotonic() - begin > 60 * args.minutes:
                break
            rng = random.Random(seed)
            kind = rng.choice(KINDS)
            try:
                trial(bench, kind, rng)
            except Exception as error:  # whatever it is, it is what we look for
                failed += 1
                sys.stdout.write(f"seed {seed} ({kind}): {type(error).__name__}: {error}\n")
            done[kind] += 1
    seconds = time.monotonic() - begin
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(done.items()))
    sys.stdout.write(f"{done.total()} trials, {failed} failed, {seconds:.0f} s: {counts}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
