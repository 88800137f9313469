"""Breaks lines of the code, one at a time, and reports the faults that no test notices.

python -m tests.mutants [FILE ...] [--sample N] [--seed S]: `make mutants` runs it with the default
sample. Places in the code are drawn at random, and one fault at each.
"""

from __future__ import annotations

import argparse
import difflib
import glob
import json
import random
import shlex
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import get_args

from tests.mutants.mutating import ROOT, Mutant, places, statement
from tests.mutants.running import Outcome, Reach, outcome, prepare, record, server

FILES = (
    "evomem/memory.py",
    "evomem/memory_view.py",
    "evomem/batching.py",
    "stores/evomem_stores/log/*.py",
    "stores/evomem_stores/vectors/*.py",
)
TESTS = (
    "tests/test_memory.py",
    "tests/test_batching.py",
    "tests/test_corrections.py",
    "tests/test_past.py",
    "tests/test_together.py",
    "tests/test_sources.py",
    "tests/stores",
    "tests/integrity/test_edits.py",
    "tests/durability/test_forgetting.py",
)
SECONDS = 40.0
"""Limit on the CPU time of the tests for one fault: the fastest tests that run its line."""


def sample(paths: list[str], count: int, seed: int) -> list[tuple[Mutant, str]]:
    """Draw faults, each with the text of its file."""
    faults_by_place = [faults for path in paths for faults in places(path)]
    rng = random.Random(seed)
    rng.shuffle(faults_by_place)
    mutants: list[tuple[Mutant, str]] = []
    for faults in faults_by_place:
        mutant = rng.choice(faults)
        if len(mutants) < count and (source := mutant.source()) is not None:
            mutants.append((mutant, source))
    return mutants


def room(path: str) -> str:
    """Return the folder of a file in the store, or the file itself, for the summary."""
    return path if path.startswith("evomem/") else str(Path(path).parent)


def say(text: str) -> None:
    """Print at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def difference(mutant: Mutant, source: str) -> str:
    """Return the lines that differ."""
    before = (ROOT / mutant.path).read_text("utf-8").splitlines()
    lines = list(difflib.unified_diff(before, source.splitlines(), lineterm="", n=0))[3:]
    return "\n".join(f"    {line}" for line in lines)


def fastest(reach: Reach, mutant: Mutant) -> dict[str, float]:
    """Return the tests to run, with the CPU seconds of each."""
    tests: dict[str, float] = {}
    for name in reach.tests(mutant.path, statement(mutant.path, mutant.line)):
        if sum(tests.values()) + reach.seconds[name] > SECONDS:
            break
        tests[name] = reach.seconds[name]
    return tests


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("files", nargs="*", default=FILES, help="files to break, as patterns")
    parser.add_argument("--sample", type=int, default=300, help="number of faults (default 300)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the draw (default 1)")
    parser.add_argument("--tests", nargs="+", default=TESTS, help="tests that may notice them")
    parser.add_argument(
        "--pytest",
        type=shlex.split,
        default=[],
        metavar="OPTIONS",
        help="options that select among the tests, as in '-m \"not slow\"'",
    )
    parser.add_argument("--out", type=Path, default=Path("results/mutants"))
    options = parser.parse_args()
    paths = sorted(path for pattern in options.files for path in glob.glob(pattern, root_dir=ROOT))
    options.out.mkdir(parents=True, exist_ok=True)
    prepare()
    with server():
        if not (reached := options.out / "reach.json").exists():
            record(paths, [*options.pytest, *options.tests], reached)
        reach = Reach(reached)
        mutants = sample(paths, options.sample, options.seed)
        outcomes: dict[str, Counter[Outcome]] = defaultdict(Counter)
        with (options.out / f"seed{options.seed}.jsonl").open("w") as results:
            for mutant, source in mutants:
                tests = fastest(reach, mutant)
                start = time.time()
                result = outcome(mutant.path, source, tests) if tests else "survived"
                outcomes[room(mutant.path)][result] += 1
                line = {**vars(mutant), "outcome": result, "tests": len(tests)}
                results.write(json.dumps(line | {"took": time.time() - start}) + "\n")
                results.flush()
                if result == "survived":
                    say(f"{mutant.path}:{mutant.line}, which {len(tests)} tests run")
                    say(difference(mutant, source))
    for name, counts in sorted(outcomes.items()):
        say(f"{name}: " + ", ".join(f"{counts[result]} {result}" for result in get_args(Outcome)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
