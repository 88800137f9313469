"""Can a search say that nothing answers? The relevance of hits, fitted on one half of the data.

    python -m benchmarks relevance --encoder mini --data realtalk beam

Every conversation is asked its own questions, among them those that it does not answer (BEAM), or those
of the next conversation (REALTALK, which has none). Conversations with an even number fit the calibration
(`evomem.search.relevance`): which of the best 10 hits are evidence. The others report: how well the
highest relevance of a question tells those that are answered from those that are not (AUC), how often
hits of some relevance are evidence, and what a least relevance leaves out.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track
from torch.nn import functional as F

import evomem
from benchmarks.datasets.base import Conversation, DatasetError, Question
from benchmarks.datasets.find import DEVELOPMENT, add_arguments, load_all
from benchmarks.quality.fusion import RESERVED
from benchmarks.quality.metrics import recall
from benchmarks.reporting.output import finish, positive, setting, table
from benchmarks.systems.encoders import Encoders
from evomem import Encoder, Memory
from evomem.plugins import DEFAULT_ENCODER
from evomem.search.relevance import Calibration, calibration_of

K = 10
BINS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
LEAST = (0.02, 0.05, 0.1, 0.2, 0.3)
PULL = 1e-6  # of the weights towards zero: only where the data say nothing

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and its best hits by hybrid search."""

    conversation: int
    type: str
    answered: bool
    signals: Values
    """(hits, 2): cosine, and the share of the query's words."""
    right: Values
    """(hits,) 1 for evidence."""
    recall: float
    """Of the evidence, among the hits; 0 where there is none."""


def main(argv: Sequence[str]) -> int:
    """Fit and report; return 0, or 2 after saying what is wrong."""
    options = _parser().parse_args(argv)
    result: dict[str, Any] = {**setting("relevance", argv), "encoder": options.encoder}
    return finish(result, options.out, lambda: _report_all(options, result))


def _report_all(options: argparse.Namespace, result: dict[str, Any]) -> None:
    datasets = load_all(options, DEVELOPMENT)
    if reserved := [dataset.name for dataset in datasets if dataset.name in RESERVED]:
        raise DatasetError(f"{reserved[0]} is for reporting: fit on {DEVELOPMENT} only")
    encoder = Encoders()[options.encoder]
    gathered: dict[str, list[Asked]] = {}
    for dataset in datasets:
        swapped = dataset.name == "realtalk"
        found = gather(encoder, dataset.conversations, options.limit, swapped=swapped)
        gathered[dataset.name] = list(found)
    first_half = [q for asked in gathered.values() for q in asked if q.conversation % 2 == 0]
    fits = {
        "in use": calibration_of(encoder.spec.name),
        "fitted": fit(first_half),
        "fitted, words alone": fit(first_half, with_cosine=False),
    }
    result["calibration"] = {name: str(each) for name, each in fits.items()}
    for name, calibration in fits.items():
        print(f"{name}: {calibration}")
    for name, asked in gathered.items():
        second = [q for q in asked if q.conversation % 2]
        result[name] = {label: measure(second, calibration) for label, calibration in fits.items()}
        result[name]["recall@10"] = _macro(asked)
        print(f"\n{name}: {len(second)} questions of the half that nothing was fitted on\n")
        print(report(result[name]))


def gather(
    encoder: Encoder, conversations: Sequence[Conversation], limit: int | None, *, swapped: bool
) -> Iterator[Asked]:
    """Yield every question of the first `limit` conversations with its hits.

    Args:
        encoder: Of the memories.
        conversations: What is read.
        limit: How many of them; None for all.
        swapped: Whether each is asked the questions of the next one, too.
    """
    for number, conversation in enumerate(track(conversations[:limit], transient=True)):
        with evomem.open(":memory:", encoder=encoder) as database:
            memory = database.memory("relevance")
            memory.add_many(conversation.turns)
            following = conversations[(number + 1) % len(conversations)]
            foreign = [q for q in following.questions if q.evidence] if swapped else []
            for question in conversation.questions:
                if question.evidence or question.unanswerable:
                    yield _asked(memory, number, question, question.evidence)
            for question in foreign:
                yield _asked(memory, number, question, ())


