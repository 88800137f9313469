"""`Catalogue`: the items of all namespaces below a prefix at one moment, to list, filter and rank."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from evomem.store import Namespace
from evomem.together import Together
from evomem_integrations.langgraph.items import Head, head, head_id, is_head, is_piece

Ranked = list[tuple[Head, float]]


class Catalogue:
    """The items that memories hold; other turns in them are none."""

    def __init__(self, together: Together, root: int) -> None:
        """Find the items.

        Args:
            together: The memories.
            root: How many labels their names have before the namespace.
        """
        self.together = together
        self.heads: list[Head] = []
        """In the order of the log, namespace by namespace."""
        self.by_id: dict[tuple[Namespace, str], Head] = {}
        """By namespace and head's id."""
        placed: list[int] = []
        for extract in together.extracts:
            namespace = extract.namespace[root:]
            if not namespace:  # a memory at the root itself is no namespace
                placed += [-1] * len(extract.turns)
                continue
            pieces: dict[str, list[str]] = {}
            of_turns: list[tuple[str, bool]] = []
            places: dict[str, int] = {}
            for turn in extract.turns:
                id = head_id(turn.id)
                if is_piece(turn.metadata):
                    pieces.setdefault(id, []).append(turn.metadata["piece"])
                elif is_head(turn.metadata):
                    item = head(namespace, turn, pieces.pop(id, ()))
                    self.by_id[namespace, id] = item
                    if item.indexed:
                        places[id] = len(self.heads)
                    self.heads.append(item)
                of_turns.append((id, is_piece(turn.metadata)))
            placed += [-1 if is_value else places.get(id, -1) for id, is_value in of_turns]
        self._items = np.array(placed, np.int64)

    @cached_property
    def newest_first(self) -> list[Head]:
        """All items, the one put last at the beginning."""
        return sorted(reversed(self.heads), key=lambda head: head.updated, reverse=True)

    def ranked(self, query: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Return the places in `heads` of the indexed items, best first, and the cosine of each.

        An item of several texts has the score of the best of them.

        Raises:
            HeadMoved: A memory has changed meanwhile.
        """
        scores = np.full(len(self.heads), -np.inf, np.float32)
        cosines = self.together.cosines(query)
        scored = self._items >= 0
        np.maximum.at(scores, self._items[scored], cosines[scored])
        best = len(scores) - 1 - np.argsort(-scores[::-1], kind="stable")  # of equals the newer one
        best = best[: np.count_nonzero(scores > -np.inf)]
        return best, scores[best]
