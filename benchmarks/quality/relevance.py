"""Can a search tell that nothing answers a question? The relevance of hits, fitted on half of the data.

    python -m benchmarks relevance --encoder mini --data realtalk beam

Each conversation is searched with its own questions, including unanswerable ones (BEAM), or in addition
with those of the next conversation (REALTALK, which has no unanswerable ones). The calibration
(`evomem.search.relevance`) predicts whether one of the best 10 hits is evidence. It is fitted on every
second conversation of all datasets together; the others show how well the highest relevance of a question
separates answerable from unanswerable questions (AUC), how often hits of a given relevance are evidence,
and what a minimum relevance leaves out. Then both halves change places.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
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
from benchmarks.reporting.plots import draw_reliability
from benchmarks.systems.encoders import Encoders
from evomem import Encoder, Memory
from evomem.plugins import DEFAULT_ENCODER
from evomem.search.relevance import Calibration, calibration_of

K = 10
HALVES = ("fitted on the odd conversations", "fitted on the even conversations")
"""Counted from 1; the questions of the other conversations are measured."""
BINS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
MIN_RELEVANCES = (0.02, 0.05, 0.1, 0.2, 0.3)
L2_PENALTY = 1e-6  # only determines weights that the data leave open

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SearchedQuestion:
    """A question and its best hits by hybrid search."""

    conversation: int
    type: str
    answered: bool
    signals: Values
    """(hits, 2): the cosine, and the weighted share of the query's words."""
    is_evidence: Values
    """(hits,), 1 for evidence."""
    recall: float
    """The share of the evidence among the hits; 0 without evidence."""


def main(argv: Sequence[str]) -> int:
    """Fit and report; return 0, or 2 after an error message."""
    options = _parser().parse_args(argv)
    result: dict[str, Any] = {**setting("relevance", argv), "encoder": options.encoder}
    return finish(result, options.out, lambda: _report_all(options, result))


def _report_all(options: argparse.Namespace, result: dict[str, Any]) -> None:
    datasets = load_all(options, DEVELOPMENT)
    if reserved := [dataset.name for dataset in datasets if dataset.name in RESERVED]:
        raise DatasetError(f"{reserved[0]} is for reporting only: use {', '.join(DEVELOPMENT)}")
    encoder = Encoders()[options.encoder]
    gathered: dict[str, list[SearchedQuestion]] = {}
    for dataset in datasets:
        add_unanswerable = dataset.name == "realtalk"
        gathered[dataset.name] = list(
            gather(
                encoder,
                dataset.conversations,
                options.limit,
                add_unanswerable=add_unanswerable,
            )
        )
    result["in use"] = str(calibration_of(encoder.spec.name))
    for half, title in enumerate(HALVES):
        result[title] = entry = _fit_and_measure(gathered, half)
        for name, questions in gathered.items():
            held_out = sum(question.conversation % 2 != half for question in questions)
            print(f"\n{name}, {title}: {held_out:,} questions\n")
            print(report(entry, name))
    for name, questions in gathered.items():
        result.setdefault("recall@10", {})[name] = _macro(questions)
        print(f"\n{name}: recall@10, macro, hybrid: {100 * result['recall@10'][name]:.1f}")
    if options.plot:
        draw_reliability(
            {
                f"{name}, {title}": result[title][name]["fitted"]["bins"]
                for title in HALVES
                for name in gathered
            },
            options.plot,
        )


def _fit_and_measure(
    gathered: Mapping[str, Sequence[SearchedQuestion]], half: int
) -> dict[str, Any]:
    """Fit on the conversations of one half (0: even numbers from 0) and measure on the others."""
    fitting = [
        q for questions in gathered.values() for q in questions if q.conversation % 2 == half
    ]
    fits = {"fitted": fit(fitting), "words alone": fit(fitting, with_cosine=False)}
    entry: dict[str, Any] = {
        "calibration": {name: str(calibration) for name, calibration in fits.items()}
    }
    for name, questions in gathered.items():
        held_out = [q for q in questions if q.conversation % 2 != half]
        entry[name] = {label: measure(held_out, calibration) for label, calibration in fits.items()}
    return entry


def gather(
    encoder: Encoder,
    conversations: Sequence[Conversation],
    limit: int | None,
    *,
    add_unanswerable: bool,
) -> Iterator[SearchedQuestion]:
    """Yield every question of the first `limit` conversations (None for all) with its hits.

    Args:
        encoder: The encoder of the memories.
        conversations: The conversations to read.
        limit: The number of conversations to use.
        add_unanswerable: Whether to search each conversation with the next one's questions as well.
    """
    for number, conversation in enumerate(track(conversations[:limit], transient=True)):
        with evomem.open(":memory:", encoder=encoder) as database:
            memory = database.memory("relevance")
            memory.add_many(conversation.turns)
            following = conversations[(number + 1) % len(conversations)]
            foreign = [q for q in following.questions if q.evidence] if add_unanswerable else []
            for question in conversation.questions:
                if question.evidence or question.unanswerable:
                    yield _searched(memory, number, question, question.evidence)
            for question in foreign:
                yield _searched(memory, number, question, ())


