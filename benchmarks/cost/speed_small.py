"""The cost of the small encoder in the whole product, compared with static vectors of the same texts."""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch

import evomem
from benchmarks.cost.scale_vectors import grown
from benchmarks.cost.speed_lines import BULK, Clock, Line, latency, timed
from evomem.batching import batches, embed_batch, read_batch
from evomem.encoder import Encoder, Job
from evomem.errors import MissingExtra
from evomem.mini.encoder import TOKENIZER, MiniEncoder
from evomem.plugins import load_encoder
from evomem.records import Turn
from evomem.state import Reading, Spec, State, Vectors
from evomem.store import Row

ENCODED_TURNS = 500  # turns of a generated memory that are encoded; other vectors are mixtures
R = TypeVar("R")
WORDS_PER_TURN = 24  # on average, as in LoCoMo


def mini(
    options: argparse.Namespace, parts: Sequence[str], clock: Clock, device: torch.device
) -> Iterator[Line]:
    """Measure the small encoder; yield lines as they are measured."""
    encoder = MiniEncoder(device=str(device))
    if "stream" in parts:
        for size in options.turns:
            if not clock.late():
                yield from _memory_latency(encoder, size, clock)
        for size in options.rebuild:
            yield _rebuild_mini(encoder, size)
    if "many" in parts:
        yield from _concurrent_streams("mini", encoder, options.streams, clock)
    if "threads" in parts:
        yield from _threads("mini", encoder, options.threads, clock)
    if "bulk" in parts and not clock.late():
        yield from _bulk_import("mini", encoder, options.histories, clock)


def static(
    options: argparse.Namespace, parts: Sequence[str], clock: Clock, device: torch.device
) -> Iterator[Line]:
    """Measure static embeddings of the same texts, the lower bound for encoders with a memory."""
    try:
        encoder = load_encoder("static", device=str(device))
    except MissingExtra as error:
        print(f"the static baseline is skipped: {error}")
        return
    if "many" in parts:
        yield from _concurrent_streams("static MiniLM", encoder, options.streams, clock)
    if "threads" in parts:
        yield from _threads("static MiniLM", encoder, options.threads, clock)
    if "bulk" in parts and not clock.late():
        yield from _bulk_import("static MiniLM", encoder, options.histories, clock)


def _memory_latency(encoder: MiniEncoder, size: int, clock: Clock) -> Iterator[Line]:
    """Measure adding a turn and searching in a database that holds `size` turns."""
    with tempfile.TemporaryDirectory() as folder:
        with evomem.open(str(Path(folder) / "a.db"), encoder) as db:
            memory = db.memory("m")
            _fill(db, size)
            memory.search(_text(0), k=5)  # builds the index
            adds: list[Line] = []
            searches: list[Line] = []
            query_embeddings: list[Line] = []
            until = time.monotonic() + clock.seconds
            n = 0
            while n < 4 or (time.monotonic() < until and n < 200):
                adds.append(timed(memory.add, _text(n))[0])
                searches.append(timed(memory.search, _text(n)[:60])[0])
                state = db._engine.state(memory._view())
                query_embeddings.append(timed(encoder.embed_queries, state, [_text(n)[:60]])[0])
                n += 1
    tables = {"append": adds, "query": searches, "query, encoder only": query_embeddings}
    for what, lines in tables.items():
        yield {"part": "stream", "what": what, "model": "mini", "turns": size, **latency(lines)}


def _rebuild_mini(encoder: MiniEncoder, size: int) -> Line:
    """Measure reading a whole history and a question after it, as a client without a state does."""
    turns = [Turn(user=_text(n)) for n in range(size)]

    def rebuild() -> None:
        state: State[Turn] = State.empty(encoder.spec)
        for turn, reading in zip(turns, encoder.read(state, turns), strict=True):
            state = state.after(turn, reading)
        encoder.embed_queries(state, [_text(0)[:60]])

    line, _ = timed(rebuild)
    return {"part": "stream", "what": "rebuild", "model": "mini", "turns": size, **latency([line])}


def _concurrent_streams(
    name: str, encoder: Encoder, streams: Sequence[int], clock: Clock
) -> Iterator[Line]:
    """Measure streams that add a turn and ask in the same forward passes, without a database."""
    spec = encoder.spec
    for count in streams:
        if clock.late():
            return
        states: list[State[Turn]] = [
            _full_state(spec, seed) if spec.capacity else State.empty(spec) for seed in range(count)
        ]
        seconds = cpu = 0.0
        step = tokens = 0
        while not step or (seconds < clock.seconds and step < 32):
            turns = [Turn(user=_text(31 * i + step)) for i in range(count)]
            tokens += sum(encoder.count_tokens(turn.text) for turn in turns)
            start, begin = time.perf_counter(), time.process_time()
            readings = read_batch(encoder, [(s, [t]) for s, t in zip(states, turns, strict=True)])
            states = [s.after(t, r) for s, t, [r] in zip(states, turns, readings, strict=True)]
            embed_batch(encoder, [(state, [_text(step)[:60]]) for state in states])
            seconds += time.perf_counter() - start
            cpu += time.process_time() - begin
            step += 1
        yield {
            "part": "many", "what": "append + query", "model": name, "streams": count,
            "turns/s": count * step / seconds, "tokens/s": tokens / seconds,
            "cpu ms a turn": 1000 * cpu / count / step,
        }  # fmt: skip


