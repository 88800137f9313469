"""The cost of reading with models of the published shapes; part of `benchmarks.cost.speed`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch

from benchmarks.cost.reference import VOCABULARY as REFERENCE_VOCABULARY
from benchmarks.cost.reference import Reference, conversation, question
from benchmarks.cost.shapes import VOCABULARY, random_reader, settle, weights_of
from benchmarks.cost.speed_lines import BULK, Clock, Line, R, latency, mean
from benchmarks.cost.streaming import (
    QUERY_TOKENS,
    TEXT_TOKENS,
    TURN_TOKENS,
    floor_of,
    query_of,
    rebuild_everything,
    turns_of,
)
from evomem.evoembedding.reader import CHUNK_TURNS, Reader
from evomem.evoembedding.tokens import Segment
from evomem.state import Spec, State, Vectors


def published(
    work: Work,
    parts: Sequence[str],
    options: argparse.Namespace,
    clock: Clock,
    code: ModuleType | None,
) -> Iterator[Line]:
    """Measure a random model of a published shape; yield lines as they are measured.

    Args:
        work: The model.
        parts: Which tables to measure.
        options: The command's options.
        clock: The time limits.
        code: The reference's code, to be compared with.
    """
    name, reader = work.name, work.reader
    start = time.monotonic()
    reader.read(_full(reader.spec, 0), turns_of(0, 1))  # warm up the kernels
    print(f"{name}: {work.flops / 2e9:.2f} G weights, first turn {time.monotonic() - start:.1f} s")
    if options.compile:
        list(_one_stream(work, clock, ()))  # compile each kind of pass before it is measured
        reader.caches.clear()  # otherwise the same queries would reuse cached prefixes
    if "stream" in parts:
        yield from _one_stream(work, clock, options.rebuild)
        if code:
            yield from _compared(work, code, options.rebuild, clock)
    if "many" in parts:
        yield from _many_streams(work, options.streams, clock)
    if "bulk" in parts and not clock.late():
        yield _bulk(work, options.histories, clock)
    if "memory" in parts and not clock.late():
        yield _stream_bytes(work)


@dataclass
class Work:
    """A model to measure."""

    name: str
    reader: Reader
    flops: float
    """FLOP per token."""
    limit: float
    """The device's peak, in FLOP/s."""

    def run(self, turns: int, floor: int, call: Callable[..., R], *args: Any) -> tuple[Line, R]:
        """Call once; return the line of its costs, and its result.

        Args:
            turns: The number of turns that the call reads.
            floor: The minimum number of tokens of the call, 0 if there is none to compare with.
            call: What to measure.
            *args: The arguments of the call.
        """
        device = self.reader.model.device
        settle(device)
        tokens, cpu, wall = self.reader.tokens, time.process_time(), time.perf_counter()
        value = call(*args)
        settle(device)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        tokens_read = self.reader.tokens - tokens
        busy = wall if device.type == "cuda" else cpu
        line = {
            "model": self.name,
            "turns/s": turns / wall,
            "tokens/s": tokens_read / wall,
            "seconds": wall,
            "cpu seconds": cpu,
            "share of peak": self.flops * tokens_read / busy / self.limit,
            "over the floor": tokens_read / floor if floor else None,
        }
        return line, value


def work_of(
    name: str, options: argparse.Namespace, device: torch.device, dtype: torch.dtype, limit: float
) -> Work:
    """Return a random model of a shape, configured by the options."""
    cache = options.cache_gib * 2**30 if options.cache_gib else None
    words = REFERENCE_VOCABULARY if options.reference else VOCABULARY
    reader = random_reader(name, device, dtype, cache, words)
    if options.compile:
        name += ", compiled"
        for layer in reader.model.decoder.layers:
            layer.compile(dynamic=True)
    return Work(name, reader, 2.0 * weights_of(reader.model), limit)


def _full(spec: Spec, seed: int) -> State[Any]:
    """Return a state with a full queue of random latents."""
    rng = np.random.default_rng(seed)
    latents = rng.standard_normal((spec.capacity, spec.width), np.float32)
    latents = (latents.view(np.uint32) & 0xFFFF0000).view(np.float32)  # rounded to bfloat16
    return State(spec, b"past %d" % seed, latents, ())


def _one_stream(work: Work, clock: Clock, rebuild: Sequence[int]) -> Iterator[Line]:
    """Measure adding a turn and asking a question, with an empty queue and with a full one."""
    reader = work.reader
    for turns, state in ((0, State.empty(reader.spec)), (10_000, _full(reader.spec, 1))):
        added: list[Line] = []
        queried: list[Line] = []
        reader.embed(state, [query_of(turns)])  # an earlier query has cached its prefix
        until = time.monotonic() + clock.seconds
        for n, turn in enumerate(turns_of(turns, turns + 32)):
            if n and n % 4 == 0 and time.monotonic() > until:
                break
            grows = len(state.queue) + reader.spec.latents <= reader.spec.capacity
            query_floor = QUERY_TOKENS + (0 if grows else reader.spec.capacity)
            floor = floor_of(state, len(state.open) in (0, 16)) - query_floor
            line, [reading] = work.run(1, floor, reader.read, state, [turn])
            added.append(line)
            state = state.after(turn, reading)
            queried.append(work.run(0, query_floor, reader.embed, state, [query_of(n)])[0])
        for what, lines in (("append", added), ("query", queried)):
            yield {"part": "stream", "what": what, "turns": turns, **latency(lines)}
    for size in rebuild:
        if not clock.late():
            line, _ = work.run(0, 0, rebuild_everything, reader.model, size)
            yield {
                "part": "stream", "what": "rebuild", "model": work.name, "turns": size,
                "p50 ms": 1000 * line["seconds"], "cpu p50 ms": 1000 * line["cpu seconds"],
            }  # fmt: skip


