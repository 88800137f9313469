"""Calls on threads: those of one lane one at a time and in order, lanes side by side."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from evomem.errors import closed

R = TypeVar("R")

THREADS = 64  # on either side; they are made when they are needed


class OrderedExecutor:
    """Runs calls for an event loop. A call that has not begun can be cancelled."""

    def __init__(self) -> None:
        self._closed = False
        self._here = threading.local()
        self._free = ThreadPoolExecutor(THREADS, "evomem-reader", self._note_thread)
        self._ordered = ThreadPoolExecutor(THREADS, "evomem-writer", self._note_thread)
        self._lanes: dict[Hashable, deque[tuple[Future[Any], Callable[[], Any]]]] = {}
        self._lock = threading.Lock()

    def submit(self, call: Callable[[], R], lane: Hashable | None = None) -> Future[R]:
        """Run `call`; in a lane, behind all that was submitted there before.

        Raises:
            StoreError: This was closed.
        """
        future: Future[R] = Future()
        with self._lock:
            if self._closed:
                raise closed()
            if lane is None:
                return self._free.submit(call)
            if lane in self._lanes:  # somebody is at work in it
                self._lanes[lane].append((future, call))
                return future
            self._ordered.submit(self._work, lane)
            self._lanes[lane] = deque([(future, call)])
        return future

    def close(self) -> None:
        """Take no more calls, and return when everything that was submitted is done.

        A call that closes this, as the one does that drops the last reference to a database, waits
        for no others: it would wait for itself.
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
                except BaseException as error:  # it belongs to whoever awaits it
                    future.set_exception(error)
