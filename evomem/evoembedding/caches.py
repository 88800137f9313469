"""Prefix caches of many states under one limit."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Literal

from evomem.evoembedding.decoder import Cache

Kind = Literal["chunk", "prefix"]


class Caches:
    """Caches by kind and state, least recently used first out, bounded in bytes. Thread-safe."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.nbytes = 0
        self._held: OrderedDict[tuple[Kind, bytes], Cache] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, kind: Kind, key: bytes) -> Cache | None:
        """Return what is held, or None."""
        with self._lock:
            cache = self._held.get((kind, key))
            if cache is not None:
                self._held.move_to_end((kind, key))
            return cache

    def put(self, kind: Kind, key: bytes, cache: Cache) -> None:
        """Hold `cache` unless it alone exceeds the limit; older ones make room."""
        size = cache.nbytes
        with self._lock:
            if old := self._held.pop((kind, key), None):
                self.nbytes -= old.nbytes
            if size > self.limit:
                return
            self._held[kind, key] = cache
            self.nbytes += size
            while self.nbytes > self.limit:
                _, old = self._held.popitem(last=False)
                self.nbytes -= old.nbytes

    def clear(self) -> None:
        """Forget everything; results stay the same."""
        with self._lock:
            self._held.clear()
            self.nbytes = 0
