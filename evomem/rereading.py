"""Reads a memory again in the order in which its turns were said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from evomem.checks import MAX_TURNS
from evomem.engine import TRIES, Engine
from evomem.errors import HeadMoved, SharedTurns
from evomem.reading import read_rows
from evomem.records import Record
from evomem.store import Namespace, Row, View

Progress = Callable[[int, int], None]
"""Called as `progress(done, total)` while turns are read."""

BATCH = 64  # turns read per call of `progress`


def reread(engine: Engine, namespace: Namespace, progress: Progress | None) -> int:
    """Sort a memory's turns by their times and read them again, in one transaction.

    Returns the number of turns read, from the first moved turn on; 0 if the memory is sorted.

    Raises:
        SharedTurns: A fork shares a turn that would move or be read again; nothing was written.
    """
    store = engine.store
    with engine.lock(namespace):
        for _ in range(TRIES):
            number = store.find_memory(namespace)
            if number is None:
                return 0
            try:
                with store.snapshot():
                    view = store.view(number)
                    moved = _moved(store.told(view, limit=MAX_TURNS))
                    if not moved:
                        return 0
                    first = min(moved)
                    if forks := store.forks(view, first):
                        names = ", ".join("/".join(fork) for fork in forks)
                        raise SharedTurns(
                            f"turns from {first} on would change places, and forks share them "
                            f"({names}): drop these, or read the memory again before it is forked"
                        )
                    later = store.rows(view, after=first - 1)
                rows = _read(engine, view, first, _placed(later, moved), progress)
                store.rewrite(view, first, rows, moved=moved)
            except HeadMoved:  # another process has written
                continue
            return len(rows)
    raise HeadMoved(
        f"the memory {'/'.join(namespace)!r} changes too often to be read again; try again later"
    )


def _moved(records: Sequence[tuple[Record, int | None]]) -> dict[int, int]:
    """Return the seqs that change, each with its new seq; records come with their replacements' seqs.

    Turns said at the same time keep their order, and a turn stays before its replacement, regardless
    of their times.
    """
    times: dict[int, datetime] = {record.seq: record.time for record, _ in records}
    for record, since in reversed(records):
        if since:
            times[record.seq] = min(times[record.seq], times[since])
    order = sorted(times, key=lambda seq: (times[seq], seq))
    return {old: new for old, new in zip(order, sorted(times), strict=True) if old != new}


def _placed(rows: Sequence[Row], moved: dict[int, int]) -> list[Row]:
    placed = [replace(row, seq=moved.get(row.seq, row.seq)) for row in rows]
    return sorted(placed, key=lambda row: row.seq)


def _read(
    engine: Engine, view: View, first: int, rows: Sequence[Row], progress: Progress | None
) -> list[Row]:
    """Read the turns of `rows` after the turns before `first`; return the rows."""
    with engine.store.snapshot():
        state = engine.store.state(engine.store.view(view.memory, seq=first - 1))
    result: list[Row] = []
    for start in range(0, len(rows), BATCH):
        batch, state = read_rows(engine.reader, state, rows[start : start + BATCH])
        result += batch
        if progress:
            progress(len(result), len(rows))
    return result
