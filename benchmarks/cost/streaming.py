"""The cost of one more turn: streaming compared with rebuilding everything, as the reference does.

    python -m benchmarks streaming --out benchmarks/results/streaming.json

A random model of medium size, on the CPU with one thread, reads a history of N turns. Then 16 steps (one
chunk) of "add a turn, ask a query" are timed. The baseline is the reference's algorithm on the same model
code: evolve the memory over the whole history, then embed every text with its queue as context. Weights
are random, so the figures measure work, not quality.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.reporting.output import machine, setting, write_json
from evomem.evoembedding.config import FULL, CheckpointConfig, DecoderConfig
from evomem.evoembedding.model import EvoEmbedding, normalise
from evomem.evoembedding.reader import CHUNK_TURNS, Reader
from evomem.evoembedding.tokens import Segment
from evomem.state import Spec, State, Vectors

VOCABULARY = 1000
TURN_TOKENS, TEXT_TOKENS, QUERY_TOKENS = 64, 60, 32
REFERENCE_BATCH = 2048  # padded tokens in one of the reference's batches (docs/reference/evoembedding-model.md, "Configuration")
SHORTEST = 16  # turns of the first history; each further history is twice as long


@dataclass(frozen=True, slots=True)
class Row:
    """Means over the steps after a history of `turns` turns."""

    turns: int
    seconds: float
    tokens: float
    floor: float
    rebuild_seconds: float | None
    rebuild_tokens: int | None
    ratio: float | None
    difference: float | None
    """The largest absolute difference between the embeddings of streaming and rebuilding."""


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; return 0."""
    parser = argparse.ArgumentParser(prog="benchmarks streaming", description=__doc__)
    parser.add_argument("--max", type=int, default=1024, help="longest history, in turns")
    parser.add_argument(
        "--baseline-max", type=int, default=512, help="longest history the baseline rebuilds"
    )
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument(
        "--rerank",
        type=int,
        default=0,
        metavar="N",
        help="also measure the cost of reranking N hits",
    )
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args(argv)

    torch.set_num_threads(1)
    reader = make_reader(options.hidden, options.layers)
    model = f"qwen3 hidden {options.hidden}, {options.layers} layers, random, float32"
    print(f"streaming · turns of {TURN_TOKENS} tokens · {model} · 1 thread of {machine()}")
    print("  turns   ms/step  tokens   floor  rebuild ms  rebuild tokens   ratio  difference")
    rows = []
    state: State[Segment] = State.empty(reader.spec)
    turns_read = 0
    sizes = [SHORTEST * 2**i for i in range(20) if SHORTEST * 2**i <= options.max]
    warm_up(reader)
    for size in sizes:
        state = reader.evolve(state, turns_of(turns_read, size))  # not timed
        turns_read = size
        row = measure(reader, state, size, size <= options.baseline_max)
        rows.append(row)
        print(line(row), flush=True)
    result = {**setting("streaming", argv), "model": model, "rows": [asdict(row) for row in rows]}
    if options.rerank:
        result["rerank"] = rerank(reader, options.rerank)
    if options.out:
        write_json(options.out, result)
    print(json.dumps(result))
    return 0


def make_reader(hidden: int, layers: int) -> Reader:
    """Return a reader of a random model with the reference's memory settings."""
    memory = CheckpointConfig("", 16, 512, 16, 32.0, False)
    decoder = DecoderConfig(
        family="qwen3",
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        heads=hidden // 32,
        kv_heads=hidden // 64,
        head_dim=32,
        rotary_dim=32,
        rope_theta=1e6,
        eps=1e-6,
        layer_types=(FULL,) * layers,
        linear=None,
        tied=True,
        stop_ids=(),
    )
    torch.manual_seed(0)
    model = EvoEmbedding(memory, decoder, hidden).eval()
    torch.nn.init.normal_(model.memory_queries)
    spec = Spec("random", "random", hidden, memory.num_latents, hidden, memory.capacity)
    return Reader(model, spec)


def turns_of(start: int, end: int) -> list[Segment]:
    """Return the turns from `start` to `end` of an endless random conversation."""
    turns = []
    for i in range(start, end):
        ids = np.random.default_rng(i).integers(0, VOCABULARY, TURN_TOKENS + TEXT_TOKENS).tolist()
        turns.append(Segment.of_ids(ids[:TURN_TOKENS], ids[TURN_TOKENS:]))
    return turns


def query_of(i: int) -> list[int]:
    """Return the query that follows turn `i`."""
    ids: list[int] = np.random.default_rng(10**6 + i).integers(0, VOCABULARY, QUERY_TOKENS).tolist()
    return ids


def warm_up(reader: Reader) -> None:
    """Warm up the kernels and the allocator."""
    state = reader.evolve(State.empty(reader.spec), turns_of(0, 4))
    reader.embed(state, [query_of(0)])
    reader.caches.clear()


