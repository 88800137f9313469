"""Runs calls on threads: in order, one at a time, within a lane; lanes run in parallel."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from evomem.errors import closed

R = TypeVar("R")

THREADS = 64  # per pool, created on demand


class OrderedExecutor:
    """Runs calls for an event loop. Calls can be cancelled until they start."""

    def __init__(self) -> None:
        self._closed = False
        self._here = threading.local()
        self._free = ThreadPoolExecutor(THREADS, "evomem-reader", self._note_thread)
        self._ordered = ThreadPoolExecutor(THREADS, "evomem-writer", self._note_thread)
        self._lanes: dict[Hashable, deque[tuple[Future[Any], Callable[[], Any]]]] = {}
        self._lock = threading.Lock()

    def submit(self, call: Callable[[], R], lane: Hashable | None = None) -> Future[R]:
        """Run `call`; in a lane, after all calls submitted there before.

        Raises:
            StoreError: The executor was closed.
        """
        future: Future[R] = Future()
        with self._lock:
            if self._closed:
                raise closed()
            if lane is None:
                return self._free.submit(call)
            if lane in self._lanes:  # a thread is working on it
                self._lanes[lane].append((future, call))
                return future
            self._ordered.submit(self._work, lane)
            self._lanes[lane] = deque([(future, call)])
        return future

    def close(self) -> None:
        """Accept no more calls, and return when all submitted calls are done.

        If a call itself closes the executor, for example by dropping the last reference to a
        database, it does not wait: it would wait for itself.
        """
        with self._lock:
            self._closed = True
        wait = not hasattr(self._here, "is_ours")
        self._free.shutdown(wait=wait)
        self._ordered.shutdown(wait=wait)

    def _note_thread(self) -> None:
        self._here.is_ours = True

    def _work(self, lane: Hashable) -> None:
        while True:
            with self._lock:
                if not self._lanes[lane]:
                    del self._lanes[lane]
                    return
                future, call = self._lanes[lane].popleft()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except BaseException as error:  # raised to the caller that awaits it
                    future.set_exception(error)
