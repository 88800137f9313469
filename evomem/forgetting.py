"""Removal of turns with their influence, and of whole memories; each call returns a `Receipt`."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from evomem.engine import TRIES, Engine
from evomem.errors import HeadMoved, NotFound, SharedTurns
from evomem.reading import read_rows
from evomem.records import Record
from evomem.store import Namespace, Row, View

Progress = Callable[[int, int], None]
"""Called as `progress(done, total)` while many turns are read."""

Choose = Callable[[View], list[Record]]
"""Returns the turns of a view that are to be forgotten."""

BATCH = 64  # turns that are read between two calls of `progress`


def _now() -> datetime:
    return datetime.now(timezone.utc)


@dataclass(frozen=True, slots=True)
class Receipt:
    """The record of a removal."""

    memories: tuple[Namespace, ...]
    """The memory itself, then forks; or the memories that were dropped as a whole."""
    ids: tuple[str, ...]
    """The ids of the turns, each once; empty if whole memories were dropped."""
    turns: int
    """How many turns were erased, including those of forks."""
    reread: int = 0
    """How many later turns were read again, to remove the influence on them."""
    kept: int = 0
    """Turns of dropped memories that stay for forks which share them, until these are dropped."""
    clean: bool = True
    """Whether the text is in no file any more. If false with SQLite: another process was reading, so
    the write-ahead log still has the text until the next process opens, purges or closes the
    database. It is always false on PostgreSQL, until `Database.compact`."""
    time: datetime = field(default_factory=_now)
    """When, UTC."""

    def to_json(self) -> dict[str, Any]:
        """Return the receipt as plain JSON values."""
        return {
            "memories": [list(namespace) for namespace in self.memories],
            "ids": list(self.ids),
            "turns": self.turns,
            "reread": self.reread,
            "kept": self.kept,
            "clean": self.clean,
            "time": self.time.isoformat(),
        }


def forget(
    engine: Engine, namespace: Namespace, choose: Choose, forks: bool, progress: Progress | None
) -> Receipt:
    """Forget the turns that `choose` returns, and read everything after the first one again.

    The turns that they replaced (`Store.append`) are forgotten with them.

    Each memory is changed in one transaction; after an interruption between forks, call this again.

    Raises:
        SharedTurns: Forks share such turns or later ones, and `forks` is not set.
    """
    parts: list[Receipt] = []
    shared: SharedTurns | None = None
    with engine.lock(namespace):
        for _ in range(TRIES):
            number = engine.store.find_memory(namespace)
            if number is None:
                break
            try:
                with engine.store.snapshot():
                    view = engine.store.view(number)
                    gone = {record.seq: record for record in choose(view)}
                if not gone:
                    break
                for earlier in engine.store.replaced(view, gone).values():
                    gone |= {record.seq: record for record in earlier}
                if forks:
                    parts += _forget_in_forks(engine, namespace, list(gone.values()), progress)
                rows = _without(engine, view, gone, progress)
                clean = engine.store.rewrite(view, min(gone), rows)
            except HeadMoved:
                continue
            except SharedTurns as error:
                if not forks:
                    raise
                shared = error  # a fork was made meanwhile: forget in it as well
                continue
            ids = tuple(record.id for record in gone.values())
            parts.insert(0, Receipt((namespace,), ids, len(gone), len(rows), clean=clean))
            return Receipt(
                memories=tuple(name for part in parts for name in part.memories),
                ids=ids,
                turns=sum(part.turns for part in parts),
                reread=sum(part.reread for part in parts),
                clean=all(part.clean for part in parts),
            )
        else:
            raise shared or HeadMoved(
                f"the memory {'/'.join(namespace)!r} changes too often to be purged; try again later"
            )
    return Receipt((), (), 0)


def drop(engine: Engine, prefix: Namespace, *, below: bool) -> Receipt:
    """Drop the memory at `prefix`, and those `below` it. Raises `NotFound` if there is none."""
    result = engine.store.drop(prefix, below=below)
    if not result.memories:
        raise NotFound(f"there is no memory {'/'.join(prefix)!r} to drop")
    memories = tuple(result.memories)
    return Receipt(memories, (), result.erased, kept=result.kept, clean=result.clean)


def _forget_in_forks(
    engine: Engine, namespace: Namespace, gone: list[Record], progress: Progress | None
) -> list[Receipt]:
    """Forget turns in every fork, including forks with copies since an earlier purge."""
    same = {record.id: (record.turn.content, record.added) for record in gone}

    def copies(view: View) -> list[Record]:
        records = engine.store.find(view, list(same)).items()
        return [copy for id, copy in records if (copy.turn.content, copy.added) == same[id]]

    below = [name for name in engine.store.memories(namespace) if name != namespace]
    forks_first = reversed(below)  # those of forks before the forks
    parts = [forget(engine, name, copies, False, progress) for name in forks_first]
    return [part for part in parts if part.turns]


def _without(
    engine: Engine, view: View, gone: Collection[int], progress: Progress | None
) -> list[Row]:
    """Return the rows after the first of `gone`, read again as if these were never said."""
    first, store = min(gone), engine.store
    with store.snapshot():
        later = [row for row in store.rows(view, after=first) if row.seq not in gone]
        state = store.state(store.view(view.memory, seq=first - 1))
    rows: list[Row] = []
    for start in range(0, len(later), BATCH):
        read, state = read_rows(engine.reader, state, later[start : start + BATCH])
        rows += read
        if progress:
            progress(len(rows), len(later))
    return rows
