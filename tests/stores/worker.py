"""A process that serves a memory beside others: it adds, and searches after every turn."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import evomem


def serve(location: str, options: dict[str, Any], name: str, count: int, gate: Path) -> None:
    """Add turns of its own and as many that every worker adds, from when the file `gate` is there."""
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