def _compared(work: Work, code: ModuleType, sizes: Sequence[int], clock: Clock) -> Iterator[Line]:
    """Measure adding a turn and asking after histories of `sizes` turns, by our code and the reference's."""
    reader = work.reader
    theirs = Reference(code, reader.model)
    theirs.embed(conversation(1), question(1))  # warm up the kernels
    for size in sizes:
        if clock.late():
            return
        turns = conversation(size + CHUNK_TURNS)
        state = reader.evolve(State.empty(reader.spec), turns[:size])
        reader.embed(state, [question(size)])  # an earlier query has cached its prefix
        lines: list[Line] = []
        vectors: list[Vectors] = []
        for n, turn in enumerate(turns[size:], size):  # one chunk
            floor = floor_of(state, len(state.open) in (0, CHUNK_TURNS))
            line, (state, ours) = work.run(1, floor, _turn_and_query, reader, state, turn, n)
            lines.append(line)
            vectors.append(ours)
        yield {"part": "stream", "what": "append + query", "turns": size, **latency(lines)}
        busy = "seconds" if reader.model.device.type == "cuda" else "cpu seconds"
        our_mean = sum(line[busy] for line in lines) / len(lines)
        for what, logits in (("reference, no logits", False), ("reference", True)):
            if clock.late():
                return
            line, embedded = work.run(0, 0, theirs.embed, turns[: size + 1], question(size), logits)
            yield {
                "part": "stream", "what": what, "model": work.name, "turns": size,
                "p50 ms": 1000 * line["seconds"], "cpu p50 ms": 1000 * line["cpu seconds"],
                "ratio": line[busy] / our_mean, "cosine": float((embedded[-2:] * vectors[0]).sum(1).min()),
            }  # fmt: skip


def _turn_and_query(
    reader: Reader, state: State[Any], turn: Segment, n: int
) -> tuple[State[Any], Vectors]:
    """Read turn `n` and the question after it; return the state and both embeddings."""
    [reading] = reader.read(state, [turn])
    state = state.after(turn, reading)
    return state, np.stack([reading.embedding, reader.embed(state, [question(n)])[0]])


def _many_streams(work: Work, streams: Sequence[int], clock: Clock) -> Iterator[Line]:
    """Measure streams that add a turn and ask a question, all in the same forward passes."""
    reader = work.reader
    for count in streams:
        if clock.late():
            return
        states = [_full(reader.spec, seed) for seed in range(count)]
        reader.embed_batch([(state, [query_of(0)]) for state in states])  # cache the prefix
        total: list[Line] = []
        until = time.monotonic() + clock.seconds
        step = floor = 0
        while not total or (time.monotonic() < until and step < 32):
            turns = [turns_of(1000 * i + step, 1000 * i + step + 1) for i in range(count)]
            floor = sum(floor_of(state, len(state.open) in (0, 16)) for state in states)
            line, _ = work.run(count, floor, _step, reader, states, turns, query_of(step))
            total.append(line)
            step += 1
        yield {"part": "many", "what": "append + query", "streams": count, **mean(total)}
    reader.caches.clear()


def _bulk(work: Work, histories: int, clock: Clock) -> Line:
    """Measure reading histories from their first turn on, 16 turns of each history per batch."""
    reader = work.reader
    states: list[State[Any]] = [State.empty(reader.spec) for _ in range(histories)]
    total: list[Line] = []
    until = time.monotonic() + 3 * clock.seconds
    at = 0
    while at < BULK and (not total or time.monotonic() < until):
        turns = [turns_of(1000 * i + at, 1000 * i + at + 16) for i in range(histories)]
        floor = 0
        for n in range(16):
            queued = min((at + n) * reader.spec.latents, reader.spec.capacity)
            grows = queued + reader.spec.latents <= reader.spec.capacity
            floor += TURN_TOKENS + TEXT_TOKENS + reader.spec.latents * (2 if grows else 1)
            floor += 0 if grows else queued
            floor += queued if n == 0 else 0
        line, _ = work.run(16 * histories, floor * histories, _step, reader, states, turns)
        total.append(line)
        at += 16
    reader.caches.clear()
    return {"part": "bulk", "what": f"first {at} turns", "streams": histories, **mean(total)}


def _step(
    reader: Reader,
    states: list[State[Any]],
    turns: Sequence[list[Segment]],
    query: Sequence[int] | None = None,
) -> None:
    """Read the turns of every stream, then embed the query in each; `states` is updated in place."""
    for i, readings in enumerate(reader.read_batch(list(zip(states, turns, strict=True)))):
        for turn, reading in zip(turns[i], readings, strict=True):
            states[i] = states[i].after(turn, reading)
    if query is not None:
        reader.embed_batch([(state, [query]) for state in states])


def _stream_bytes(work: Work) -> Line:
    """Measure the memory of an active stream: its caches and its state."""
    reader = work.reader
    reader.caches.clear()
    turns = turns_of(0, 16)
    state = _full(reader.spec, 2)
    for turn, reading in zip(turns, reader.read(state, turns), strict=True):
        state = state.after(turn, reading)
    reader.embed(state, [query_of(0)])
    line: Line = {
        "part": "memory", "what": "one stream", "model": work.name,
        "cache MB": reader.caches.nbytes / 1e6, "state MB": state.latents.nbytes / 1e6,
    }  # fmt: skip
    if reader.model.device.type == "cuda":
        line["most in use MB"] = torch.cuda.max_memory_allocated() / 1e6
    return line
