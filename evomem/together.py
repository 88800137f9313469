"""`Together`: the memories below a prefix, read and searched at once.

With many small memories, such as one per user, reading each separately takes hundreds of statements
per query. Here, turns are cached, and one statement checks whether they are current.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from evomem.engine import Engine
from evomem.errors import EncoderError, HeadMoved
from evomem.lru_cache import LruCache
from evomem.records import Turn
from evomem.state import State, Vectors
from evomem.store import Extract, Listed, Namespace

MAX_BYTES = 2**29  # of extracts in memory; larger prefixes are read again each time
MAX_SIZES = 100_000  # memories whose sizes are kept

_Sizes = tuple[tuple[int, ...], Mapping[Namespace, int]]


@dataclass(eq=False)
class Together:
    """The turns of all memories below a prefix, at one point in time."""

    extracts: list[Extract]
    prefix: Namespace
    version: tuple[int, ...]
    _engine: Engine = field(repr=False)

    @property
    def nbytes(self) -> int:
        """Approximate bytes in memory."""
        return 1024 + sum(extract.nbytes for extract in self.extracts)

    def is_current(self) -> bool:
        """Return whether nothing has changed since this was read, with one statement.

        False for a service, where asking costs as much as reading.
        """
        return self._engine.store.version(self.prefix) == self.version

    @cached_property
    def turns(self) -> list[tuple[Namespace, Listed]]:
        """All visible turns, without their texts, by namespace and in log order."""
        return [(extract.namespace, turn) for extract in self.extracts for turn in extract.turns]

    def cosines(self, query: str) -> npt.NDArray[np.float32]:
        """Return the cosine of each of `turns` with a query, (n,) float32.

        The query is embedded with the state of each memory, as in `search(mode="evolvable")`; only
        once if the encoder has no latents.

        Raises:
            HeadMoved: A memory has changed since it was read: read it again.
        """
        if not self.turns:
            return np.zeros(0, np.float32)
        spec = self._engine.store.spec
        if not spec.latents:
            scores = self._vectors @ self._embed(State[Turn].empty(spec), query)
        else:
            parts = [
                extract.vectors @ self._embed(self._state(extract), query)
                for extract in self.extracts
                if extract.turns
            ]
            scores = np.concatenate(parts)
        best: npt.NDArray[np.float32] = np.maximum.reduceat(scores, self._starts)
        return best

    @cached_property
    def _vectors(self) -> Vectors:
        parts = [extract.vectors for extract in self.extracts]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    @cached_property
    def _starts(self) -> npt.NDArray[np.int64]:
        """The place of each turn's first vector, (n,)."""
        counts = [np.bincount(extract.owners) for extract in self.extracts if extract.turns]
        sizes = np.concatenate(counts)
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)[:-1]])

    def _state(self, extract: Extract) -> State[Turn]:
        state = self._engine.known_state(extract.key)
        if state is not None:
            return state
        store = self._engine.store
        with store.snapshot():
            view = store.view(extract.memory)
            if view.key != extract.key:
                raise HeadMoved(f"memory {extract.memory} has changed since it was read")
            return self._engine.state(view)

    def _embed(self, state: State[Turn], query: str) -> Vectors:
        vector: Vectors = self._engine.reader.embed_queries(state, [query])[0]
        if vector.shape != (self._engine.store.spec.dim,) or not np.isfinite(vector).all():
            raise EncoderError(f"the encoder gave an unusable vector for the query {query[:60]!r}")
        return vector


class TogetherCache:
    """A cache of memories' turns. Thread-safe; losing it changes no result."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._extracts: LruCache[int, Extract] = LruCache(MAX_BYTES, lambda entry: entry.nbytes)
        self._sizes: LruCache[Namespace, _Sizes] = LruCache(MAX_SIZES, lambda entry: len(entry[1]))
        self._read: LruCache[Namespace, Together] = LruCache(MAX_BYTES, lambda entry: entry.nbytes)

    def sizes(self, prefix: Namespace) -> Mapping[Namespace, int]:
        """Return the number of visible turns of each memory below a prefix, sorted by namespace."""
        store = self._engine.store
        with store.snapshot():
            version = store.version(prefix)
            cached = self._sizes.get(prefix)
            if cached is None or cached[0] != version:
                cached = version, MappingProxyType(store.sizes(prefix))
                self._sizes.put(prefix, cached)
            return cached[1]

    def read(self, prefix: Namespace) -> Together:
        """Return the current turns of all memories below a prefix."""
        store = self._engine.store
        with store.snapshot():
            version = store.version(prefix)
            cached = self._read.get(prefix)
            if cached is not None and cached.version == version:
                return cached
            extracts = store.extracts(prefix, self._extracts.get)
        for extract in extracts:
            self._extracts.put(extract.memory, extract)
        new = Together(extracts, prefix, version, self._engine)
        self._read.put(prefix, new)
        return new
