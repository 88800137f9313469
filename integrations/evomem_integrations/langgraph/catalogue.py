"""`Catalogue`: a snapshot of the items of all namespaces below a prefix, to list, filter and rank."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from evomem.store import Extract, Namespace
from evomem.together import Together
from evomem_integrations.langgraph.items import Head, head, head_id, is_head, is_piece

Places = npt.NDArray[np.int64]


class Shelf:
    """The items of one namespace; turns of its memory that are not items are ignored."""

    def __init__(self, extract: Extract, namespace: Namespace, old: Shelf | None = None) -> None:
        """Find the items; items that an `old` shelf of the same namespace holds are reused."""
        self.extract = extract
        self.namespace = namespace
        self.heads: list[Head] = []
        """The items in the order of the log."""
        self.by_id: dict[str, Head] = {}
        """The items by id."""
        known: dict[str, Head] = {} if old is None else old.by_id
        items: list[int] = []
        if old is not None and _continues(extract, old.extract):
            self.heads, self.by_id = old.heads.copy(), old.by_id.copy()
            items = old.items.tolist()
        pieces: dict[str, list[str]] = {}
        texts: dict[str, list[int]] = {}
        for turn in extract.turns[len(items) :]:
            id, metadata = head_id(turn.id), turn.metadata
            if not is_head(metadata):
                if is_piece(metadata):
                    pieces.setdefault(id, []).append(metadata["piece"])
                else:
                    texts.setdefault(id, []).append(len(items))
                items.append(-1)
                continue
            item = known.get(id)
            if item is None or item.metadata is not metadata:
                item = head(namespace, turn, pieces.get(id, ()))
            place = len(self.heads) if item.indexed else -1
            for text in texts.get(id, ()):
                items[text] = place
            items.append(place)
            self.heads.append(item)
            self.by_id[id] = item
        self.items: Places = np.array(items, np.int64)
        """For each turn, the index in `heads` of the item that it finds, or -1."""


def _continues(new: Extract, old: Extract) -> bool:
    """Return whether an extract starts with all turns of an older one."""
    count = len(old.turns)
    return 0 < count <= len(new.turns) and new.turns[count - 1] is old.turns[-1]


class Catalogue:
    """The items of all namespaces below a prefix."""

    def __init__(self, together: Together, root: int, old: Catalogue | None = None) -> None:
        """Find the items.

        Args:
            together: The memories below the prefix.
            root: The number of labels in their names before the namespace.
            old: The previous catalogue of the same prefix, whose shelves are reused.
        """
        self.together = together
        self.shelves: list[Shelf] = []
        known = {} if old is None else {shelf.extract.memory: shelf for shelf in old.shelves}
        for extract in together.extracts:
            shelf = known.get(extract.memory)
            if shelf is None or shelf.extract is not extract:
                shelf = Shelf(extract, extract.namespace[root:], shelf)
            self.shelves.append(shelf)
        self.heads: list[Head] = [
            head for shelf in self.shelves if shelf.namespace for head in shelf.heads
        ]
        """Namespace by namespace, in the order of the log; a memory at the root is not a namespace."""

    @cached_property
    def newest_first(self) -> list[Head]:
        """All items, the most recently put first."""
        return sorted(reversed(self.heads), key=lambda head: head.updated, reverse=True)

    @cached_property
    def by_key(self) -> dict[tuple[Namespace, str], Head]:
        """The items by namespace and key."""
        return {(head.namespace, head.key): head for head in self.heads}

    def ranked(self, query: str) -> tuple[Places, npt.NDArray[np.float32]]:
        """Return the indices in `heads` of the indexed items, best first, and their cosines.

        An item of several texts has the score of its best text.

        Raises:
            HeadMoved: A memory has changed since the catalogue was read.
        """
        scores = np.full(len(self.heads), -np.inf, np.float32)
        cosines = self.together.cosines(query)
        scored = self._items >= 0
        np.maximum.at(scores, self._items[scored], cosines[scored])
        best = len(scores) - 1 - np.argsort(-scores[::-1], kind="stable")  # ties: newer first
        best = best[: np.count_nonzero(scores > -np.inf)]
        return best, scores[best]

    @cached_property
    def _items(self) -> Places:
        """For each turn of the memories, the index in `heads` of its item, or -1."""
        parts: list[Places] = [np.zeros(0, np.int64)]
        before = 0
        for shelf in self.shelves:
            if shelf.namespace:
                parts.append(np.where(shelf.items < 0, -1, shelf.items + before))
                before += len(shelf.heads)
            else:
                parts.append(np.full(len(shelf.items), -1))
        return np.concatenate(parts)
