"""Recall of A-MEM and LightMem with their own retriever, compared with ours.

The tables have the layout of Table 4 of the EvoEmbedding paper, but measure retrieval alone, without an
LLM: a note or memory is one unchanged utterance, and a query is the unchanged question. Adversarial
questions are left out, as in the paper.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
from rich.progress import Progress

from benchmarks.datasets import Dataset
from benchmarks.datasets.find import DEVELOPMENT, add_arguments, load_all
from benchmarks.quality.metrics import DEPTH, MAIN_METRIC, score, summarise
from benchmarks.quality.retrieval import ADVERSARIAL
from benchmarks.reporting.output import setting, table, write_json
from benchmarks.systems import plugin_hosts as hosts
from benchmarks.systems.base import best
from evomem import Encoder, Turn, load_encoder
from evomem.errors import EvomemError
from evomem.state import State, Vectors
from evomem_integrations.amem import SimpleEmbeddingRetriever
from evomem_integrations.lightmem import EmbeddingRetriever, TextEmbedder

DEFAULT = "static:all-MiniLM-L6-v2"  # the default model of both hosts
ENCODERS = (DEFAULT, "mini")


def note(turn: Turn) -> str:
    """Return the text that A-MEM's evaluation passes to its retriever for a note without metadata.

    >>> note(Turn(user="Hi!", speaker="Mel"))
    'content:Speaker Melsays : Hi! context:General keywords:  tags: '
    """
    return f"content:Speaker {_speaker(turn)}says : {_utterance(turn)} context:General keywords:  tags: "


def memory(turn: Turn) -> str:
    """Return the text of a LightMem memory: the speaker and the utterance."""
    return f"{_speaker(turn)}: {_utterance(turn)}"


class Rank(Protocol):
    """Ranks the turns of a conversation."""

    def __call__(self, question: str, k: int) -> list[int]:
        """Return the indices of the `k` best turns, best first."""
        ...


class Plugged(Protocol):
    """A host's retrieval with one of the retrievers that can be plugged into it."""

    name: str

    def index(self, turns: Sequence[Turn]) -> Rank:
        """Discard earlier turns, read `turns`, and return the function that ranks them."""
        ...


class AsDefault:
    """The default retrieval of both hosts, re-implemented: cosines of all-MiniLM-L6-v2."""

    def __init__(self, name: str, text: Any, encoder: Encoder) -> None:
        self.name = f"{name}, its default re-implemented"
        self._text, self._encoder = text, encoder
        self._past: State[Turn] = State.empty(encoder.spec)

    def index(self, turns: Sequence[Turn]) -> Rank:
        """See `Plugged.index`."""
        texts = [self._text(turn) for turn in turns]
        vectors: Vectors = self._encoder.embed_queries(self._past, texts)  # (N, D), no prefix

        def rank(question: str, k: int) -> list[int]:
            query = self._encoder.embed_queries(self._past, [question])[0]
            return best(np.asarray(vectors @ query, np.float64), k)

        return rank


class Amem:
    """A retriever with A-MEM's interface, evomem's or A-MEM's."""

    def __init__(self, name: str, make: Any) -> None:
        """`make` returns a new, empty retriever."""
        self.name = name
        self._make = make

    def index(self, turns: Sequence[Turn]) -> Rank:
        """See `Plugged.index`."""
        retriever = self._make()
        retriever.add_documents([note(turn) for turn in turns])
        return lambda question, k: [int(place) for place in retriever.search(question, k)]


class LightMem:
    """An embedder and a vector store with LightMem's interfaces, evomem's or LightMem's."""

    def __init__(self, name: str, make: Any) -> None:
        """`make` returns an embedder and a new, empty store."""
        self.name = name
        self._make = make

    def index(self, turns: Sequence[Turn]) -> Rank:
        """See `Plugged.index`."""
        embedder, store = self._make()
        places = {hosts.uuid_of(place): place for place in range(len(turns))}
        for id, turn in zip(places, turns, strict=True):
            text = memory(turn)
            store.insert(vectors=[embedder.embed(text)], payloads=[{"memory": text}], ids=[id])

        def rank(question: str, k: int) -> list[int]:
            hits = store.search(query_vector=embedder.embed(question), limit=k, filters=None)
            return [places[hit["id"]] for hit in hits]

        return rank


