"""A preview of the effects of a purge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evomem.errors import NotFound
from evomem.influence import find_influence
from evomem.memory_view import MemoryView
from evomem.records import Record
from evomem.store import Namespace


@dataclass(frozen=True, slots=True)
class Some:
    """A number of turns, and the first of them."""

    count: int
    turns: Sequence[Record]

    def to_json(self) -> dict[str, Any]:
        """Return them as plain JSON values."""
        return {"count": self.count, "turns": [turn.to_json() for turn in self.turns]}


@dataclass(frozen=True, slots=True)
class Preview:
    """The turns that `Memory.purge` would remove and read again; nothing was changed."""

    turn: Record
    replaced: Sequence[Record]
    """Turns that it replaced, which are purged with it."""
    reread: int
    """The number of later turns that would be read again."""
    direct: Some
    """As in `Influence`: turns that were read with it in the queue."""
    indirect: Some
    answers: Some
    forks: Sequence[Namespace]
    """Forks that also have it."""
    sharing: Sequence[Namespace]
    """Memories that share it or later turns, from which it has to be purged, too."""

    def to_json(self) -> dict[str, Any]:
        """Return the preview as plain JSON values."""
        return {
            "turn": self.turn.to_json(),
            "replaced": [turn.to_json() for turn in self.replaced],
            "reread": self.reread,
            "direct": self.direct.to_json(),
            "indirect": self.indirect.to_json(),
            "answers": self.answers.to_json(),
            "forks": [list(name) for name in self.forks],
            "sharing": [list(name) for name in self.sharing],
        }


def preview(memory: MemoryView, id: str, *, limit: int) -> Preview:
    """Return what purging a turn would do.

    Args:
        memory: As it is now.
        id: The turn; it may have been deleted.
        limit: How many turns of each kind are returned at most; all are counted.

    Raises:
        NotFound: There is no such turn.
    """
    engine = memory._engine
    store = engine.store
    with store.snapshot():
        view = memory._view()
        record = store.find(view, [id]).get(id)
        influence = record and find_influence(engine, memory.namespace, view, id, forks=True)
        if not record or not influence:
            raise NotFound(f"{memory!r} has no turn with the id {id!r}")
        replaced = store.replaced(view, [record.seq]).get(record.seq, [])
        first = min([record, *replaced], key=lambda turn: turn.seq).seq
        later = len(store.traces(view, after=first)) - len(replaced)

        def some(ids: Sequence[str]) -> Some:
            named = store.find(view, ids[:limit]).values()
            return Some(len(ids), sorted(named, key=lambda turn: turn.seq))

        return Preview(
            record,
            replaced,
            later,
            some(influence.direct),
            some(influence.indirect),
            some(influence.answers),
            [fork.memory for fork in influence.forks],
            store.forks(view, first),
        )
