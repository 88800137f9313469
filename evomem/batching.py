"""Batching: the requests of many threads share forward passes.

No request waits for others to join it. A request that arrives while no pass runs is computed at
once, on its own thread, exactly as without this module. Requests that arrive during a pass wait;
after it, all of them go into the next passes: first all queries, then turns, with an equal share
for every memory. So a query waits for at most one pass of turns, and turns wait for one pass of
queries and for the memories before them. Passes of turns are shorter while queries wait.

An encoder whose calls may run at the same time (`BatchEncoder.parallel`) has two such lines, one for
queries and one for turns, so that a query waits for no turns at all.

A request is a value (a state, and what to read from there), so each memory determines its own
order, and a result does not depend on the rest of the batch.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from evomem._forking import reset_in_child
from evomem.encoder import BatchEncoder, Encoder, Job, T
from evomem.errors import closed
from evomem.records import Turn
from evomem.state import Reading, Spec, State, Vectors

WAITING = 4096  # requests to read inside; later callers wait outside
QUERIES = 256  # requests to embed that one pass answers
ASKING = 16  # passes of turns after one of queries that are shorter
SHORTER = 4  # how many times
LEAST = 256  # tokens that a pass holds however often memory ran out
OUT_OF_MEMORY = "OutOfMemoryError"  # torch's; its name, because nothing here imports torch


def batches(encoder: Encoder) -> bool:
    """Say whether an encoder is a `BatchEncoder`."""
    return hasattr(encoder, "read_batch") and hasattr(encoder, "embed_batch")


def read_batch(encoder: Encoder, jobs: Sequence[Job[Turn]]) -> list[list[Reading]]:
    """Read turns of several memories: together if the encoder can, else one after another."""
    if batches(encoder):
        return cast(BatchEncoder, encoder).read_batch(jobs)
    return [encoder.read(state, turns) for state, turns in jobs]


def embed_batch(encoder: Encoder, jobs: Sequence[Job[str]]) -> list[Vectors]:
    """Embed queries asked of several memories: together if the encoder can."""
    if batches(encoder):
        return cast(BatchEncoder, encoder).embed_batch(jobs)
    return [encoder.embed_queries(state, queries) for state, queries in jobs]


def shared(encoder: Encoder) -> Encoder:
    """Return an encoder for many threads: a `Batcher` around a `BatchEncoder`."""
    return Batcher(cast(BatchEncoder, encoder)) if batches(encoder) else encoder


R = TypeVar("R")


@dataclass(eq=False)
class _Request(Generic[T, R]):
    """The request of one call, and its results."""

    state: State[Turn]
    items: Sequence[T]
    """The remaining items."""
    portion: int = 0
    """How many of them the next pass takes."""
    results: list[R] = field(default_factory=list)
    error: Exception | None = None
    done: bool = False
    wake: threading.Event = field(default_factory=threading.Event)
    """Set when it is done, or when its thread is to do the next passes."""

    def finish(self, error: Exception | None = None) -> None:
        self.error, self.done = error, True
        self.wake.set()


_Read = _Request[Turn, Reading]
_Ask = _Request[str, Vectors]


@dataclass(eq=False)
class _Lead:
    """Which thread runs the passes of some lines."""

    lines: tuple[deque[Any], ...]
    request: _Request[Any, Any] | None = None
    """The request whose thread does, until it is done itself."""


class Batcher:
    """An encoder for many threads at once; itself an `Encoder`.

    A failing pass is halved until the faulty item is alone, and its error is raised in the call
    that it belongs to. If memory ran out, later passes are smaller, too.
    """

    def __init__(self, encoder: BatchEncoder, *, waiting: int = WAITING) -> None:
        """Work for `encoder`, with at most `waiting` requests to read inside."""
        self._encoder = encoder
        self._tokens = encoder.batch_tokens
        self._parallel = encoder.parallel
        self._waiting = waiting
        self._closed = False
        self._make_queues()
        reset_in_child(self._make_queues)

    @property
    def spec(self) -> Spec:
        """Name, fingerprint and shapes of the encoder."""
        return self._encoder.spec

    def read(self, state: State[Turn], turns: Sequence[Turn]) -> list[Reading]:
        """See `Encoder.read`. Raises `StoreError` if this is closed."""
        request: _Read = _Request(state, turns)
        if turns:
            for turn in turns:
                self._encoder.measure(turn)  # here, while others compute
            with self._door:
                self._await(request, self._reads, self._read_lead)
        return request.results

    def embed_queries(self, state: State[Turn], queries: Sequence[str]) -> Vectors:
        """See `Encoder.embed_queries`. Raises `StoreError` if this is closed."""
        request: _Ask = _Request(state, queries)
        self._await(request, self._asks, self._ask_lead)
        return request.results[0]

    def count_tokens(self, text: str) -> int:
        """Return the length of `text` in the encoder's tokens."""
        return self._encoder.count_tokens(text)

    def close(self) -> None:
        """Accept no more requests, and return when the present ones are done."""
        with self._quiet:
            self._closed = True
            self._quiet.wait_for(
                lambda: self._ask_lead.request is None and self._read_lead.request is None
            )

    # ---------------------------------------------------------------------------------------

    def _make_queues(self) -> None:
        """Make locks and empty queues: when this is made, and in a forked child."""
        self._door = threading.Semaphore(self._waiting)
        self._quiet = threading.Condition()  # its lock guards `_closed` and everything below
        self._asks: deque[_Ask] = deque()
        self._reads: deque[_Read] = deque()
        if self._parallel:
            self._ask_lead, self._read_lead = _Lead((self._asks,)), _Lead((self._reads,))
        else:
            self._ask_lead = self._read_lead = _Lead((self._asks, self._reads))
        self._asked = False  # whether the last pass was one of queries
        self._shorter = 0  # how many of the next passes of turns are shorter

    def _await(self, request: _Request[T, R], line: deque[_Request[T, R]], lead: _Lead) -> None:
        """Return when `request` is done, by another thread or by this one."""
        with self._quiet:
            if self._closed:
                raise closed()
            line.append(request)
            if lead.request is None:
                self._appoint(lead, request)
        try:
            request.wake.wait()
            while not request.done:
                self._pass(lead)
        finally:
            with self._quiet:
                if not request.done and request in line:  # interrupted, say by Ctrl-C
                    line.remove(request)
                if lead.request is request:
                    waiting = [other for others in lead.lines for other in others]
                    self._appoint(lead, waiting[0] if waiting else None)
        if request.error:
            raise request.error

    def _appoint(self, lead: _Lead, request: _Request[Any, Any] | None) -> None:
        lead.request = request
        if request:
            request.wake.set()
        else:
            self._quiet.notify_all()

    def _pass(self, lead: _Lead) -> None:
        """Do a pass of queries, or one of turns: in turn, where one thread does both."""
        if self._parallel:
            asks = lead is self._ask_lead
        else:
            asks = self._asked = bool(self._asks) and not (self._asked and self._reads)
        if asks:
            self._do(self._asks, self._take_asks, self._embed)
        else:
            self._do(self._reads, self._take_reads, self._read)

    def _do(
        self,
        line: deque[_Request[T, R]],
        take: Callable[[], list[_Request[T, R]]],
        step: Callable[[Sequence[_Request[T, R]]], None],
    ) -> None:
        with self._quiet:
            taken = take()
        try:
            if taken:
                self._settle(taken, step)
        finally:
            with self._quiet:
                line.extend(request for request in taken if not request.done)

    def _take_asks(self) -> list[_Ask]:
        self._shorter = 0 if self._parallel else ASKING
        return [self._asks.popleft() for _ in range(min(QUERIES, len(self._asks)))]

    def _take_reads(self) -> list[_Read]:
        """Take an equal share of every request, up to the size of one pass."""
        taken: list[_Read] = []
        room = self._tokens // SHORTER if self._shorter else self._tokens
        self._shorter = max(0, self._shorter - 1)
        share = room // max(1, len(self._reads))
        while self._reads and (room > 0 or not taken):
            request = self._reads.popleft()
            request.portion = size = 0
            for turn in request.items:
                size += self._encoder.measure(turn)
                if request.portion and size > min(share, room):
                    break
                request.portion += 1
            room -= size
            taken.append(request)
        return taken

    def _settle(
        self,
        requests: Sequence[_Request[T, R]],
        step: Callable[[Sequence[_Request[T, R]]], None],
    ) -> None:
        """Do a step for all; if it fails, for either half."""
        try:
            return step(requests)
        except Exception as error:
            short = isinstance(error, MemoryError) or type(error).__name__ == OUT_OF_MEMORY
            if short:
                self._tokens = max(LEAST, self._tokens // 2)
            if len(requests) == 1 and not (short and requests[0].portion > 1):
                return requests[0].finish(error)
        if len(requests) == 1:  # the rest of its turns comes in later passes
            requests[0].portion //= 2
            return self._settle(requests, step)
        middle = len(requests) // 2
        self._settle(requests[:middle], step)
        self._settle(requests[middle:], step)

    def _embed(self, asks: Sequence[_Ask]) -> None:
        results = self._encoder.embed_batch([(ask.state, ask.items) for ask in asks])
        for ask, vectors in zip(asks, results, strict=True):
            ask.results = [vectors]
            ask.finish()

    def _read(self, reads: Sequence[_Read]) -> None:
        results = self._encoder.read_batch(
            [(read.state, read.items[: read.portion]) for read in reads]
        )
        for read, readings in zip(reads, results, strict=True):
            for turn, reading in zip(read.items[: read.portion], readings, strict=True):
                read.state = read.state.after(turn, reading)
            read.results += readings
            read.items = read.items[read.portion :]
            if not read.items:
                read.finish()
