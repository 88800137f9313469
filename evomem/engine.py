"""`Engine`: a store, an index and an encoder, with caches between calls.

Caches can be rebuilt from the log, and affect no result.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time as clock
from collections.abc import Callable
from datetime import timezone, tzinfo
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakValueDictionary

from evomem._forking import reset_in_child
from evomem.batching import Batcher, shared
from evomem.encoder import Encoder
from evomem.errors import FingerprintMismatch
from evomem.lru_cache import LruCache
from evomem.ordered_executor import OrderedExecutor
from evomem.plugins import load_encoder
from evomem.records import Turn
from evomem.state import State
from evomem.store import Index, Namespace, Store, View

if TYPE_CHECKING:
    from evomem.reranking import Reranker

R = TypeVar("R")

TRIES = 100  # lost races against other processes before a call gives up
CONTENDED = 10.0  # seconds for which a memory counts as contended after another process wrote to it
STATES_BYTES = 64 * 2**20  # of cached states of recently used memories


class Engine:
    """The shared parts of one database's memories. Safe to use from many threads."""

    _lanes: OrderedExecutor

    def __init__(
        self,
        store: Store,
        index: Index,
        encoder: Encoder | None,
        zone: tzinfo = timezone.utc,
        reranker: Reranker | None = None,
        **loading: str,
    ) -> None:
        """Combine the parts.

        Args:
            store: The log.
            index: The index of that log.
            encoder: The encoder; None to load the one that wrote the store on first use.
            zone: The time zone of queries that name no other.
            reranker: For searches with `rerank`.
            **loading: `device` and `dtype` for loading the encoder.

        Raises:
            FingerprintMismatch: The log was written by another encoder.
        """
        self.store = store
        self.index = index
        self.zone = zone
        self.reranker = reranker
        self._encoder = encoder
        self._loading = loading
        self._contended: dict[Namespace, float] = {}
        self._states: LruCache[bytes, State[Turn]] = LruCache(STATES_BYTES, _size)
        self._reader: Encoder | None = None
        self.read_in_vain = 0
        """Turns that this process read but did not write, because another process wrote first."""
        self.on_wasted_read: list[Callable[[int], None]] = []
        """Called with the number of turns of each wasted read."""
        self._make_locks()
        reset_in_child(self._make_locks)
        if encoder:
            self._check(encoder)

    @property
    def encoder(self) -> Encoder:
        """The encoder; loaded on first use if it was not passed."""
        with self._guard:
            if self._encoder is None:
                self.store.check_encoder()  # an edited name could load any folder or model
                spec, options = self.store.spec, dict(self._loading)
                if spec.dtype != "float32":  # the default of encoders
                    options.setdefault("dtype", spec.dtype)
                encoder = load_encoder(spec.name, **options)
                self._check(encoder)
                self._encoder = encoder
            return self._encoder

    @property
    def reader(self) -> Encoder:
        """The encoder, wrapped for use from many threads (`evomem.batching`)."""
        encoder = self.encoder
        with self._guard:
            if self._reader is None:
                self._reader = shared(encoder)
            return self._reader

    def wrap_encoder(self, wrap: Callable[[Encoder], Encoder]) -> None:
        """Load the encoder and replace it with `wrap(encoder)`, before anything is read."""
        encoder = self.encoder
        with self._guard:
            self._encoder = wrap(encoder)

    def lock(self, namespace: Namespace) -> threading.RLock:
        """Return the lock that this process holds while it writes to a memory.

        Raises:
            StoreError: The database cannot be written.
        """
        self.store.check_writable()
        with self._guard:
            lock = self._locks.get(namespace)
            if lock is None:
                lock = self._locks[namespace] = threading.RLock()
            return lock

    def is_contended(self, namespace: Namespace) -> bool:
        """Return whether another process recently wrote to a memory at the same time as this one."""
        until = self._contended.get(namespace)
        if until is not None and clock.monotonic() >= until:
            self._contended.pop(namespace, None)
            return False
        return until is not None

    def note_contention(self, namespace: Namespace) -> None:
        """Record that another process writes to a memory at the same time as this one."""
        self._contended[namespace] = clock.monotonic() + CONTENDED

    def note_wasted_read(self, turns: int) -> None:
        """Record that turns were read but not written, because another process wrote first."""
        with self._guard:
            self.read_in_vain += turns
        for listener in self.on_wasted_read:
            listener(turns)

    def state(self, view: View) -> State[Turn]:
        """Return the state at the view's end, from the cache or rebuilt from the log."""
        state = self._states.get(view.key)
        if state is None:
            state = self.store.state(view)
            self.remember(state)
        return state

    def known_state(self, key: bytes) -> State[Turn] | None:
        """Return the state with this key if it is cached."""
        return self._states.get(key)

    def remember(self, state: State[Turn], *, instead_of: bytes | None = None) -> None:
        """Cache a state for the next call; the least recently used states are evicted first.

        Args:
            state: The state of a memory.
            instead_of: The key of the previous state, which is unlikely to be needed again.
        """
        self._states.put(state.key, state, instead_of=instead_of)

    async def run(self, call: Callable[[], R], lane: Namespace | None = None) -> R:
        """Run `call` on a thread; calls of one lane run one at a time, in order.

        Raises:
            StoreError: The database was closed.
        """
        context = contextvars.copy_context()
        return await asyncio.wrap_future(self._lanes.submit(lambda: context.run(call), lane))

    def close(self) -> None:
        """Finish running calls and release everything; harmless when repeated."""
        self._lanes.close()
        if isinstance(self._reader, Batcher):
            self._reader.close()
        self.index.close()
        self.store.close()

    def _make_locks(self) -> None:
        """Create the locks and the thread pools, at construction and in a forked child."""
        # Weak: keeps only locks in use, since a service may write to any number of memories.
        self._locks: WeakValueDictionary[Namespace, Any] = WeakValueDictionary()
        self._guard = threading.Lock()
        self._lanes = OrderedExecutor()

    def _check(self, encoder: Encoder) -> None:
        stored, passed = self.store.spec, encoder.spec
        if passed.fingerprint != stored.fingerprint:
            raise FingerprintMismatch(
                f"the database was written by the encoder {stored.name!r} (fingerprint "
                f"{stored.fingerprint[:12]}…), not by {passed.name!r} ({passed.fingerprint[:12]}…): open "
                "it with that encoder, or read its turns again with this one: evomem reencode"
            )


def _size(state: State[Turn]) -> int:
    return state.latents.nbytes + 1024
