"""Removes turns with their influence, and whole memories; each call returns a `Receipt`."""

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
"""Called as `progress(done, total)` while turns are read."""

Choose = Callable[[View], list[Record]]
"""Returns the turns of a view to forget."""

BATCH = 64  # turns read per call of `progress`


def _now() -> datetime:
    return datetime.now(timezone.utc)


@dataclass(frozen=True, slots=True)
class Receipt:
    """The record of a removal."""

    memories: tuple[Namespace, ...]
    """The memory, then its forks; or the dropped memories."""
    ids: tuple[str, ...]
    """The ids of the turns, without duplicates; empty if whole memories were dropped."""
    turns: int
    """The number of erased turns, including those of forks."""
    reread: int = 0
    """The number of later turns that were read again, to remove the influence on them."""
    kept: int = 0
    """The number of turns of dropped memories that stay until the forks that share them are dropped."""
    clean: bool = True
    """Whether the text has been removed from every file. If false with SQLite: another process was
    reading, so the write-ahead log has the text until the next process opens, purges or closes the
    database. Always false on PostgreSQL, where the text stays until `Database.compact`."""
    time: datetime = field(default_factory=_now)
    """The time of the removal, UTC."""

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
    """Forget the turns that `choose` returns, and read all turns after the first of them again.

    The turns that they replaced (`Store.append`) are forgotten, too. Each memory is changed in one
    transaction; after an interruption between forks, call this again.

    Raises:
        SharedTurns: Forks share these or later turns, and `forks` is not set.
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
                    chosen = {record.seq: record for record in choose(view)}
                if not chosen:
                    break
                for earlier in engine.store.replaced(view, chosen).values():
                    chosen |= {record.seq: record for record in earlier}
                if forks:
                    parts += _forget_in_forks(engine, namespace, list(chosen.values()), progress)
                rows = _without(engine, view, chosen, progress)
                clean = engine.store.rewrite(view, min(chosen), rows)
            except HeadMoved:
                continue
            except SharedTurns as error:
                if not forks:
                    raise
                shared = error  # forked in the meantime: forget the turns in the fork, too
                continue
            ids = tuple(record.id for record in chosen.values())
            parts.insert(0, Receipt((namespace,), ids, len(chosen), len(rows), clean=clean))
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
    """Drop the memory at `prefix` and, if `below`, those below it. Raises `NotFound` if there are none."""
    result = engine.store.drop(prefix, below=below)
    if not result.memories:
        raise NotFound(f"there is no memory {'/'.join(prefix)!r} to drop")
    memories = tuple(result.memories)
    return Receipt(memories, (), result.erased, kept=result.kept, clean=result.clean)


def _forget_in_forks(
    engine: Engine, namespace: Namespace, chosen: list[Record], progress: Progress | None
) -> list[Receipt]:
    """Forget turns in every fork, including forks that have copies of them since a purge."""
    originals = {record.id: (record.turn.content, record.added) for record in chosen}

    def copies(view: View) -> list[Record]:
        records = engine.store.find(view, list(originals)).items()
        return [copy for id, copy in records if (copy.turn.content, copy.added) == originals[id]]

    below = [name for name in engine.store.memories(namespace) if name != namespace]
    forks_first = reversed(below)  # forks of forks before their parents
    parts = [forget(engine, name, copies, False, progress) for name in forks_first]
    return [part for part in parts if part.turns]


def _without(
    engine: Engine, view: View, chosen: Collection[int], progress: Progress | None
) -> list[Row]:
    """Return the rows after the first of `chosen`, read again as if these had never been said."""
    first, store = min(chosen), engine.store
    with store.snapshot():
        later = [row for row in store.rows(view, after=first) if row.seq not in chosen]
        state = store.state(store.view(view.memory, seq=first - 1))
    rows: list[Row] = []
    for start in range(0, len(later), BATCH):
        read, state = read_rows(engine.reader, state, later[start : start + BATCH])
        rows += read
        if progress:
            progress(len(rows), len(later))
    return rows