def ours_for_lightmem(encoder: Encoder) -> tuple[TextEmbedder, EmbeddingRetriever]:
    """Return the embedder and store that LightMem builds after `install(encoder)`."""
    TextEmbedder.encoder = EmbeddingRetriever.encoder = encoder
    store = SimpleNamespace(collection_name="benchmark", on_disk=False, path="")
    return TextEmbedder(), EmbeddingRetriever(store)


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; return 0, or 2 after an error message."""
    options = _parser().parse_args(argv)
    result: dict[str, Any] = {**setting("plugin", argv), "datasets": []}
    try:
        systems = list(_systems(options))
        for dataset in load_all(options, (*DEVELOPMENT[:1], "locomo")):
            with Progress(transient=True) as progress:
                entry = evaluate(
                    without_adversarial(dataset), systems, options.limit, progress=progress
                )
            result["datasets"].append(entry)
            print(report(entry, result), flush=True)
            if options.out:
                write_json(options.out, result)
    except EvomemError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def evaluate(
    dataset: Dataset, systems: Sequence[Plugged], limit: int | None, progress: Progress
) -> dict[str, Any]:
    """Return the metrics of every system, by question type and overall, and its latencies."""
    conversations = dataset.conversations[:limit]
    rows = []
    for system in systems:
        scored: list[tuple[str, dict[str, float]]] = []
        reading_seconds, query_seconds = 0.0, []
        for talk in progress.track(conversations, description=f"{dataset.name} · {system.name}"):
            start = time.perf_counter()
            rank = system.index(talk.turns)
            reading_seconds += time.perf_counter() - start
            for question in talk.questions:
                if question.evidence:
                    start = time.perf_counter()
                    ranking = rank(question.text, DEPTH)
                    query_seconds.append(time.perf_counter() - start)
                    scored.append((question.type, score(ranking, question.evidence)))
        turns = sum(len(conversation.turns) for conversation in conversations)
        times = {
            "ms_per_turn": 1000 * reading_seconds / turns,
            "ms_per_query": 1000 * median(query_seconds),
        }
        rows.append({"system": system.name, **summarise(scored), **times})
    use = "development" if dataset.name in DEVELOPMENT else "reporting"
    counts = replace(dataset, conversations=conversations).counts()
    return {"dataset": dataset.name, "use": use, "counts": counts, "rows": rows}


def without_adversarial(dataset: Dataset) -> Dataset:
    """Return the dataset without adversarial questions."""
    return replace(
        dataset,
        conversations=[
            replace(
                conversation, questions=[q for q in conversation.questions if q.type != ADVERSARIAL]
            )
            for conversation in dataset.conversations
        ],
    )


def report(entry: dict[str, Any], run: dict[str, Any]) -> str:
    """Return a table like the paper's: a row per method, a column per question type and overall."""
    rows, counts = entry["rows"], entry["counts"]
    kinds = list(rows[0]["types"])
    lines = [
        [
            row["system"],
            *(f"{100 * row['types'][kind][MAIN_METRIC]:.1f}" for kind in kinds),
            f"{100 * row['overall']['all'][MAIN_METRIC]:.1f}",
            f"{row['ms_per_turn']:.1f}",
            f"{row['ms_per_query']:.1f}",
        ]
        for row in rows
    ]
    return "\n".join(
        [
            "",
            f"{entry['dataset']} ({entry['use']}) · {counts['conversations']} conversations, "
            f"{counts['turns']:,} turns · {counts['scored']:,} questions · {MAIN_METRIC} in percent",
            run["machine"],
            "",
            table(["system", *kinds, "overall", "ms/turn", "ms/query"], lines),
        ]
    )


def _systems(options: argparse.Namespace) -> Iterator[Plugged]:
    default = load_encoder(DEFAULT)
    encoders = [
        default if name == DEFAULT else load_encoder(name, device=options.device)
        for name in options.encoder or ENCODERS
    ]
    if options.amem:
        yield Amem("A-MEM, its own retriever", hosts.amem(options.amem))
    else:
        yield AsDefault("A-MEM", note, default)
    for encoder in encoders:
        yield Amem(
            f"A-MEM + {encoder.spec.name}",
            lambda encoder=encoder: SimpleEmbeddingRetriever(encoder=encoder),
        )
    if options.lightmem:
        yield LightMem("LightMem, its own retriever", hosts.lightmem(options.lightmem))
    else:
        yield AsDefault("LightMem", memory, default)
    for encoder in encoders:
        yield LightMem(
            f"LightMem + {encoder.spec.name}",
            lambda encoder=encoder: ours_for_lightmem(encoder),
        )


def _speaker(turn: Turn) -> str:
    return turn.speaker or ("User" if turn.user else "Assistant")


def _utterance(turn: Turn) -> str:
    return turn.user or turn.assistant


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks plugin", description=(__doc__ or "").partition("\n")[0]
    )
    add_arguments(parser)
    parser.add_argument(
        "--encoder",
        action="append",
        metavar="NAME",
        help="an encoder to plug in, such as evoembedding:/path; may be repeated "
        f"(default: {', '.join(ENCODERS)})",
    )
    parser.add_argument("--device", help="where encoders run, such as cuda")
    parser.add_argument(
        "--amem", type=Path, metavar="PATH", help="a checkout of github.com/WujiangXu/A-mem"
    )
    parser.add_argument(
        "--lightmem", type=Path, metavar="PATH", help="a checkout of github.com/zjunlp/LightMem"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N conversations")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write all results here as JSON")
    return parser
