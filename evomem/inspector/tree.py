"""Memories with their sizes, and which were forked from which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evomem.engine import Engine
from evomem.store import Namespace, View


@dataclass(frozen=True, slots=True)
class Node:
    """One memory."""

    memory: Namespace
    turns: int
    """Visible ones."""
    last: int
    """Seq of the newest turn that was ever added."""
    shared: int
    """Up to which seq its turns are those of another memory; 0 if it was not forked."""
    parent: Namespace | None
    """The memory that it shares them with; None if that is not one of those that were asked for."""

    def to_json(self) -> dict[str, Any]:
        """Return the node as plain JSON values."""
        return {
            "memory": list(self.memory),
            "turns": self.turns,
            "last": self.last,
            "shared": self.shared,
            "parent": self.parent and list(self.parent),
        }


def nodes(engine: Engine, names: Sequence[Namespace], prefix: Namespace) -> list[Node]:
    """Return the memories of these names; those that are not there are left out.

    Args:
        engine: What they belong to.
        names: Of the memories.
        prefix: Parents are only named if their names begin so.
    """
    shown: list[Node] = []
    with engine.store.snapshot():
        for name in names:
            number = engine.store.find_memory(name)
            if number is not None:
                shown.append(_node(engine, name, engine.store.view(number), prefix))
    return shown


def forks(engine: Engine, memory: Namespace, limit: int) -> list[Node]:
    """Return the memories that share turns with this one, of the first `limit` below it."""
    below = [name for name in engine.store.memories(memory) if name != memory]
    return [node for node in nodes(engine, below[:limit], memory) if node.parent == memory]


def _node(engine: Engine, name: Namespace, view: View, prefix: Namespace) -> Node:
    inherited = [span for span in view.spans if span.memory != view.memory]
    parent = None
    if inherited:  # a fork's name begins with that of the memory it was forked from
        for length in range(len(name) - 1, max(len(prefix), 1) - 1, -1):
            if engine.store.find_memory(name[:length]) == inherited[-1].memory:
                parent = name[:length]
    return Node(
        name, engine.store.count(view), view.seq, inherited[-1].last if inherited else 0, parent
    )
