"""Writes to many memories at once, on threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from evomem.memory import Memory
from evomem.store import Namespace

T = TypeVar("T")


class Done:
    """Sums up the progress of several threads, and stops them if one fails."""

    def __init__(self, progress: Callable[[int], None] | None) -> None:
        self.total = 0
        self.stopped = False
        self._progress = progress
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        """Add to the total, and report it.

        Raises:
            CancelledError: Another thread has failed.
        """
        with self._lock:
            self.total += count
            if self._progress:
                self._progress(self.total)
        if self.stopped:
            raise CancelledError("another history failed, or the import was interrupted")

    def of_one(self) -> Callable[[int], None]:
        """Return a function that takes the cumulative count of one history."""
        before = 0

        def report(count: int) -> None:
            nonlocal before
            self.add(count - before)
            before = count

        return report


def add_side_by_side(
    memory_of: Callable[..., Memory],
    histories: Iterable[tuple[Namespace, T]],
    add: Callable[[Memory, T, Done], None],
    done: Done,
    workers: int,
) -> None:
    """Call `add` for each history, on `workers` threads; histories of one memory run one at a time."""
    running: dict[Future[None], Namespace] = {}
    with ThreadPoolExecutor(workers, thread_name_prefix="evomem-bulk") as pool:
        try:
            for labels, history in histories:
                while len(running) >= workers or tuple(labels) in running.values():
                    _finish_some(running)
                memory = memory_of(*labels)
                running[pool.submit(add, memory, history, done)] = memory.namespace
            while running:
                _finish_some(running)
        except BaseException:
            done.stopped = True
            raise


def _finish_some(running: dict[Future[None], Namespace]) -> None:
    """Wait until some of `running` are done, and remove them; raise their errors."""
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        del running[future]
    for future in done:
        future.result()
