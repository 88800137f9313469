"""What the small encoder costs in the whole product, and static vectors of the same texts."""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

import evomem
from benchmarks.cost.scale_vectors import grown
from benchmarks.cost.speed_lines import BULK, Clock, Line, latency, timed
from evomem.batching import embed_batch, read_batch
from evomem.encoder import Encoder
from evomem.errors import MissingExtra
from evomem.mini.encoder import TOKENIZER, MiniEncoder
from evomem.plugins import load_encoder
from evomem.records import Turn
from evomem.state import Reading, Spec, State
from evomem.store import Row

READ = 500  # turns of a made-up memory that are read; the others' vectors are mixtures
WORDS = 24  # of a turn for the small encoder: LoCoMo's utterances have as many on average


def mini(
    options: argparse.Namespace, parts: Sequence[str], clock: Clock, device: torch.device
) -> Iterator[Line]:
    """Measure the small encoder."""
    encoder = MiniEncoder(device=str(device))
    if "stream" in parts:
        for size in options.turns:
            if not clock.late():
                yield from _memory_latency(encoder, size, clock)
        for size in options.rebuild:
            yield _rebuild_mini(encoder, size)
    if "many" in parts:
        yield from _side_by_side("mini", encoder, options.streams, clock)
    if "bulk" in parts and not clock.late():
        yield from _bulk_import("mini", encoder, options.histories, clock)


def static(
    options: argparse.Namespace, parts: Sequence[str], clock: Clock, device: torch.device
) -> Iterator[Line]:
    """The same texts embedded each alone: what any encoder with a memory costs at least."""
    try:
        encoder = load_encoder("static", device=str(device))
    except MissingExtra as error:
        print(f"no static baseline: {error}")
        return
    if "many" in parts:
        yield from _side_by_side("static MiniLM", encoder, options.streams, clock)
    if "bulk" in parts and not clock.late():
        yield from _bulk_import("static MiniLM", encoder, options.histories, clock)


def _memory_latency(encoder: MiniEncoder, size: int, clock: Clock) -> Iterator[Line]:
    """Add and ask through the whole product, in a database that holds `size` turns."""
    with tempfile.TemporaryDirectory() as folder:
        with evomem.open(str(Path(folder) / "a.db"), encoder) as db:
            memory = db.memory("m")
            _fill(db, size)
            memory.search(_said(0), k=5)  # the index reads the log once
            added: list[Line] = []
            asked: list[Line] = []
            embedded: list[Line] = []
            until = time.monotonic() + clock.seconds
            n = 0
            while n < 4 or (time.monotonic() < until and n < 200):
                added.append(timed(memory.add, _said(n))[0])
                asked.append(timed(memory.search, _said(n)[:60])[0])
                state = db._engine.state(memory._view())
                embedded.append(timed(encoder.embed_queries, state, [_said(n)[:60]])[0])
                n += 1
    for what, lines in (("append", added), ("query", asked), ("query, encoder only", embedded)):
        yield {"part": "stream", "what": what, "model": "mini", "turns": size, **latency(lines)}


def _rebuild_mini(encoder: MiniEncoder, size: int) -> Line:
    """Read a whole history and a question after it, as a client does that keeps nothing."""
    turns = [Turn(user=_said(n)) for n in range(size)]

    def go() -> None:
        state: State[Turn] = State.empty(encoder.spec)
        for turn, reading in zip(turns, encoder.read(state, turns), strict=True):
            state = state.after(turn, reading)
        encoder.embed_queries(state, [_said(0)[:60]])

    line, _ = timed(go)
    return {"part": "stream", "what": "rebuild", "model": "mini", "turns": size, **latency([line])}


def _side_by_side(
    name: str, encoder: Encoder, streams: Sequence[int], clock: Clock
) -> Iterator[Line]:
    """Let every stream add a turn and ask, all of them in the same passes; no database."""
    spec = encoder.spec
    for count in streams:
        if clock.late():
            return
        states: list[State[Turn]] = [
            _known(spec, seed) if spec.capacity else State.empty(spec) for seed in range(count)
        ]
        seconds = cpu = 0.0
        step = tokens = 0
        while not step or (seconds < clock.seconds and step < 32):
            turns = [Turn(user=_said(31 * i + step)) for i in range(count)]
            tokens += sum(encoder.count_tokens(turn.text) for turn in turns)
            start, begin = time.perf_counter(), time.process_time()
            readings = read_batch(encoder, [(s, [t]) for s, t in zip(states, turns, strict=True)])
            states = [s.after(t, f[0]) for s, t, f in zip(states, turns, readings, strict=True)]
            embed_batch(encoder, [(state, [_said(step)[:60]]) for state in states])
            seconds += time.perf_counter() - start
            cpu += time.process_time() - begin
            step += 1
        yield {
            "part": "many", "what": "append + query", "model": name, "streams": count,
            "turns/s": count * step / seconds, "tokens/s": tokens / seconds,
            "cpu ms a turn": 1000 * cpu / count / step,
        }  # fmt: skip


def _bulk_import(name: str, encoder: Encoder, histories: int, clock: Clock) -> Iterator[Line]:
    """Import histories into a database: all at once, and one memory after another."""
    count = BULK if clock.seconds >= 10 else 8 + int(16 * clock.seconds)  # where time is short
    texts = [[Turn(user=_said(7 * i + n)) for n in range(count)] for i in range(histories)]
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


def _said(n: int) -> str:
    """Return the text of turn `n`: words as often as in English, of a chat's length."""
    rng = random.Random(n)
    words = _english()
    length = max(3, min(80, int(rng.expovariate(1 / WORDS))))
    return " ".join(words[int(len(words) ** rng.random()) - 1] for _ in range(length))


@lru_cache
def _english() -> list[str]:
    """Return words by how common they are: as the small encoder's vocabulary lists them."""
    vocabulary = json.loads(TOKENIZER.read_text("utf-8"))["model"]["vocab"]
    first = vocabulary["the"]  # before it are single characters
    words = (word for word in vocabulary if word.isascii() and word.isalpha())
    return sorted((w for w in words if vocabulary[w] >= first), key=vocabulary.__getitem__)


def _known(spec: Spec, seed: int) -> State[Turn]:
    """Return a state of the small encoder with a full queue."""
    rng = np.random.default_rng(seed)
    latents = rng.standard_normal((spec.capacity, spec.width), np.float32)
    latents[:, -1] = np.repeat(np.arange(spec.capacity // spec.latents), spec.latents) + 1000
    return State(spec, b"past %d" % seed, latents, ())


def _fill(db: evomem.Database, size: int) -> None:
    """Write `size` turns with readings that a few are mixed to: what they are costs nothing.

    The vectors lie as those of texts do, because large memories are searched by codes.
    """
    store, spec = db._engine.store, db.spec
    memory = store.make_memory(("m",))
    rng = np.random.default_rng(0)
    state: State[Turn] = State.empty(spec)
    read = db.encoder.read(state, [Turn(user=_said(n)) for n in range(min(READ, size))])
    vectors = grown(np.stack([reading.embedding for reading in read]), size)
    now = datetime.now(timezone.utc)
    for start in range(0, size, 1000):
        rows = []
        for n, vector in enumerate(vectors[start : start + 1000], start):
            latents = rng.standard_normal((spec.latents, spec.width), np.float32)
            latents[:, -1] = n + 1
            turn = Turn(user=_said(n), id=f"t{n}", time=now)
            reading = Reading(vector, latents)
            state = state.after(turn, reading)
            rows.append(Row(n + 1, turn, now, reading, state.key))
        store.append(store.view(memory), rows)
