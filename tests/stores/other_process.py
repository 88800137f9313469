"""A second process that writes to the same database, one command a line.

python -m tests.stores.other_process: reads `[location, namespace, turns]` as JSON from stdin, adds
the turns, `{"user": ..., "id": ...}`, and answers with their seqs. It keeps databases open. Without a
namespace it opens the location once more, and keeps that open too.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import evomem
from evomem.records import Turn
from tests.conftest import ROOT


class OtherProcess:
    """Start it once; it is cheap to ask."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.stores.other_process"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def add(
        self, location: str, namespace: tuple[str, ...], turns: list[dict[str, Any]]
    ) -> list[int]:
        """Add turns to a memory; return their seqs."""
        return self._ask(location, namespace, turns)

    def open_again(self, location: str) -> None:
        """Open a database that may be open there already."""
        self._ask(location, None, [])

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=60)

    def kill(self) -> None:
        """End the process as a power cut would, in the middle of everything."""
        self._process.kill()
        self.close()

    def _ask(
        self, location: str, namespace: tuple[str, ...] | None, turns: list[dict[str, Any]]
    ) -> list[int]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps([location, namespace, turns]) + "\n")
        self._process.stdin.flush()
        seqs: list[int] = json.loads(self._process.stdout.readline())
        return seqs


def main() -> None:
    """Serve commands."""
    location, db = "", None
    others = []
    for line in sys.stdin:
        wanted, namespace, turns = json.loads(line)
        if namespace is None:
            others.append(evomem.open(wanted))
            sys.stdout.write("[]\n")
            sys.stdout.flush()
            continue
        if wanted != location or db is None:
            if db is not None:
                db.close()
            location, db = wanted, evomem.open(wanted)
        records = db.memory(*namespace).add_many([Turn(**turn) for turn in turns])
        sys.stdout.write(json.dumps([record.seq for record in records]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
