"""Limits on the requests of one key, and of all keys together."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus

from evomem.service.problems import Problem

KEYS = 10_000  # rates that are remembered


class Limits:
    """Counts the requests of one worker. Used only on the event loop."""

    def __init__(
        self, in_flight: int, rate: float | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Limit concurrent requests, of which one key may use half, and the rate of each key.

        Args:
            in_flight: Requests at a time.
            rate: Requests a second for each key, with bursts of twice as many; None for no limit.
            clock: Seconds.
        """
        self._most = in_flight
        self._rate = rate
        self._clock = clock
        self._total = 0
        self._of_key: Counter[str] = Counter()
        self._buckets: dict[str, tuple[float, float]] = {}

    @property
    def in_flight(self) -> int:
        """The number of requests being processed."""
        return self._total

    @contextmanager
    def door(self) -> Iterator[None]:
        """Count a request before its key is known. Raises `Problem` if there are too many."""
        if self._total >= self._most:
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"the service works on {self._most} requests already; try again in a second",
                retry=1,
            )
        self._total += 1
        try:
            yield
        finally:
            self._total -= 1

    @contextmanager
    def turn_of(self, key: str) -> Iterator[None]:
        """Count a request of a key. Raises `Problem` if that key makes too many."""
        share = max(1, self._most // 2)
        if key and self._of_key[key] >= share:
            raise Problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"this key has {share} requests under way already; wait for some to finish",
                retry=1,
            )
        if key and self._rate:
            self._take(key, self._rate)
        self._of_key[key] += 1
        try:
            yield
        finally:
            self._of_key[key] -= 1
            if not self._of_key[key]:
                del self._of_key[key]

    def _take(self, key: str, rate: float) -> None:
        """Take one of a key's tokens, of which there are at most twice the rate, at least one."""
        most, now = max(1.0, 2 * rate), self._clock()
        left, before = self._buckets.pop(key, (most, now))
        left = min(most, left + (now - before) * rate)
        self._buckets[key] = (left - 1 if left >= 1 else left, now)
        while len(self._buckets) > KEYS:  # the one that was used longest ago is full again
            del self._buckets[next(iter(self._buckets))]
        if left < 1:
            raise Problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"this key may make {rate:g} requests a second: slow down",
                retry=(1 - left) / rate,
            )
