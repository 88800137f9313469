"""What a process does to a database until it is killed: short lists of steps, each atomic or said.

Every step may be run again after it was interrupted, as a program would that was started again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import evomem
from evomem.encoder import HashEncoder
from evomem.errors import NamespaceError, NotFound
from evomem.records import Turn
from evomem.reencode import reencode

Step = Callable[[evomem.Database], object]

ENCODER = HashEncoder(16)
OTHER = HashEncoder(24)
SECRET = "zyxw"  # in every turn that is forgotten for good, and nowhere else
START = datetime(2024, 1, 1, tzinfo=timezone.utc)


def open_database(path: Path | str, **options: Any) -> evomem.Database:
    """Open with the small encoder, and write index files early, so that faults hit them too."""
    db = evomem.open(str(path), ENCODER, **options)
    db._engine.index._min_new_rows = 4  # type: ignore[attr-defined]
    return db


def turn(number: int, text: str = "says {} of the cat", **fields: Any) -> Turn:
    """Return the turn with this number; the same each time it is asked for."""
    content = text.format(number)
    return Turn(user=content, id=f"t{number}", time=START + timedelta(hours=number), **fields)


def add(*turns: Turn, to: str = "m") -> Step:
    """Add turns in one batch, and look for them, as agents do."""

    def step(db: evomem.Database) -> None:
        memory = db.memory(*to.split("/"))
        memory.add_many(turns)
        memory.search("the cat", 3, mode="hybrid")

    return step


def forget(memory: str, id: str, *, forks: bool = False) -> Step:
    """Purge a turn, unless an earlier run has done so."""

    def step(db: evomem.Database) -> None:
        with suppress(NotFound):
            db.memory(*memory.split("/")).purge(id, forks=forks)

    return step


def hide(memory: str, id: str) -> Step:
    """Delete a turn, unless an earlier run has done so."""

    def step(db: evomem.Database) -> None:
        with suppress(NotFound):
            db.memory(memory).delete(id)

    return step


def expire(memory: str, session: str) -> Step:
    """Forget a session, in forks too."""

    def step(db: evomem.Database) -> None:
        db.memory(memory).expire(session=session, forks=True)

    return step


def drop(memory: str) -> Step:
    """Drop a memory and what is below it, unless an earlier run has done so."""

    def step(db: evomem.Database) -> None:
        with suppress(NotFound):
            db.drop(*memory.split("/"))

    return step


def fork(memory: str, label: str) -> Step:
    """Fork a memory, unless an earlier run has done so."""

    def step(db: evomem.Database) -> None:
        with suppress(NamespaceError):
            db.memory(memory).fork(label)

    return step


def backup(db: evomem.Database) -> None:
    """Back the database up, unless an earlier run has done so."""
    path = _beside(db, "b.db")
    if path and not path.exists():
        db.backup(path)


def export(db: evomem.Database) -> None:
    """Export the database, and load the export into another one."""
    path = _beside(db, "dump")
    if path:
        shutil.rmtree(path, ignore_errors=True)
        db.export(path)
        with open_database(path.with_name("c.db")) as copy, suppress(NamespaceError):
            copy.load(path)


def reencoded(encoder: HashEncoder) -> Step:
    """Change the encoder."""

    def step(db: evomem.Database) -> None:
        if path := _beside(db, "a.db"):
            reencode(str(path), encoder)

    return step


def _beside(db: evomem.Database, name: str) -> Path | None:
    store: Any = db._engine.store
    path: Path | None = store._connections.path
    return path and path.with_name(name)


def _secret(number: int) -> Turn:
    return turn(number, f"my {SECRET}{{}} secret", metadata={SECRET: SECRET}, session=SECRET)


def _told(count: int) -> list[Step]:
    return [add(*(turn(n) for n in range(1, count + 1)))]


def _stream() -> Iterator[Step]:
    for number in range(10, 200, 3):
        yield add(*(turn(number + more) for more in range(1 + number % 3)))


PLANS: dict[str, tuple[list[Step], list[Step]]] = {
    # name: (what the database holds before, what is interrupted)
    "add": (_told(9), [add(turn(11))]),
    "adds": (
        _told(9),
        [add(turn(11)), add(turn(12), turn(13), turn(14)), add(turn(15), to="n"), add(turn(16))],
    ),
    "make": ([], [add(turn(1)), add(turn(2))]),
    "forget": (
        [*_told(5), add(_secret(6), turn(7), _secret(8), turn(9)), fork("m", "f")],
        [
            hide("m", "t3"),
            forget("m", "t6", forks=True),
            forget("m/f", "t3"),
            forget("m", "t8", forks=True),
        ],
    ),
    "drop": (
        [*_told(5), add(_secret(6), turn(7)), fork("m", "f"), add(_secret(8), turn(9), to="n")],
        [drop("n"), expire("m", SECRET), add(turn(10), to="m/f"), drop("m/f")],
    ),
    "backup": (_told(5), [backup, add(turn(6))]),
    "export": (_told(5), [export, add(turn(6))]),
    "reencode": (
        [*_told(5), fork("m", "f"), add(turn(6), to="m/f")],
        [reencoded(OTHER), reencoded(ENCODER), add(turn(7))],
    ),
    "fork": (_told(8), [fork("m", "f"), fork("m", "g"), add(turn(9)), fork("m", "h")]),
    "stream": (_told(9), list(_stream())),
}