class _Passes:
    """A `BatchEncoder` that counts its passes, and their CPU seconds in the calling threads."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.reads = self.asks = 0
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def read_batch(self, jobs: Sequence[Job[Turn]]) -> list[list[Reading]]:
        """See `BatchEncoder.read_batch`."""
        self.reads += 1
        return self._timed(read_batch, jobs)

    def embed_batch(self, jobs: Sequence[Job[str]]) -> list[Vectors]:
        """See `BatchEncoder.embed_batch`."""
        self.asks += 1
        return self._timed(embed_batch, jobs)

    def _timed(self, step: Callable[[Encoder, Any], R], jobs: Any) -> R:
        begin = time.thread_time()
        results = step(self._encoder, jobs)
        self.seconds += time.thread_time() - begin
        return results


def _threads(name: str, encoder: Encoder, threads: Sequence[int], clock: Clock) -> Iterator[Line]:
    """Measure threads that add a turn and search, each in a memory of its own in one database."""
    for count in threads:
        if clock.late():
            return
        with tempfile.TemporaryDirectory() as folder:
            passes = _Passes(encoder)
            shared = cast(Encoder, passes) if batches(encoder) else encoder
            with evomem.open(str(Path(folder) / "a.db"), shared) as db:
                end, pairs = time.perf_counter() + clock.seconds, [0] * count

                def stream(number: int, db: evomem.Database, end: float, pairs: list[int]) -> None:
                    memory = db.memory(f"m{number}")
                    while not pairs[number] or time.perf_counter() < end:
                        memory.add(_text(31 * number + pairs[number]))
                        memory.search(_text(pairs[number])[:60])
                        pairs[number] += 1

                with ThreadPoolExecutor(count) as pool:
                    start, begin = time.perf_counter(), time.process_time()
                    for done in [pool.submit(stream, n, db, end, pairs) for n in range(count)]:
                        done.result()
                    seconds, cpu = time.perf_counter() - start, time.process_time() - begin
        yield {
            "part": "threads", "what": "add + search", "model": name, "threads": count,
            "pairs/s": sum(pairs) / seconds, "cpu ms a pair": 1000 * cpu / sum(pairs),
            "encoder, cpu ms a pair": 1000 * passes.seconds / sum(pairs),
            "turns a pass": sum(pairs) / max(1, passes.reads),
            "questions a pass": sum(pairs) / max(1, passes.asks),
        }  # fmt: skip


def _bulk_import(name: str, encoder: Encoder, histories: int, clock: Clock) -> Iterator[Line]:
    """Measure importing histories into a database, all at once and one memory after another."""
    count = BULK if clock.seconds >= 10 else 8 + int(16 * clock.seconds)  # shorter in quick runs
    texts = [[Turn(user=_text(7 * i + n)) for n in range(count)] for i in range(histories)]
    for what in ("many at once", "one after another"):
        with tempfile.TemporaryDirectory() as folder:
            with evomem.open(str(Path(folder) / "a.db"), encoder) as db:
                start, begin = time.perf_counter(), time.process_time()
                if what == "many at once":
                    db.add_many(((f"m{i}",), turns) for i, turns in enumerate(texts))
                else:
                    for i, turns in enumerate(texts):
                        db.memory(f"m{i}").add_many(turns)
                seconds, cpu = time.perf_counter() - start, time.process_time() - begin
        yield {
            "part": "bulk", "what": what, "model": name, "streams": histories,
            "turns/s": histories * count / seconds, "cpu ms a turn": 1000 * cpu / histories / count,
        }  # fmt: skip


def _text(n: int) -> str:
    """Return the text of turn `n`, with English word frequencies and the length of a chat message."""
    rng = random.Random(n)
    words = _english()
    length = max(3, min(80, int(rng.expovariate(1 / WORDS_PER_TURN))))
    return " ".join(words[int(len(words) ** rng.random()) - 1] for _ in range(length))


@lru_cache
def _english() -> list[str]:
    """Return English words, most frequent first, in the order of the small encoder's vocabulary."""
    vocabulary = json.loads(TOKENIZER.read_text("utf-8"))["model"]["vocab"]
    first = vocabulary["the"]  # the entries before it are single characters
    words = (word for word in vocabulary if word.isascii() and word.isalpha())
    return sorted((w for w in words if vocabulary[w] >= first), key=vocabulary.__getitem__)


def _full_state(spec: Spec, seed: int) -> State[Turn]:
    """Return a state of the small encoder with a full queue."""
    rng = np.random.default_rng(seed)
    latents = rng.standard_normal((spec.capacity, spec.width), np.float32)
    latents[:, -1] = np.repeat(np.arange(spec.capacity // spec.latents), spec.latents) + 1000
    return State(spec, b"past %d" % seed, latents, ())


def _fill(db: evomem.Database, size: int) -> None:
    """Write `size` turns; all but the first `ENCODED_TURNS` have mixtures of vectors, to save time.

    The vectors are distributed like those of texts, since large memories are searched by codes.
    """
    store, spec = db._engine.store, db.spec
    memory = store.make_memory(("m",))
    rng = np.random.default_rng(0)
    state: State[Turn] = State.empty(spec)
    readings = db.encoder.read(
        state, [Turn(user=_text(n)) for n in range(min(ENCODED_TURNS, size))]
    )
    vectors = grown(np.stack([reading.embedding for reading in readings]), size)
    now = datetime.now(timezone.utc)
    for start in range(0, size, 1000):
        rows = []
        for n, vector in enumerate(vectors[start : start + 1000], start):
            latents = rng.standard_normal((spec.latents, spec.width), np.float32)
            latents[:, -1] = n + 1
            turn = Turn(user=_text(n), id=f"t{n}", time=now)
            reading = Reading(vector, latents)
            state = state.after(turn, reading)
            rows.append(Row(n + 1, turn, now, reading, state.key))
        store.append(store.view(memory), rows)
