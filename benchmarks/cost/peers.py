"""The cost of adding, searching, filtering, deleting and opening in evomem and other memories.

    pip install langgraph-checkpoint-sqlite chromadb "mem0ai>=2,<3" llama-index-core
    python -m benchmarks peers --turns 10000 --vectors vectors.npz

The figures are CPU times of one process with one thread. Every round makes a few calls to each system
in turn. All systems get the same vectors, MiniLM's for the turns of a dataset (REALTALK by default).
Vectors are looked up, so that the model costs nothing; with `--live`, the model runs in every call.
Beyond the turns of the dataset, vectors are mixtures of its vectors. A system that is not installed is
skipped and named. `evomem` searches by vectors alone, as the others do; `evomem hybrid` also uses words
and times.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cost.peer_systems import PEERS, TOPICS, Embed, K, Peer, topic_of
from benchmarks.cost.scale_vectors import grown
from benchmarks.datasets.find import add_arguments, load_all
from benchmarks.reporting.output import positive, setting, table, write_json
from evomem.encoder import Encoder
from evomem.plugins import load_encoder
from evomem.records import Turn
from evomem.state import State, Vectors

CALLS_PER_ROUND = 5
BATCH = 500  # texts added in one call
OURS = "evomem"


@cache
def _minilm() -> Encoder:
    return load_encoder("static")


class Texts:
    """Texts with vectors: those of a dataset, followed by mixtures of them."""

    def __init__(
        self, texts: Sequence[str], questions: Sequence[str], file: Path | None, live: bool
    ) -> None:
        """Embed texts and questions, or read their vectors from `file` if it exists."""
        self._live = live
        self.questions = list(dict.fromkeys(questions))
        self._texts = list(dict.fromkeys(texts))
        if file and file.exists():
            with np.load(file) as arrays:
                self._seeds, queries = arrays["turns"], arrays["questions"]
        else:
            self._seeds, queries = self._model(self._texts), self._model(self.questions)
            if file:
                np.savez(file, allow_pickle=False, turns=self._seeds, questions=queries)
        self._vector_of: dict[str, Vectors] = dict(zip(self.questions, queries, strict=True))

    def take(self, count: int) -> list[str]:
        """Return `count` distinct texts, and keep their vectors."""
        size = len(self._texts)
        all_texts = [self._texts[n % size] + (f" {n}" if n >= size else "") for n in range(count)]
        self.vectors = grown(self._seeds, count)
        self._vector_of.update(zip(all_texts, self.vectors, strict=True))
        return all_texts

    @property
    def dim(self) -> int:
        """The length of a vector."""
        return int(self._seeds.shape[1])

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors of texts."""
        return (
            self._model(texts)
            if self._live
            else np.stack([self._vector_of[text] for text in texts])
        )

    def nearest(self, query: str, topic: int | None, count: int) -> set[int]:
        """Return the indices of the `K` nearest of the first `count` texts, by exact search."""
        scores = self.vectors[:count] @ self._vector_of[query]
        if topic is not None:
            scores[np.arange(count) % TOPICS != topic] = -np.inf
        return {n for n in np.argsort(-scores)[:K].tolist() if np.isfinite(scores[n])}

    def _model(self, texts: Sequence[str]) -> Vectors:
        encoder = _minilm()
        state: State[Turn] = State.empty(encoder.spec)
        starts = range(0, len(texts), 256)
        return np.concatenate([encoder.embed_queries(state, texts[n : n + 256]) for n in starts])


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; return 0."""
    parser = argparse.ArgumentParser(prog="benchmarks peers", description=__doc__)
    parser.add_argument("--turns", type=positive, default=10_000)
    parser.add_argument("--rounds", type=positive, default=12)
    parser.add_argument("--system", action="append", choices=PEERS, help="measure only these")
    parser.add_argument("--vectors", type=Path, help="a cache for MiniLM's vectors (.npz)")
    parser.add_argument("--live", action="store_true", help="run MiniLM in every call")
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    add_arguments(parser)
    options = parser.parse_args(argv)
    [data, *_] = load_all(options, ("realtalk",))
    turns = [
        turn.text
        for conversation in data.conversations
        for turn in conversation.turns
        if turn.text.strip()
    ]
    questions = [
        question.text for conversation in data.conversations for question in conversation.questions
    ]
    texts = Texts(turns, questions, options.vectors, options.live)
    result = {**setting("peers", argv), **run(texts, options)}
    if options.out:
        write_json(options.out, result)
    print(json.dumps(result))
    return 0


def run(texts: Texts, options: argparse.Namespace) -> dict[str, Any]:
    """Measure every installed system; print a table and return the figures."""
    figures: dict[str, dict[str, float]] = {}
    skipped: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as root, ExitStack() as stack:
        peers: dict[str, Peer] = {}
        for name in options.system or PEERS:
            folder = Path(root) / name.replace(" ", "_")
            folder.mkdir()
            try:
                peers[name] = stack.enter_context(PEERS[name](folder, texts.embed, texts.dim))
                figures[name] = {}
            except ImportError as error:
                skipped[name] = str(error)
                print(f"{name} is skipped: {error}")
        all_texts = texts.take(options.turns + options.rounds * CALLS_PER_ROUND)
        _fill(peers, all_texts, options.turns, figures)
        _call(peers, all_texts, texts, options, figures)
        stack.close()
        for name in peers:
            folder = Path(root) / name.replace(" ", "_")
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            figures[name]["disk, bytes a turn"] = size / options.turns
        _open(peers, Path(root), texts, options.rounds, figures)
    columns = list(next(iter(figures.values())))
    ours = figures.get(OURS, {})
    rows = [
        [column]
        + [
            f"{figures[name][column]:.4g}"
            + (f" ({figures[name][column] / ours[column]:.2f})" if column in ours else "")
            for name in figures
        ]
        for column in columns
    ]
    print(table([f"CPU ms of a call (over {OURS}'s)", *figures], rows))
    return {"figures": figures, "skipped": skipped}


def _fill(
    peers: dict[str, Peer], texts: list[str], count: int, figures: dict[str, dict[str, float]]
) -> None:
    spent = dict.fromkeys(peers, 0.0)
    for start in range(0, count, BATCH):
        end = min(start + BATCH, count)
        ids = [f"t{n}" for n in range(start, end)]
        for name, peer in peers.items():
            spent[name] += _cpu(partial(peer.add, ids, texts[start:end]))
    for name in peers:
        figures[name][f"add in batches of {BATCH}, a turn"] = spent[name] / count


def _call(
    peers: dict[str, Peer],
    texts: list[str],
    source: Texts,
    options: argparse.Namespace,
    figures: dict[str, dict[str, float]],
) -> None:
    count, questions = options.turns, source.questions
    # Every search has a new question, and the added texts are deleted again.
    calls: dict[str, Callable[[Peer, int], Any]] = {
        "search": lambda peer, n: peer.search(questions[n % len(questions)]),
        "search with a filter": lambda peer, n: peer.search(
            questions[n % len(questions)], n % TOPICS
        ),
        "add one": lambda peer, n: peer.add([f"t{count + n}"], [texts[count + n]]),
        "delete one": lambda peer, n: peer.delete(f"t{count + n}"),
        "search after that": lambda peer, n: peer.search(questions[n % len(questions)]),
    }
    for label, call in calls.items():
        spent: dict[str, list[float]] = {name: [] for name in peers}
        recalls: dict[str, list[float]] = {name: [] for name in peers}
        for peer in peers.values():  # warm up
            peer.search(questions[-1], 3 if "filter" in label else None)
        for turn in range(options.rounds):
            for name, peer in peers.items():
                for n in range(turn * CALLS_PER_ROUND, (turn + 1) * CALLS_PER_ROUND):
                    hits: list[Any] = []
                    spent[name].append(_cpu(lambda: hits.append(call(peer, n))))  # noqa: B023
                    if label == "search" or "filter" in label:
                        topic = n % TOPICS if "filter" in label else None
                        exact = source.nearest(questions[n % len(questions)], topic, count)
                        if misses := [id for id in hits[0] if topic not in (None, topic_of(id))]:
                            raise SystemExit(f"{name} returned {misses} for the topic {topic}")
                        recalls[name].append(
                            len(exact & {int(id[1:]) for id in hits[0]}) / len(exact)
                        )
        for name in peers:
            figures[name][label] = statistics.median(spent[name])
            figures[name][f"{label}, p95"] = float(np.percentile(spent[name], 95))
            if recalls[name]:
                figures[name][f"{label}, share of the {K} nearest"] = statistics.mean(recalls[name])


def _open(
    peers: dict[str, Peer],
    root: Path,
    texts: Texts,
    rounds: int,
    figures: dict[str, dict[str, float]],
) -> None:
    """Measure reopening every system and its first search; modules are already loaded."""
    embed: Embed = texts.embed
    spent: dict[str, list[float]] = {name: [] for name in peers}
    for turn in range(min(rounds, CALLS_PER_ROUND)):
        for name in peers:
            folder = root / name.replace(" ", "_")
            with ExitStack() as stack:

                def first() -> None:
                    peer = stack.enter_context(PEERS[name](folder, embed, texts.dim))  # noqa: B023
                    peer.search(texts.questions[turn])  # noqa: B023

                spent[name].append(_cpu(first))
    for name in peers:
        figures[name]["open, and the first search"] = statistics.median(spent[name])


def _cpu(call: Callable[[], Any]) -> float:
    """Return the CPU milliseconds of a call, over all threads of this process."""
    begin = time.process_time()
    call()
    return 1000 * (time.process_time() - begin)
