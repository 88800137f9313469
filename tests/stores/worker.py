"""A process that serves a memory beside others: it adds, and searches after every turn.

python -m tests.stores.worker LOCATION OPTIONS NAME COUNT GATE: adds COUNT turns of its own and as many that
every worker adds, from when the file GATE is there; then prints what a search finds.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import evomem


def main(location: str, options: dict[str, Any], name: str, count: int, gate: Path) -> None:
    with evomem.open(location, encoder="hash", **options) as db:
        memory = db.memory("served")
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while not gate.exists():
            time.sleep(0.001)
        for n in range(count):
            memory.add(f"{name} says {n}", id=f"{name}-{n}")
            memory.add(f"delivered to every worker: {n}", id=f"all-{n}")
            if f"{name}-{n}" not in [hit.record.id for hit in memory.search(f"{name} says {n}", k=2 * n + 9)]:  # fmt: skip
                raise SystemExit(f"{name} does not find what it added")


if __name__ == "__main__":
    location, options, name, count, gate = sys.argv[1:]
    main(location, json.loads(options), name, int(count), Path(gate))
