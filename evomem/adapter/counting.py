"""Counters of adapters' failures and changed texts in this process."""

from __future__ import annotations

import threading
from collections import Counter

from evomem._forking import reset_in_child


class Counts:
    """Counters since the process started. Safe to use from threads."""

    def __init__(self) -> None:
        self._numbers: Counter[str] = Counter()

    @property
    def failed_reads(self) -> int:
        """Failed reads of the memory: a prompt was sent to the model without it."""
        return self._numbers["failed_reads"]

    @property
    def failed_writes(self) -> int:
        """Failed writes of turns; some adapters retry after the next run."""
        return self._numbers["failed_writes"]

    @property
    def cleaned(self) -> int:
        """Texts that were changed because the log cannot store them unchanged."""
        return self._numbers["cleaned"]

    def add(self, name: str) -> None:
        """Count one event; `name` is one of the properties."""
        with _guard:
            self._numbers[name] += 1

    def to_json(self) -> dict[str, int]:
        """Return all counters by name."""
        return {name: getattr(self, name) for name in ("failed_reads", "failed_writes", "cleaned")}


_guard = threading.Lock()


def _after_fork() -> None:
    global _guard
    _guard = threading.Lock()


reset_in_child(_after_fork)

counts = Counts()
