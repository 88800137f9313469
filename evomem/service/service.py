"""`Service`: the shared state of the endpoints, one per process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, ParamSpec, TypeVar

import anyio

import evomem
from evomem.batching import batches
from evomem.database import Database
from evomem.encoder import BatchEncoder, Encoder
from evomem.errors import StoreError
from evomem.service.key_tables import keys_location
from evomem.service.keys import Entry, KeyStore
from evomem.service.limits import Limits
from evomem.service.metrics import MeteredBatchEncoder, MeteredEncoder, Metrics
from evomem.service.problems import LOG
from evomem.service.session import Session
from evomem.service.settings import Settings
from evomem.service.traces import no_span, start_traces
from evomem.store import Namespace

P = ParamSpec("P")
R = TypeVar("R")

READY = 5.0  # seconds that the database may take to answer
FLUSH = 1.0  # seconds between two writes of the access log
KEPT = 10_000  # maximum number of unwritten lines
DAY = 86_400.0


class Service:
    """A database, the keys to it, and its metrics. Call `open` first, `close` last."""

    db: Database
    session: Session | None = None
    """The session of `evomem inspect`; with it, every request needs its key."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.span = start_traces() if settings.traces else no_span
        self.limits = Limits(settings.in_flight, settings.rate)
        self.keys = KeyStore(settings.keys or keys_location(settings.database))
        self._threads = ThreadPoolExecutor(4, "evomem-keys")
        self._lines: list[Entry] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Open the database and load its encoder."""
        self.db = await asyncio.to_thread(self._open)
        self._tasks = [
            asyncio.create_task(self.metrics.watch_loop()),
            asyncio.create_task(self._keep_log()),
        ]

    async def close(self) -> None:
        """Finish running calls, write the rest of the log, and release everything."""
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await asyncio.to_thread(self.db.close)
        await self._flush()
        self._threads.shutdown()
        self.keys.close()

    async def check(self) -> None:
        """Raise if the database or the keys cannot be read within some seconds."""
        with anyio.fail_after(READY):
            await self.run(self.db._engine.store.find_memory, ("ready?",))
            await self.with_keys(self.keys.any)

    async def run(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a method of the database or a memory on one of the database's threads."""
        return await self.db._engine.run(partial(call, *args, **kwargs))

    async def with_keys(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a method of the key store on a thread that no work on memories occupies."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, partial(call, *args, **kwargs))

    def note(self, key: str, action: str, memory: Namespace, count: int, status: int) -> None:
        """Add a line to the access log; it is written within a second or so."""
        if len(self._lines) < KEPT:
            self._lines.append(Entry(time.time(), key, action, memory, count, status))

    # ---------------------------------------------------------------------------------------

    def _open(self) -> Database:
        settings = self.settings
        encoder: str | Encoder | None = settings.encoder
        options: dict[str, Any] = {} if settings.lease is None else {"lease": settings.lease}
        db = evomem.open(
            settings.database,
            encoder,
            device=settings.device,
            reranker=settings.reranker,
            **options,
        )
        db._engine.wrap_encoder(self._metered)
        db._engine.on_wasted_read.append(self.metrics.vain.inc)
        return db

    def _metered(self, encoder: Encoder) -> Encoder:
        kind: Any = MeteredBatchEncoder if batches(encoder) else MeteredEncoder
        metered: BatchEncoder | Encoder = kind(encoder, self.metrics, self.span)
        return metered

    async def _keep_log(self) -> None:
        pruned = 0.0
        while True:
            await asyncio.sleep(FLUSH)
            await self._flush()
            if time.time() - pruned > DAY / 24:
                pruned = time.time()
                with suppress(StoreError):
                    old = pruned - self.settings.access_days * DAY
                    await self.with_keys(self.keys.forget_accesses, old)

    async def _flush(self) -> None:
        lines, self._lines = self._lines, []
        if not lines:
            return
        try:
            await self.with_keys(self.keys.note, lines)
        except StoreError as error:
            LOG.error("%d lines of the access log are lost: %s", len(lines), error)
