"""Memories with their sizes and their parents."""

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
    """The number of visible turns."""
    last: int
    """The seq of the newest turn ever added."""
    shared: int
    """The last seq that it shares with its parent; 0 if it is not a fork."""
    parent: Namespace | None
    """The memory with which it shares these turns; None if that is not below the requested prefix."""

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
    """Return the memories with these names; missing ones are left out.

    Args:
        engine: The memories' engine.
        names: Their names.
        prefix: Only parents whose names begin with it are named.
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
