"""Metrics for Prometheus: counts and times, never a text, a name or a key."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from evomem.encoder import BatchEncoder, Encoder, Job
from evomem.records import Turn
from evomem.state import Reading, Spec, State, Vectors

LAG = 0.5  # seconds between two measurements of the event loop
_FAST = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters and histograms of one worker; of all of them with `PROMETHEUS_MULTIPROC_DIR`."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self._registry = registry = CollectorRegistry()
        self.turns = Counter("evomem_turns_added", "Turns stored", registry=registry)
        self.vain = Counter(
            "evomem_turns_read_in_vain",
            "Turns read and not stored, since another worker was quicker",
            registry=registry,
        )
        self.requests = Histogram(
            "evomem_request_seconds",
            "Time to answer a request",
            ["action", "status"],
            buckets=_FAST,
            registry=registry,
        )
        self.encoder = Histogram(
            "evomem_encoder_seconds",
            "Time of one forward pass",
            ["work"],
            buckets=_FAST,
            registry=registry,
        )
        self.batch = Histogram(
            "evomem_batch_items",
            "Turns or queries that shared one forward pass",
            ["work"],
            buckets=_SIZES,
            registry=registry,
        )
        self.rejected = Counter(
            "evomem_rejected", "Requests that were turned away", ["status"], registry=registry
        )
        self.in_flight = Gauge(
            "evomem_in_flight",
            "Requests that are worked on",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.lag = Histogram(
            "evomem_event_loop_lag_seconds",
            "How late the event loop was",
            buckets=_FAST,
            registry=registry,
        )

    def text(self) -> tuple[bytes, str]:
        """Return all metrics in Prometheus' format, and its content type."""
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector

        registry = self._registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry), CONTENT_TYPE_LATEST

    async def watch_loop(self) -> None:
        """Measure how late the event loop is, until cancelled."""
        while True:
            before = time.perf_counter()
            await asyncio.sleep(LAG)
            self.lag.observe(max(0.0, time.perf_counter() - before - LAG))


class Span(Protocol):
    """Opens a span of a trace around some work (`evomem.service.traces`)."""

    def __call__(self, name: str, **facts: str | int) -> Any:
        """Return a context manager."""
        ...


class MeteredEncoder:
    """An encoder whose passes are timed and counted; itself an `Encoder`."""

    def __init__(self, encoder: Encoder, metrics: Metrics, span: Span) -> None:
        self._encoder = encoder
        self._metrics = metrics
        self._span = span

    @property
    def spec(self) -> Spec:
        """Name, fingerprint and shapes."""
        return self._encoder.spec

    def read(self, state: State[Turn], turns: Sequence[Turn]) -> list[Reading]:
        """See `Encoder.read`."""
        with self._timed("read", len(turns)):
            return self._encoder.read(state, turns)

    def embed_queries(self, state: State[Turn], queries: Sequence[str]) -> Vectors:
        """See `Encoder.embed_queries`."""
        with self._timed("embed", len(queries)):
            return self._encoder.embed_queries(state, queries)

    def count_tokens(self, text: str) -> int:
        """See `Encoder.count_tokens`."""
        return self._encoder.count_tokens(text)

    @contextmanager
    def _timed(self, work: str, items: int) -> Iterator[None]:
        before = time.perf_counter()
        with self._span(f"encoder {work}", items=items):
            yield
        self._metrics.encoder.labels(work).observe(time.perf_counter() - before)
        self._metrics.batch.labels(work).observe(items)


class MeteredBatchEncoder(MeteredEncoder):
    """A `BatchEncoder` whose passes are timed and counted."""

    _encoder: BatchEncoder

    @property
    def batch_tokens(self) -> int:
        """See `BatchEncoder.batch_tokens`."""
        return self._encoder.batch_tokens

    @property
    def parallel(self) -> bool:
        """See `BatchEncoder.parallel`."""
        return self._encoder.parallel

    def measure(self, turn: Turn) -> int:
        """See `BatchEncoder.measure`."""
        return self._encoder.measure(turn)

    def read_batch(self, jobs: Sequence[Job[Turn]]) -> list[list[Reading]]:
        """See `BatchEncoder.read_batch`."""
        items = sum(len(turns) for _, turns in jobs)
        with self._timed("read", items):
            return self._encoder.read_batch(jobs)

    def embed_batch(self, jobs: Sequence[Job[str]]) -> list[Vectors]:
        """See `BatchEncoder.embed_batch`."""
        items = sum(len(queries) for _, queries in jobs)
        with self._timed("embed", items):
            return self._encoder.embed_batch(jobs)
