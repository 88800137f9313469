"""What reading costs: one stream, many streams, bulk, memory; beside rebuilding and static vectors.

    python -m benchmarks speed --out benchmarks/results/speed.json                # a CPU, minutes
    python -m benchmarks speed --device cuda --model 0.8B --model 4B --model 2B   # a GPU, < 8 minutes

Models of the published shapes have random weights made in place; the small encoder has its own.
`share of peak` is achieved FLOP/s, counted from the weights that every token meets, over what a
large matrix product reaches on the same device in the same run. `over the floor` is the number of
tokens put through the decoder over the least that the algorithm needs (one pass over each turn's
tokens, latents and text, and one over the queue wherever it shifts). Rows with `rebuild` are the
reference's algorithm on our model code: everything again for every call. With `--reference`, rows
with `reference` are its own code with the same weights, for one new turn and a query behind a
history; `ratio` is its time over our mean for the same. On a CPU, which may be shared, shares of the
peak and ratios are by seconds of CPU; the clock's are shown as well.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from benchmarks.cost import speed_small
from benchmarks.cost.reference import VOCABULARY as REFERENCE_VOCABULARY
from benchmarks.cost.reference import Reference, conversation, load_code, question
from benchmarks.cost.shapes import VOCABULARY, peak, random_reader, settle, weights_of
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
from benchmarks.reporting.output import machine, positive, setting, table, write_json
from evomem.errors import InputError
from evomem.evoembedding.reader import CHUNK_TURNS, Reader
from evomem.evoembedding.tokens import Segment
from evomem.state import Spec, State, Vectors

PARTS = ("stream", "many", "bulk", "memory")
AGREE = {torch.float32: 1 - 1e-5, torch.bfloat16: 0.9}
"""The least cosine between the reference's embeddings and ours with which it is the same model. Deep
random recurrences magnify the rounding of 16 bit: with 24 hybrid layers either code comes within 0.93
of float32."""


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; return 0, 1 if the reference disagrees, or 2 after saying what is wrong."""
    options = _options(argv)
    try:
        code = load_code(options.reference) if options.reference else None
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    device = torch.device(options.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    clock = Clock(time.monotonic() + 60 * options.minutes, options.seconds)
    parts = options.part or PARTS
    result: dict[str, Any] = {
        **setting("speed", argv),
        "device": _device(device),
        "threads": torch.get_num_threads(),
        "peak_flops": peak(device, dtype),
        "rows": [],
    }
    print(f"{result['device']} · {machine()} · peak {result['peak_flops'] / 1e9:,.0f} GFLOP/s")
    if not options.no_mini:
        for make in (speed_small.mini, speed_small.static):
            _add(result, make(options, parts, clock, device))
    for name in options.model:
        work = _work(name, options, device, dtype, result["peak_flops"])
        _add(result, _published(work, parts, options, clock, code))
        del work
        if device.type == "cuda":
            torch.cuda.empty_cache()
    result["complete"] = not clock.late()
    if options.out:
        write_json(options.out, result)
    print(json.dumps(result))
    worst = min((row["cosine"] for row in result["rows"] if "cosine" in row), default=1.0)
    if not worst >= AGREE[dtype]:  # nor if it is not a number
        print(f"the reference's embeddings are not ours: cosine {worst}", file=sys.stderr)
        return 1
    return 0


# the published shapes --------------------------------------------------------------------------


def _published(
    work: _Work,
    parts: Sequence[str],
    options: argparse.Namespace,
    clock: Clock,
    code: ModuleType | None,
) -> Iterator[Line]:
    """Measure a random model of a published shape."""
    name, reader = work.name, work.reader
    start = time.monotonic()
    reader.read(_full(reader.spec, 0), turns_of(0, 1))  # kernels settle
    print(f"{name}: {work.flops / 2e9:.2f} G weights, first turn {time.monotonic() - start:.1f} s")
    if options.compile:
        list(_one_stream(work, clock, ()))  # each kind of pass is compiled when it first comes
        reader.caches.clear()  # or the same queries would find their prefixes
    if "stream" in parts:
        yield from _one_stream(work, clock, options.rebuild)
        if code:
            yield from _beside(work, code, options.rebuild, clock)
    if "many" in parts:
        yield from _many_streams(work, options.streams, clock)
    if "bulk" in parts and not clock.late():
        yield _bulk(work, options.histories, clock)
    if "memory" in parts and not clock.late():
        yield _stream_bytes(work)


@dataclass
class _Work:
    name: str
    reader: Reader
    flops: float
    limit: float

    def run(self, turns: int, floor: int, call: Callable[..., R], *given: Any) -> tuple[Line, R]:
        """Call once; return what it cost, and what it gave."""
        device = self.reader.model.device
        settle(device)
        tokens, cpu, wall = self.reader.tokens, time.process_time(), time.perf_counter()
        value = call(*given)
        settle(device)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        done = self.reader.tokens - tokens
        busy = wall if device.type == "cuda" else cpu
        line = {
            "model": self.name,
            "turns/s": turns / wall,
            "tokens/s": done / wall,
            "seconds": wall,
            "cpu seconds": cpu,
            "share of peak": self.flops * done / busy / self.limit,
            "over the floor": done / floor if floor else None,
        }
        return line, value


def _work(
    name: str, options: argparse.Namespace, device: torch.device, dtype: torch.dtype, limit: float
) -> _Work:
    """Return a random model of a shape, as the options want it."""
    cache = options.cache_gib * 2**30 if options.cache_gib else None
    words = REFERENCE_VOCABULARY if options.reference else VOCABULARY
    reader = random_reader(name, device, dtype, cache, words)
    if options.compile:
        name += ", compiled"
        for layer in reader.model.decoder.layers:
            layer.compile(dynamic=True)
    return _Work(name, reader, 2.0 * weights_of(reader.model), limit)


def _full(spec: Spec, seed: int) -> State[Any]:
    """Return a state whose queue is full, of a past that nobody has read."""
    rng = np.random.default_rng(seed)
    latents = rng.standard_normal((spec.capacity, spec.width), np.float32)
    latents = (latents.view(np.uint32) & 0xFFFF0000).view(np.float32)  # as bfloat16 keeps them
    return State(spec, b"past %d" % seed, latents, ())


def _one_stream(work: _Work, clock: Clock, rebuild: Sequence[int]) -> Iterator[Line]:
    """Add a turn and ask, again and again, from the first turn on and with a full queue."""
    reader = work.reader
    for turns, state in ((0, State.empty(reader.spec)), (10_000, _full(reader.spec, 1))):
        added: list[Line] = []
        asked: list[Line] = []
        reader.embed(state, [query_of(turns)])  # someone asked before
        until = time.monotonic() + clock.seconds
        for n, turn in enumerate(turns_of(turns, turns + 32)):
            if n and n % 4 == 0 and time.monotonic() > until:
                break
            grows = len(state.queue) + reader.spec.latents <= reader.spec.capacity
            shared = QUERY_TOKENS + (0 if grows else reader.spec.capacity)  # what the query costs
            floor = floor_of(state, len(state.open) in (0, 16)) - shared
            line, [reading] = work.run(1, floor, reader.read, state, [turn])
            added.append(line)
            state = state.after(turn, reading)
            asked.append(work.run(0, shared, reader.embed, state, [query_of(n)])[0])
        for what, measured in (("append", added), ("query", asked)):
            yield {"part": "stream", "what": what, "turns": turns, **latency(measured)}
    for size in rebuild:
        if not clock.late():
            line, _ = work.run(0, 0, rebuild_everything, reader.model, size)
            yield {
                "part": "stream", "what": "rebuild", "model": work.name, "turns": size,
                "p50 ms": 1000 * line["seconds"], "cpu p50 ms": 1000 * line["cpu seconds"],
            }  # fmt: skip


def _beside(work: _Work, code: ModuleType, sizes: Sequence[int], clock: Clock) -> Iterator[Line]:
    """Add a turn and ask behind histories of `sizes` turns: we, and the reference's own code."""
    reader = work.reader
    theirs = Reference(code, reader.model)
    theirs.embed(conversation(1), question(1))  # kernels settle
    for size in sizes:
        if clock.late():
            return
        turns = conversation(size + CHUNK_TURNS)
        state = reader.evolve(State.empty(reader.spec), turns[:size])
        reader.embed(state, [question(size)])  # someone asked before
        lines: list[Line] = []
        vectors: list[Vectors] = []
        for n, turn in enumerate(turns[size:], size):  # one chunk's worth
            floor = floor_of(state, len(state.open) in (0, CHUNK_TURNS))
            line, (state, ours) = work.run(1, floor, _turn_and_query, reader, state, turn, n)
            lines.append(line)
            vectors.append(ours)
        yield {"part": "stream", "what": "append + query", "turns": size, **latency(lines)}
        busy = "seconds" if reader.model.device.type == "cuda" else "cpu seconds"
        own = sum(line[busy] for line in lines) / len(lines)
        for what, logits in (("reference, no logits", False), ("reference", True)):
            if clock.late():
                return
            line, embedded = work.run(0, 0, theirs.embed, turns[: size + 1], question(size), logits)
            yield {
                "part": "stream", "what": what, "model": work.name, "turns": size,
                "p50 ms": 1000 * line["seconds"], "cpu p50 ms": 1000 * line["cpu seconds"],
                "ratio": line[busy] / own, "cosine": float((embedded[-2:] * vectors[0]).sum(1).min()),
            }  # fmt: skip


def _turn_and_query(
    reader: Reader, state: State[Any], turn: Segment, n: int
) -> tuple[State[Any], Vectors]:
    """Read turn `n` and the question behind it; return the state and both embeddings."""
    [reading] = reader.read(state, [turn])
    state = state.after(turn, reading)
    return state, np.stack([reading.embedding, reader.embed(state, [question(n)])[0]])


def _many_streams(work: _Work, streams: Sequence[int], clock: Clock) -> Iterator[Line]:
    """Let every stream add a turn and ask, all of them in the same passes."""
    reader = work.reader
    for count in streams:
        if clock.late():
            return
        states = [_full(reader.spec, seed) for seed in range(count)]
        reader.embed_batch([(state, [query_of(0)]) for state in states])  # someone asked before
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


def _bulk(work: _Work, histories: int, clock: Clock) -> Line:
    """Read histories from their first turn on, a batch of 16 turns of each at a time."""
    reader = work.reader
    states: list[State[Any]] = [State.empty(reader.spec) for _ in range(histories)]
    total: list[Line] = []
    until = time.monotonic() + 3 * clock.seconds
    at = 0
    while at < BULK and (not total or time.monotonic() < until):
        turns = [turns_of(1000 * i + at, 1000 * i + at + 16) for i in range(histories)]
        floor = 0
        for n in range(16):
            held = min((at + n) * reader.spec.latents, reader.spec.capacity)
            grows = held + reader.spec.latents <= reader.spec.capacity
            floor += TURN_TOKENS + TEXT_TOKENS + reader.spec.latents * (2 if grows else 1)
            floor += 0 if grows else held
            floor += held if n == 0 else 0
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
    """Read the turns of every stream, and then a query in each, if any; `states` move on."""
    for i, readings in enumerate(reader.read_batch(list(zip(states, turns, strict=True)))):
        for turn, reading in zip(turns[i], readings, strict=True):
            states[i] = states[i].after(turn, reading)
    if query is not None:
        reader.embed_batch([(state, [query]) for state in states])


def _stream_bytes(work: _Work) -> Line:
    """Measure what a stream in use holds: its caches, and the state that must be kept."""
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


# figures ---------------------------------------------------------------------------------------


def _add(result: dict[str, Any], lines: Iterator[Line]) -> None:
    """Keep lines as they come, and print them: a run that is cut short has shown what it had."""
    shown = []
    for line in lines:
        result["rows"].append(line)
        shown.append(line)
        print(*(f"{name} {_number(value)} ·" for name, value in line.items()), flush=True)
    for part in dict.fromkeys(line["part"] for line in shown):
        rows = [line for line in shown if line["part"] == part]
        names = list(dict.fromkeys(name for row in rows for name in row if name != "part"))
        print(f"\n{part}")
        print(
            table(names, [[_number(row.get(name)) for name in names] for row in rows]), flush=True
        )


def _number(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:,.4g}"


def _device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = _parser()
    options = parser.parse_args(argv)
    if options.reference and not options.model:
        parser.error("--reference is measured beside a model: name one with --model")
    if options.compile and options.part != ["stream"]:
        parser.error("--compile takes part in one stream's latencies only: add --part stream")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--model", action="append", default=[], choices=("tiny", "0.8B", "2B", "4B")
    )
    parser.add_argument(
        "--part", action="append", choices=PARTS, help="which tables; all if not given"
    )
    parser.add_argument("--no-mini", action="store_true", help="only the models named by --model")
    parser.add_argument(
        "--turns", type=positive, nargs="+", default=[100, 10_000, 100_000],
        help="turns that a memory holds (small encoder)",
    )  # fmt: skip
    parser.add_argument(
        "--streams", type=positive, nargs="+", default=[1, 4, 16, 64, 256, 1024],
        help="streams side by side",
    )  # fmt: skip
    parser.add_argument("--histories", type=positive, default=16, help="of a bulk import")
    parser.add_argument(
        "--rebuild", type=positive, nargs="*", default=[64, 512], help="turns that are read again"
    )
    parser.add_argument(
        "--reference", type=Path, metavar="CHECKOUT",
        help="of https://github.com/MiG-NJU/EvoEmbedding: its own code behind histories of as many "
        "turns as --rebuild says; needs --model, and peft installed",
    )  # fmt: skip
    parser.add_argument(
        "--compile", action="store_true",
        help="torch.compile around the decoder's layers, with --part stream: packed passes would be "
        "compiled anew for every number of streams",
    )  # fmt: skip
    parser.add_argument("--seconds", type=float, default=4.0, help="of one measurement, about")
    parser.add_argument("--minutes", type=float, default=7.0, help="when to begin nothing more")
    parser.add_argument("--cache-gib", type=int, help="caches of the published shapes")
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    return parser
