"""`LruCache`: an LRU cache with a limit in bytes, whose loss changes no result."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from evomem._forking import reset_in_child

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LruCache(Generic[K, V]):
    """Values by key; the least recently used are evicted first. Thread-safe.

    >>> cache = LruCache(10, len)
    >>> for word in ("four", "five", "six"):
    ...     cache.put(word, word)
    >>> cache.get("four"), cache.get("six"), cache.nbytes
    (None, 'six', 7)
    """

    def __init__(self, limit: int, size: Callable[[V], int]) -> None:
        """Hold at most `limit` bytes; `size` returns the bytes of a value."""
        self.limit = limit
        self.nbytes = 0
        self._size = size
        self._held: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()
        reset_in_child(self._after_fork)

    def get(self, key: K) -> V | None:
        """Return the value, or None."""
        with self._lock:
            value = self._held.get(key)
            if value is not None:
                self._held.move_to_end(key)
            return value

    def put(self, key: K, value: V, *, instead_of: K | None = None) -> None:
        """Store `value` unless it alone exceeds the limit; older values are evicted.

        The value of `instead_of` is evicted first.
        """
        size = self._size(value)
        with self._lock:
            for name in (key, instead_of):
                old = None if name is None else self._held.pop(name, None)
                if old is not None:
                    self.nbytes -= self._size(old)
            if size > self.limit:
                return
            self._held[key] = value
            self.nbytes += size
            while self.nbytes > self.limit:
                self.nbytes -= self._size(self._held.popitem(last=False)[1])

    def forget(self, condition: Callable[[K], bool]) -> None:
        """Remove the values whose keys satisfy the condition."""
        with self._lock:
            for key in [key for key in self._held if condition(key)]:
                self.nbytes -= self._size(self._held.pop(key))

    def clear(self) -> None:
        """Remove everything."""
        with self._lock:
            self._held.clear()
            self.nbytes = 0

    def _after_fork(self) -> None:
        was_locked, self._lock = self._lock.locked(), threading.Lock()
        if was_locked:  # another thread was changing the cache
            self.clear()
