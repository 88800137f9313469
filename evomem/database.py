"""`open`: a database of memories, and the encoder that reads into it."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

from evomem.checks import check_labels
from evomem.encoder import Encoder
from evomem.errors import FingerprintMismatch, NotFound
from evomem.memory import Memory
from evomem.plugins import DEFAULT_ENCODER, load_encoder, store_opener
from evomem.records import Turn
from evomem.state import Spec, State
from evomem.store import Index, Namespace, Store, View

R = TypeVar("R")

STATES_BYTES = 64 * 2**20  # of recently used memories' states, kept to save reading the log


def open(
    location: str,
    encoder: str | Encoder | None = None,
    *,
    device: str | None = None,
    dtype: str | None = None,
    create: bool = True,
    **options: Any,
) -> Database:
    """Open a database, making it if it does not exist.

    Args:
        location: A file such as `"agent.db"`, `":memory:"`, or a URL whose scheme names a store.
        encoder: An encoder, or what `load_encoder` takes: `"static:all-MiniLM-L6-v2"`, a model's
            folder, a hub id such as `"MiG-NJU/EvoEmbedding-4B"`. If not given: the one that the
            database was written by, or the default for a new one.
        device: Where the encoder runs, such as `"cuda"`.
        dtype: The precision it computes in: `"float32"`, `"bfloat16"`, `"float16"`.
        create: Whether to make the database if there is none.
        **options: For the store, such as `synchronous="NORMAL"`.

    Raises:
        NotFound: There is no database and `create` is false.
        FingerprintMismatch: The database was written by another encoder.
        DatabaseDamaged: The file is not a database of ours or cannot be read.
    """
    opener = store_opener(location)
    loading = {
        name: value for name, value in (("device", device), ("dtype", dtype)) if value is not None
    }
    ready = load_encoder(encoder, **loading) if isinstance(encoder, str) else encoder
    try:
        store, index = opener(location, ready.spec if ready and create else None, **options)
    except NotFound:
        if not create:
            raise
        ready = load_encoder(DEFAULT_ENCODER, **loading)
        store, index = opener(location, ready.spec, **options)
    try:
        return Database(store, index, ready, **loading)
    except FingerprintMismatch:
        store.close()
        raise


class Database:
    """Memories in one store, read by one encoder. Close it, or use it as a context manager."""

    def __init__(self, store: Store, index: Index, encoder: Encoder | None, **loading: str) -> None:
        self.store = store
        self.index = index
        self._encoder = encoder
        self._loading = loading
        self._numbers: dict[Namespace, int] = {}
        self._locks: defaultdict[Namespace, threading.RLock] = defaultdict(threading.RLock)
        self._guard = threading.Lock()
        self._states: OrderedDict[bytes, State[Turn]] = OrderedDict()
        self._writer: ThreadPoolExecutor | None = None
        if encoder:
            self._check(encoder)

    def memory(self, *labels: str) -> Memory:
        """Return the memory at this namespace, such as `db.memory("acme", "alice")`.

        It comes into being with its first turn.

        Raises:
            NamespaceError: A label is empty or cannot be stored.
        """
        check_labels(labels)
        return Memory(self, labels)

    def memories(self, *prefix: str) -> list[Namespace]:
        """Return the namespaces of all memories that begin with `prefix`, sorted."""
        return self.store.memories(prefix)

    @property
    def spec(self) -> Spec:
        """The encoder that this database was written by."""
        return self.store.spec

    @property
    def encoder(self) -> Encoder:
        """The encoder; loaded when it is first needed if it was not given to `open`."""
        with self._guard:
            if self._encoder is None:
                options = {"dtype": self.spec.dtype, **self._loading}
                if self.spec.dtype == "float32" and "dtype" not in self._loading:
                    del options["dtype"]  # every encoder's own default, or its only precision
                encoder = load_encoder(self.spec.name, **options)
                self._check(encoder)
                self._encoder = encoder
            return self._encoder

    def stats(self) -> dict[str, Any]:
        """Return counts and sizes, and the encoder's name."""
        return {"encoder": self.spec.name, **self.store.stats()}

    def verify(self) -> list[str]:
        """Check the log, its digest chain and the index files; return what is wrong."""
        return [*self.store.verify(), *self.index.verify()]

    def close(self) -> None:
        """Release everything; harmless when repeated."""
        if self._writer:
            self._writer.shutdown()
            self._writer = None
        self.index.close()
        self.store.close()

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # for `Memory` --------------------------------------------------------------------------

    def number(self, namespace: Namespace) -> int | None:
        """Return the store's number of a memory, None if it does not exist yet."""
        if namespace not in self._numbers:
            number = self.store.find_memory(namespace)
            if number is None:
                return None
            self._numbers[namespace] = number
        return self._numbers[namespace]

    def make(self, namespace: Namespace) -> int:
        """Return the store's number of a memory, making the memory if it does not exist yet."""
        return self.number(namespace) or self.store.make_memory(namespace)

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
            self._states[state.key] = state
            while sum(kept.latents.nbytes + 1024 for kept in self._states.values()) > STATES_BYTES:
                self._states.popitem(last=False)

    async def run(self, call: Callable[[], R], *, ordered: bool) -> R:
        """Run `call` on a thread; ordered ones one at a time, in the order of the calls."""
        if not ordered:
            return await asyncio.to_thread(call)
        if self._writer is None:
            self._writer = ThreadPoolExecutor(1, thread_name_prefix="evomem-writer")
        return await asyncio.get_running_loop().run_in_executor(self._writer, call)

    def _check(self, encoder: Encoder) -> None:
        if encoder.spec.fingerprint != self.spec.fingerprint:
            raise FingerprintMismatch(
                f"the database was written by the encoder {self.spec.name!r} (fingerprint "
                f"{self.spec.fingerprint[:12]}…), not by {encoder.spec.name!r} "
                f"({encoder.spec.fingerprint[:12]}…): open it without encoder= to use its own, "
                "or read the turns into a new database"
            )
