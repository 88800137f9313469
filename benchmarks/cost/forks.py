"""The cost of forks: a thousand forks of one long memory are created, used and dropped.

    python -m benchmarks forks --turns 100000 --forks 1000

Turns are read by the hashing encoder, since forks copy no rows and the content does not matter.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import evomem
from benchmarks.reporting.output import setting, table, write_json
from evomem.encoder import HashEncoder
from evomem.records import Turn


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; return 0."""
    parser = argparse.ArgumentParser(prog="benchmarks forks", description=__doc__)
    parser.add_argument("--turns", type=int, default=100_000)
    parser.add_argument("--forks", type=int, default=1000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--folder", type=Path, help="where to create the database")
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        rows = measure(Path(folder) / "a.db", options.turns, options.forks, options.dim)
    print(table(["", "value"], [[name, f"{value:,.4g}"] for name, value in rows.items()]))
    result = {**setting("forks", argv), "figures": rows}
    if options.out:
        write_json(options.out, result)
    print(json.dumps(result))
    return 0


def measure(path: Path, turns: int, forks: int, dim: int) -> dict[str, float]:
    """Return the figures by name, in seconds, bytes and percent of bytes."""
    figures: dict[str, float] = {}
    rng = random.Random(0)
    with evomem.open(str(path), HashEncoder(dim)) as db:
        memory = db.memory("m")
        memory.add_many([Turn(user=f"note {n} of the cat", id=f"t{n}") for n in range(turns)])
        memory.search("the cat")
        before = size(db, path)
        start = time.perf_counter()
        forked = [memory.at(seq=rng.randint(1, turns)).fork(f"f{n}") for n in range(forks)]
        figures["seconds to make all forks"] = time.perf_counter() - start
        after = size(db, path)
        figures["bytes before"] = before
        figures["more bytes, percent"] = 100 * (after - before) / before
        start = time.perf_counter()
        for fork in forked[:100]:
            fork.add("a new turn")
        figures["seconds to add a turn, mean of 100"] = (time.perf_counter() - start) / 100
        start = time.perf_counter()
        for fork in forked[:20]:
            assert fork.search("a new turn", 1)
        figures["seconds to search, mean of 20"] = (time.perf_counter() - start) / 20
        assert len(memory) == turns
        rng.shuffle(forked)
        start = time.perf_counter()
        for fork in forked:
            fork.drop()
        figures["seconds to drop all forks, in any order"] = time.perf_counter() - start
        assert db.memories() == [("m",)]
        assert len(memory) == turns
    return figures


def size(db: evomem.Database, path: Path) -> int:
    """Return the bytes of the database, with its write-ahead log written back."""
    store: Any = db._engine.store
    store._connections.scrub()
    return path.stat().st_size