def _asked(memory: Memory, number: int, question: Question, evidence: Sequence[int]) -> Asked:
    hits = [hit.seq for hit in memory.search(question.text, K)]
    engine = memory._engine
    with engine.store.snapshot():
        view = memory._view()
        [vector] = engine.reader.embed_queries(engine.state(view), [question.text])
        cosines = engine.index.score(view, vector, hits)
        words = engine.store.lexical(view, question.text)
    shared = dict(words)
    rows = [(cosines[seq], shared.get(seq, 0.0) / (words.most or 1.0)) for seq in hits]
    return Asked(
        number,
        question.type,
        bool(evidence),
        np.array(rows, np.float64).reshape(-1, 2),
        np.array([float(seq - 1 in evidence) for seq in hits]),
        recall([seq - 1 for seq in hits], evidence, K) if evidence else 0.0,
    )


def fit(questions: Sequence[Asked], *, with_cosine: bool = True) -> Calibration:
    """Return the logistic model of whether a hit is evidence."""
    signals = torch.from_numpy(np.concatenate([question.signals for question in questions]))
    right = torch.from_numpy(np.concatenate([question.right for question in questions]))
    used = torch.tensor([float(with_cosine), 1.0], dtype=torch.float64)
    weights = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        logits = signals @ (weights[:2] * used) + weights[2]
        total = F.binary_cross_entropy_with_logits(logits, right)
        total = total + PULL * (weights[:2] ** 2).sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    cosine, words, bias = (round(value, 2) for value in weights.tolist())
    return Calibration(cosine if with_cosine else 0.0, words, bias)


def measure(questions: Sequence[Asked], calibration: Calibration) -> dict[str, Any]:
    """Return AUC, reliability, and what a least relevance leaves out."""
    relevance = [
        np.array([calibration.relevance(cosine, words) for cosine, words in question.signals])
        for question in questions
    ]
    best = np.array([own.max(initial=0.0) for own in relevance])
    answered = np.array([question.answered for question in questions])
    every = np.concatenate(relevance)
    right = np.concatenate([question.right for question in questions])
    bins = []
    for low, high in zip(BINS, BINS[1:], strict=False):
        inside = (every >= low) & (every < high)
        if inside.any():
            bins.append([low, high, int(inside.sum()), every[inside].mean(), right[inside].mean()])
    return {
        "auc": auc(best[answered], best[~answered]),
        "bins": bins,
        "least": [
            [least, (best[~answered] < least).mean(), 1 - right[every >= least].sum() / right.sum()]
            for least in LEAST
        ],
    }


def auc(higher: Values, lower: Values) -> float:
    """Return how often one of the first is above one of the second; ties count half.

    >>> auc(np.array([0.9, 0.4]), np.array([0.4, 0.1]))
    0.875
    """
    above = (higher[:, None] > lower).mean() + (higher[:, None] == lower).mean() / 2
    return float(above)


def report(entry: dict[str, Any]) -> str:
    """Return tables: AUC, reliability of the fitted calibration, and what is left out."""
    fits = [name for name in entry if name != "recall@10"]
    aucs = table(["", *fits], [["AUC", *(f"{entry[name]['auc']:.3f}" for name in fits)]])
    fitted = entry["fitted"]
    bins = table(
        ["relevance", "hits", "mean relevance", "are evidence"],
        [[f"{a} to {b}", f"{n:,}", f"{p:.3f}", f"{r:.3f}"] for a, b, n, p, r in fitted["bins"]],
    )
    least = table(
        ["min_relevance", "unanswered questions without a hit, %", "evidence lost, %"],
        [[f"{m}", f"{100 * none:.0f}", f"{100 * lost:.0f}"] for m, none, lost in fitted["least"]],
    )
    recalled = f"recall@10, macro, hybrid, all conversations: {100 * entry['recall@10']:.1f}"
    return f"{aucs}\n\n{bins}\n\n{least}\n\n{recalled}"


def _macro(questions: Sequence[Asked]) -> float:
    kinds: dict[str, list[float]] = {}
    for question in questions:
        if question.answered:
            kinds.setdefault(question.type, []).append(question.recall)
    return float(np.mean([np.mean(values) for values in kinds.values()]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks relevance",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    parser.add_argument("--encoder", metavar="NAME", default=DEFAULT_ENCODER, help="default: mini")
    parser.add_argument("--limit", type=positive, metavar="N", help="only N conversations of each")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write everything here as JSON")
    return parser
