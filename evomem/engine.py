"""`Engine`: a store, an index and an encoder, and what is kept between calls to save work.

Everything kept here can be had again from the log; nothing of it decides a result.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from evomem.encoder import Encoder
from evomem.errors import FingerprintMismatch
from evomem.plugins import load_encoder
from evomem.records import Turn
from evomem.state import State
from evomem.store import Index, Namespace, Store, View

R = TypeVar("R")

STATES_BYTES = 64 * 2**20  # of recently used memories' states, kept to save reading the log


class Engine:
    """What the memories of one database share. Safe to use from many threads."""

    def __init__(self, store: Store, index: Index, encoder: Encoder | None, **loading: str) -> None:
        """Put the parts together.

        Args:
            store: The log.
            index: Of that log.
            encoder: What reads turns; None to load the store's own when it is first needed.
            **loading: `device` and `dtype` for loading it.

        Raises:
            FingerprintMismatch: The log was written by another encoder.
        """
        self.store = store
        self.index = index
        self._encoder = encoder
        self._loading = loading
        self._locks: defaultdict[Namespace, threading.RLock] = defaultdict(threading.RLock)
        self._guard = threading.Lock()
        self._states: OrderedDict[bytes, State[Turn]] = OrderedDict()
        self._states_bytes = 0
        self._writer: ThreadPoolExecutor | None = None
        if encoder:
            self._check(encoder)

    @property
    def encoder(self) -> Encoder:
        """The encoder; loaded when it is first needed if it was not given."""
        with self._guard:
            if self._encoder is None:
                spec, options = self.store.spec, dict(self._loading)
                if spec.dtype != "float32":  # which is what encoders compute in unless told
                    options.setdefault("dtype", spec.dtype)
                encoder = load_encoder(spec.name, **options)
                self._check(encoder)
                self._encoder = encoder
            return self._encoder

    def lock(self, namespace: Namespace) -> threading.RLock:
        """Return the lock under which this process writes to a memory."""
        with self._guard:
            return self._locks[namespace]

    def state(self, view: View) -> State[Turn]:
        """Return the state at the view's end: remembered, or rebuilt from the log."""
        with self._guard:
            if view.key in self._states:
                self._states.move_to_end(view.key)
                return self._states[view.key]
        state = self.store.state(view)
        self.remember(state)
        return state

    def remember(self, state: State[Turn]) -> None:
        """Keep a state for the next call; the least recently used ones go first."""
        with self._guard:
            old = self._states.pop(state.key, None)
            self._states[state.key] = state
            self._states_bytes += _size(state) - (_size(old) if old else 0)
            while self._states_bytes > STATES_BYTES:
                self._states_bytes -= _size(self._states.popitem(last=False)[1])

    async def run(self, call: Callable[[], R], *, ordered: bool) -> R:
        """Run `call` on a thread; ordered ones one at a time, in the order of the calls."""
        if not ordered:
            return await asyncio.to_thread(call)
        if self._writer is None:
            self._writer = ThreadPoolExecutor(1, thread_name_prefix="evomem-writer")
        return await asyncio.get_running_loop().run_in_executor(self._writer, call)

    def close(self) -> None:
        """Release everything; harmless when repeated."""
        if self._writer:
            self._writer.shutdown()
            self._writer = None
        self.index.close()
        self.store.close()

    def _check(self, encoder: Encoder) -> None:
        own, given = self.store.spec, encoder.spec
        if given.fingerprint != own.fingerprint:
            raise FingerprintMismatch(
                f"the database was written by the encoder {own.name!r} (fingerprint "
                f"{own.fingerprint[:12]}…), not by {given.name!r} ({given.fingerprint[:12]}…): open "
                "it without encoder= to use its own, or read the turns into a new database"
            )


def _size(state: State[Turn]) -> int:
    return state.latents.nbytes + 1024