def measure(reader: Reader, state: State[Segment], size: int, rebuild: bool) -> Row:
    """Time one chunk of steps after `state`, and the first of them with the baseline."""
    steps = turns_of(size, size + CHUNK_TURNS)
    reader.embed(state, [query_of(size)])  # cache the prefix that the first turn needs
    tokens, start = reader.tokens, time.process_time()
    vectors: list[Vectors] = []
    floor = 0
    for i, turn in enumerate(steps):
        [reading] = reader.read(state, [turn])
        floor += floor_of(state, reading.opens_chunk)
        state = state.after(turn, reading)
        vectors.append(np.stack([reading.embedding, reader.embed(state, [query_of(size + i)])[0]]))
    seconds = (time.process_time() - start) / len(steps)
    step_tokens = (reader.tokens - tokens) / len(steps)
    step_floor = floor / len(steps)
    if not rebuild:
        return Row(size, seconds, step_tokens, step_floor, None, None, None, None)
    start = time.process_time()
    rebuilt, rebuilt_tokens = rebuild_everything(reader.model, size + 1)
    rebuild_seconds = time.process_time() - start
    difference = float(np.abs(rebuilt[-2:] - vectors[0]).max())
    ratio = rebuild_seconds / seconds
    return Row(
        size, seconds, step_tokens, step_floor, rebuild_seconds, rebuilt_tokens, ratio, difference
    )


def rerank(reader: Reader, hits: int, queries: int = 3) -> dict[str, float]:
    """Return the mean cost per query of reranking `hits` hits, which are read one after another."""
    tokens, start = reader.tokens, time.process_time()
    for query in range(queries):
        state: State[Segment] = State.empty(reader.spec)
        first = 10**5 * (query + 1)  # turns that no query before has cached
        turns = turns_of(first, first + hits)
        for turn, reading in zip(turns, reader.read(state, turns), strict=True):
            state = state.after(turn, reading)
        reader.embed(state, [query_of(query)])
    seconds = (time.process_time() - start) / queries
    return {"hits": hits, "seconds": seconds, "tokens": (reader.tokens - tokens) / queries}


def floor_of(state: State[Segment], opens: bool) -> int:
    """Return the minimum number of tokens for a turn in `state` and a query after it.

    See docs/reference/evoembedding-model.md, "Streaming".
    """
    spec, queue = state.spec, len(state.queue)
    latents = TURN_TOKENS + spec.latents + (queue if opens else 0)
    grows = queue + spec.latents <= spec.capacity
    return latents + TEXT_TOKENS + (spec.latents if grows else spec.capacity) + QUERY_TOKENS


def rebuild_everything(model: EvoEmbedding, count: int) -> tuple[Vectors, int]:
    """Embed `count` turns and a query as the reference does on every call.

    See docs/reference/evoembedding-model.md, "Chunks" and "Protocol R".

    Returns:
        The embeddings, (count + 1, D), the query's last, and the positions passed through the decoder.
    """
    turns = turns_of(0, count)
    capacity, count_of_latents = model.config.capacity, model.config.num_latents
    latents = torch.zeros(
        0, model.decoder.config.hidden_size, device=model.device, dtype=model.dtype
    )
    tokens = 0
    with torch.no_grad():
        for first in range(0, count, CHUNK_TURNS):  # 16 turns of 64 tokens end a chunk by count
            chunk = [turn.ids for turn in turns[first : first + CHUNK_TURNS]]
            queue = latents[max(0, len(latents) - capacity) :]
            tokens += len(queue) + sum(len(ids) + count_of_latents for ids in chunk)
            new, _ = model.evolve(chunk, queue)
            latents = torch.cat([latents, new.flatten(0, 1)])
        texts: list[Sequence[int]] = [turn.text for turn in turns]
        texts.append(query_of(count - 1))
        ends = [i * count_of_latents for i in range(count + 1)]
        queues = [latents[max(0, end - capacity) : end] for end in ends]
        rows = []
        batch = max(1, REFERENCE_BATCH // (capacity + TEXT_TOKENS))
        for first in range(0, len(texts), batch):
            part = slice(first, first + batch)
            tokens += sum(map(len, queues[part])) + sum(map(len, texts[part]))
            rows.append(normalise(model.embed_behind(queues[part], texts[part])))
    return torch.cat(rows).cpu().numpy(), tokens


def line(row: Row) -> str:
    """Return a row of the table."""
    text = f"{row.turns:7} {1000 * row.seconds:9.1f} {row.tokens:7.0f} {row.floor:7.0f}"
    if row.rebuild_seconds is None:
        return f"{text}           -               -       -           -"
    return (
        f"{text} {1000 * row.rebuild_seconds:11.0f} {row.rebuild_tokens:15,} "
        f"{row.ratio:6.0f}x {row.difference:11.1e}"
    )
