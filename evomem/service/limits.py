"""Limits on the requests of one key, and of all keys together."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus

from evomem.service.problems import Problem

KEYS = 10_000  # number of keys whose rates are remembered


class Limits:
    """Counts the requests of one worker. Used only on the event loop."""

    def __init__(
        self, in_flight: int, rate: float | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Limit concurrent requests, of which one key may use half, and the rate of each key.

        Args:
            in_flight: The maximum number of concurrent requests.
            rate: Requests per second and key, with bursts of twice as many; None for no limit.
            clock: Returns seconds.
        """
        self._max_in_flight = in_flight
        self._rate = rate
        self._clock = clock
        self._in_flight = 0
        self._in_flight_by_key: Counter[str] = Counter()
        self._buckets: dict[str, tuple[float, float]] = {}

    @property
    def in_flight(self) -> int:
        """The number of requests being processed."""
        return self._in_flight

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Count a request before its key is known.

        Raises:
            Problem: Too many requests are in flight (503).
        """
        if self._in_flight >= self._max_in_flight:
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"the service is already processing {self._max_in_flight} requests; retry in a second",
                retry=1,
            )
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1

    @contextmanager
    def admit_key(self, key: str) -> Iterator[None]:
        """Count a request of a key.

        Raises:
            Problem: The key has too many requests in flight, or exceeds its rate (429).
        """
        share = max(1, self._max_in_flight // 2)
        if key and self._in_flight_by_key[key] >= share:
            raise Problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"this key already has {share} requests in flight; wait for some to finish",
                retry=1,
            )
        if key and self._rate:
            self._take(key, self._rate)
        self._in_flight_by_key[key] += 1
        try:
            yield
        finally:
            self._in_flight_by_key[key] -= 1
            if not self._in_flight_by_key[key]:
                del self._in_flight_by_key[key]

    def _take(self, key: str, rate: float) -> None:
        """Take a token from the key's bucket, which holds up to twice the rate, and at least one."""
        capacity, now = max(1.0, 2 * rate), self._clock()
        tokens, updated = self._buckets.pop(key, (capacity, now))
        tokens = min(capacity, tokens + (now - updated) * rate)
        self._buckets[key] = (tokens - 1 if tokens >= 1 else tokens, now)
        while len(self._buckets) > KEYS:  # the least recently used bucket is full again
            del self._buckets[next(iter(self._buckets))]
        if tokens < 1:
            raise Problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"this key may make {rate:g} requests per second: slow down",
                retry=(1 - tokens) / rate,
            )