def _searched(
    memory: Memory, number: int, question: Question, evidence: Sequence[int]
) -> SearchedQuestion:
    hits = [hit.seq for hit in memory.search(question.text, K)]
    engine = memory._engine
    with engine.store.snapshot():
        view = memory._view()
        [vector] = engine.reader.embed_queries(engine.state(view), [question.text])
        cosines = engine.index.score(view, vector, hits)
        words = engine.store.lexical(view, question.text)
    shared = dict(words)
    rows = [(cosines[seq], shared.get(seq, 0.0) / (words.most or 1.0)) for seq in hits]
    return SearchedQuestion(
        number,
        question.type,
        bool(evidence),
        np.array(rows, np.float64).reshape(-1, 2),
        np.array([float(seq - 1 in evidence) for seq in hits]),
        recall([seq - 1 for seq in hits], evidence, K) if evidence else 0.0,
    )


def fit(questions: Sequence[SearchedQuestion], *, with_cosine: bool = True) -> Calibration:
    """Return the logistic model that predicts whether a hit is evidence."""
    signals = torch.from_numpy(np.concatenate([question.signals for question in questions]))
    is_evidence = torch.from_numpy(np.concatenate([question.is_evidence for question in questions]))
    used = torch.tensor([float(with_cosine), 1.0], dtype=torch.float64)
    weights = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        logits = signals @ (weights[:2] * used) + weights[2]
        total = F.binary_cross_entropy_with_logits(logits, is_evidence)
        total = total + L2_PENALTY * (weights[:2] ** 2).sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    cosine, words, bias = (round(value, 2) for value in weights.tolist())
    return Calibration(cosine if with_cosine else 0.0, words, bias)


def measure(questions: Sequence[SearchedQuestion], calibration: Calibration) -> dict[str, Any]:
    """Return the AUC, the reliability by bin, and what each minimum relevance leaves out."""
    relevance = [
        np.array([calibration.relevance(cosine, words) for cosine, words in question.signals])
        for question in questions
    ]
    best = np.array([values.max(initial=0.0) for values in relevance])
    answered = np.array([question.answered for question in questions])
    flat = np.concatenate(relevance)
    is_evidence = np.concatenate([question.is_evidence for question in questions])
    conversation = np.array([question.conversation for question in questions])
    bins = []
    for low, high in zip(BINS, BINS[1:], strict=False):
        inside = (flat >= low) & (flat < high)
        if inside.any():
            bins.append(
                [low, high, int(inside.sum()), flat[inside].mean(), is_evidence[inside].mean()]
            )
    return {
        "auc": auc(best[answered], best[~answered]),
        "auc by conversation": [
            auc(best[answered & (conversation == n)], best[~answered & (conversation == n)])
            for n in np.unique(conversation)
            if 0 < answered[conversation == n].mean() < 1
        ],
        "bins": bins,
        "least": [
            [
                least,
                (best[~answered] < least).mean(),
                1 - is_evidence[flat >= least].sum() / is_evidence.sum(),
            ]
            for least in MIN_RELEVANCES
        ],
    }


def auc(higher: Values, lower: Values) -> float:
    """Return the share of pairs in which the value of `higher` is greater; ties count half.

    >>> auc(np.array([0.9, 0.4]), np.array([0.4, 0.1]))
    0.875
    """
    above = (higher[:, None] > lower).mean() + (higher[:, None] == lower).mean() / 2
    return float(above)


def report(entry: dict[str, Any], name: str) -> str:
    """Return tables of a dataset: the AUC, and for the fitted calibration, reliability and losses."""
    measured = entry[name]
    aucs = table(
        ["", "calibration", "AUC", "of each conversation"],
        [
            [
                label,
                entry["calibration"][label],
                f"{figures['auc']:.3f}",
                " ".join(f"{value:.2f}" for value in figures["auc by conversation"]),
            ]
            for label, figures in measured.items()
        ],
    )
    bins = table(
        ["relevance", "hits", "mean relevance", "are evidence"],
        [
            [f"{low} to {high}", f"{hits:,}", f"{mean:.3f}", f"{share:.3f}"]
            for low, high, hits, mean, share in measured["fitted"]["bins"]
        ],
    )
    least = table(
        ["min_relevance", "unanswered questions without a hit, %", "evidence lost, %"],
        [
            [f"{minimum}", f"{100 * without_hit:.0f}", f"{100 * lost:.0f}"]
            for minimum, without_hit, lost in measured["fitted"]["least"]
        ],
    )
    return f"{aucs}\n\n{bins}\n\n{least}"


def _macro(questions: Sequence[SearchedQuestion]) -> float:
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
    parser.add_argument(
        "--limit", type=positive, metavar="N", help="only the first N conversations"
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the reliability here, as SVG"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write all results here as JSON")
    return parser
