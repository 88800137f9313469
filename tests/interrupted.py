"""An encoder in the middle of whose work something else happens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from evomem import Turn
from evomem.encoder import HashEncoder
from evomem.state import Reading, State, Vectors


class Interrupted(HashEncoder):
    """The hashing encoder; does something else once, while it embeds a query or reads a turn."""

    meanwhile: Callable[[], Any] | None = None
    queries = 0

    def _interrupt(self) -> None:
        action, self.meanwhile = self.meanwhile, None
        if action:
            action()

    def embed_queries(self, state: State[Turn], queries: Any) -> Vectors:
        self.queries += 1
        vectors = super().embed_queries(state, queries)
        self._interrupt()
        return vectors

    def read(self, state: State[Turn], turns: Any) -> list[Reading]:
        self._interrupt()
        return super().read(state, turns)
