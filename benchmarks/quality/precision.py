"""What does bfloat16 change? Real chats and their questions are read in both precisions.

    python -m benchmarks precision --encoder mini
    python -m benchmarks precision --encoder evoembedding:FOLDER?base=BASE --device cuda

Each precision uses its own latents from the first turn on, so that differences can accumulate. Questions
are asked after the last turn, over all turns of their chat.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from benchmarks.datasets import Conversation, Dataset
from benchmarks.datasets.find import add_arguments, load_all
from benchmarks.quality.intervals import Interval, Resampling
from benchmarks.quality.metrics import recall
from benchmarks.reporting.output import finish, positive, setting, table
from benchmarks.systems.encoders import Encoders, read_all
from evomem.state import Vectors

PRECISIONS = ("float32", "bfloat16")
DEPTH = 10


@dataclass
class Comparison:
    """The comparison of both precisions on the chats so far, with one value per turn or question."""

    turns: list[float] = field(default_factory=list)
    """Cosines between the two embeddings of each turn."""
    queries: list[float] = field(default_factory=list)
    """Cosines between the two embeddings of each question."""
    same_first: list[float] = field(default_factory=list)
    """Whether both rank the same turn first."""
    overlap: list[float] = field(default_factory=list)
    """The share of the first ten turns that both rankings contain."""
    recalls: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))
    """recall@10 in each precision."""
    chats: list[str] = field(default_factory=list)
    types: list[str] = field(default_factory=list)

    def add(self, chat: Conversation, encoders: Encoders, names: Sequence[str]) -> None:
        """Read a chat and its questions in both precisions, and add the figures."""
        questions = [question for question in chat.questions if question.evidence]
        embedded: list[tuple[Vectors, Vectors]] = []  # by precision: turns (N, D), queries (Q, D)
        for name in names:
            turns, state = read_all(encoders[name], chat.turns)
            texts = [question.text for question in questions]
            embedded.append((turns, encoders[name].embed_queries(state, texts)))
        (turns, queries), (other_turns, other_queries) = embedded
        self.turns += (turns * other_turns).sum(1).tolist()
        self.queries += (queries * other_queries).sum(1).tolist()
        orders = [np.argsort(-(q @ t.T), axis=1, kind="stable")[:, :DEPTH] for t, q in embedded]
        for question, first, other in zip(
            questions, *(order.tolist() for order in orders), strict=True
        ):
            self.same_first.append(float(first[0] == other[0]))
            self.overlap.append(len(set(first) & set(other)) / len(first))
            for values, ranking in zip(self.recalls, (first, other), strict=True):
                values.append(recall(ranking, question.evidence, DEPTH))
            self.chats.append(chat.id)
            self.types.append(question.type)

    def summary(self) -> dict[str, Any]:
        """Return all figures; intervals as [mean, low, high]."""
        resampling = Resampling(self.chats, self.types)
        first, second = self.recalls
        return {
            "turns": len(self.turns),
            "questions": len(self.queries),
            "cosine of turns": _spread(self.turns),
            "cosine of queries": _spread(self.queries),
            "top-1 agreement": float(np.mean(self.same_first)),
            "top-10 overlap": float(np.mean(self.overlap)),
            "recall@10 float32": _triple(resampling.interval(first)),
            "recall@10 bfloat16": _triple(resampling.interval(second)),
            "recall@10 difference": _triple(resampling.difference(second, first)),
            "resampled": resampling.unit,
        }


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; return 0, or 2 after an error message."""
    options = _parser().parse_args(argv)
    result: dict[str, Any] = {**setting("precision", argv), "rows": []}

    def run() -> None:
        datasets = load_all(options, ("realtalk",))
        encoders = Encoders(options.device)
        for name in options.encoder:
            for dataset in datasets:
                row = compare(name, dataset, encoders, options.limit)
                result["rows"].append(row)
                print(report(row), flush=True)

    return finish(result, options.out, run)


def compare(
    encoder: str, dataset: Dataset, encoders: Encoders, limit: int | None = None
) -> dict[str, Any]:
    """Return the figures of both precisions on the first `limit` chats of a dataset."""
    separator = "&" if "?" in encoder else "?"
    names = [f"{encoder}{separator}dtype={precision}" for precision in PRECISIONS]
    comparison = Comparison()
    chats = [
        conversation
        for conversation in dataset.conversations
        if any(q.evidence for q in conversation.questions)
    ]
    for chat in track(chats[:limit], f"{encoder}, {dataset.name}", transient=True):
        comparison.add(chat, encoders, names)
    identity = {"encoder": encoder, "dataset": dataset.name, "chats": len(chats[:limit])}
    return {**identity, **comparison.summary()}


def report(row: dict[str, Any]) -> str:
    """Return the report on one encoder and dataset."""
    lines = [
        [name, f"{spread['mean']:.6f}", f"{spread['1st percentile']:.6f}", f"{spread['worst']:.6f}"]
        for name, spread in row.items()
        if name.startswith("cosine")
    ]
    recalls = [f"{name} {Interval(*row[name])}" for name in row if name.startswith("recall")]
    return "\n".join(
        [
            f"\n{row['encoder']} · {row['dataset']} · {row['chats']} chats, {row['turns']:,} turns, "
            f"{row['questions']:,} questions · 95 % intervals: bootstrap over {row['resampled']}\n",
            table(["float32 and bfloat16", "mean", "1st percentile", "worst"], lines),
            f"\ntop-1 agreement {100 * row['top-1 agreement']:.1f} %, "
            f"top-10 overlap {100 * row['top-10 overlap']:.1f} %",
            *recalls,
        ]
    )


def _spread(cosines: Sequence[float]) -> dict[str, float]:
    return {
        "mean": float(np.mean(cosines)),
        "1st percentile": float(np.quantile(cosines, 0.01)),
        "worst": float(np.min(cosines)),
    }


def _triple(interval: Interval) -> list[float]:
    return [interval.mean, interval.low, interval.high]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks precision",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    parser.add_argument(
        "--encoder",
        action="append",
        required=True,
        metavar="NAME",
        help="an encoder that supports both, such as mini; may be repeated",
    )
    parser.add_argument("--device", help="where encoders run, such as cuda")
    parser.add_argument("--limit", type=positive, metavar="N", help="only the first N chats")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures here as JSON")
    return parser
