"""Breaks lines of the code, one at a time, and says which faults no test notices.

python -m tests.mutants [FILE ...] [--sample N] [--seed S]: `make mutants` runs it with the sample that
CONTRIBUTING tells about. Places are drawn at random, and at each one fault.
"""

from __future__ import annotations

import argparse
import difflib
import glob
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path

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
"""How long the tests of one fault may take, of all that run its line: the quickest come first."""


def sample(paths: list[str], count: int, seed: int) -> list[tuple[Mutant, str]]:
    """Draw faults, with the text of the file that has it."""
    drawn = [place for path in paths for place in places(path)]
    chance = random.Random(seed)
    chance.shuffle(drawn)
    mutants: list[tuple[Mutant, str]] = []
    for place in drawn:
        mutant = chance.choice(place)
        if len(mutants) < count and (source := mutant.source()) is not None:
            mutants.append((mutant, source))
    return mutants


def say(text: str) -> None:
    """Print at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def difference(mutant: Mutant, source: str) -> str:
    """Return the lines that differ."""
    before = (ROOT / mutant.path).read_text("utf-8").splitlines()
    lines = list(difflib.unified_diff(before, source.splitlines(), lineterm="", n=0))[3:]
    return "\n".join(f"    {line}" for line in lines)


def quickest(reach: Reach, mutant: Mutant) -> tuple[list[str], float]:
    """Return the tests to run, and how long they take."""
    tests, seconds = [], 0.0
    for name in reach.tests(mutant.path, statement(mutant.path, mutant.line)):
        seconds += reach.seconds[name]
        if seconds > SECONDS:
            break
        tests.append(name)
    return tests, seconds


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("files", nargs="*", default=FILES, help="patterns of files to break")
    parser.add_argument("--sample", type=int, default=300, help="how many faults (default 300)")
    parser.add_argument("--seed", type=int, default=1, help="which ones (default 1)")
    parser.add_argument("--tests", nargs="+", default=TESTS, help="what may notice them")
    parser.add_argument("--out", type=Path, default=Path("results/mutants"))
    options = parser.parse_args()
    paths = sorted(path for pattern in options.files for path in glob.glob(pattern, root_dir=ROOT))
    options.out.mkdir(parents=True, exist_ok=True)
    prepare()
    with server():
        if not (reached := options.out / "reach.json").exists():
            record(paths, options.tests, reached)
        reach = Reach(reached)
        mutants = sample(paths, options.sample, options.seed)
        outcomes: Counter[Outcome] = Counter()
        with (options.out / "results.jsonl").open("w") as results:
            for mutant, source in mutants:
                tests, seconds = quickest(reach, mutant)
                begun = time.time()
                end = outcome(mutant.path, source, tests, seconds) if tests else "survived"
                outcomes[end] += 1
                line = {**vars(mutant), "outcome": end, "tests": len(tests)}
                results.write(json.dumps(line | {"took": time.time() - begun}) + "\n")
                results.flush()
                if end == "survived":
                    say(f"{mutant.path}:{mutant.line}, which {len(tests)} tests run")
                    say(difference(mutant, source))
    say(
        f"{outcomes['noticed']} of {outcomes.total()} faults were noticed, and with "
        f"{outcomes['not ended']} the tests did not end"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
