"""A second process that writes to the same database, one command after another."""

from __future__ import annotations

from multiprocessing.connection import Connection
from typing import Any

import evomem
from evomem.records import Turn
from tests.processes import FORKS


class OtherProcess:
    """Start it once; it is cheap to ask. It keeps databases open."""

    def __init__(self) -> None:
        self._connection, theirs = FORKS.Pipe()
        self._process = FORKS.Process(target=_serve, args=(theirs,))
        self._process.start()
        theirs.close()

    def add(
        self, location: str, namespace: tuple[str, ...], turns: list[dict[str, Any]]
    ) -> list[int]:
        """Add turns, `{"user": ..., "id": ...}`, to a memory; return their seqs."""
        return self._ask(location, namespace, turns)

    def open_again(self, location: str) -> None:
        """Open a database that may be open there already."""
        self._ask(location, None, [])

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join(60)

    def kill(self) -> None:
        """End the process as a power cut would, in the middle of everything."""
        self._process.kill()
        self.close()

    def _ask(
        self, location: str, namespace: tuple[str, ...] | None, turns: list[dict[str, Any]]
    ) -> list[int]:
        self._connection.send((location, namespace, turns))
        seqs: list[int] = self._connection.recv()
        return seqs


def _serve(commands: Connection) -> None:
    location, db = "", None
    others = []
    while True:
        try:
            wanted, namespace, turns = commands.recv()
        except EOFError:
            return
        if namespace is None:
            others.append(evomem.open(wanted))
            commands.send([])
            continue
        if wanted != location or db is None:
            if db is not None:
                db.close()
            location, db = wanted, evomem.open(wanted)
        records = db.memory(*namespace).add_many([Turn(**turn) for turn in turns])
        commands.send([record.seq for record in records])
