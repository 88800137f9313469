"""Fits the weights of the signals of a hybrid score, on development data only.

The model is linear in the signals of `evomem.search.ranking`. It is fitted so that the turns that answer
a question have the highest softmax in their conversation. The table adds one signal after another and
shows the metrics on conversations that the weights were not fitted on.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

import evomem
from benchmarks.datasets.base import Conversation, DatasetError
from benchmarks.datasets.find import DEVELOPMENT, add_arguments, load_all
from benchmarks.quality.metrics import DEPTH, score, summarise
from benchmarks.reporting.output import finish, progress_bar, setting, table
from benchmarks.systems.base import Bm25, best
from benchmarks.systems.encoders import Encoders, read_all
from evomem import Encoder
from evomem.plugins import DEFAULT_ENCODER
from evomem.records import TimeAndSession
from evomem.search.ranking import WEIGHTS, signals
from evomem.times.dates import asked_days
from evomem.times.when import When

RESERVED = ("locomo", "longmemeval", "planted")
SIGNALS = tuple(WEIGHTS)
FOLDS = 5  # of cross-validation, by conversation
L2_PENALTY = 1.0  # in units of one question: keeps weights small that few questions support


@dataclass(frozen=True, slots=True)
class QuestionSignals:
    """The model's input and target for one question."""

    conversation: int
    type: str
    evidence: tuple[int, ...]
    signals: npt.NDArray[np.float32]
    """(N, len(SIGNALS)), one row per turn."""


def main(argv: Sequence[str]) -> int:
    """Fit and compare; return 0, or 2 after an error message."""
    options = _parser().parse_args(argv)
    result: dict[str, Any] = {**setting("fusion", argv), "encoder": options.encoder}
    return finish(result, options.out, lambda: _compare_all(options, result))


def _compare_all(options: argparse.Namespace, result: dict[str, Any]) -> None:
    datasets = load_all(options, DEVELOPMENT)
    reserved = [dataset.name for dataset in datasets if dataset.name in RESERVED]
    if reserved:
        raise DatasetError(f"{reserved[0]} is for reporting only: use {', '.join(DEVELOPMENT)}")
    encoder = Encoders()[options.encoder]
    for dataset in datasets:
        conversations = list(enumerate(dataset.conversations[: options.limit]))
        with progress_bar() as progress:
            questions = [
                question
                for number, conversation in progress.track(conversations, description=dataset.name)
                for question in gather(number, conversation, encoder)
            ]
        result[dataset.name] = entry = compare(questions)
        print(f"\n{dataset.name} · {options.encoder} · {len(questions)} questions\n")
        print(report(entry))


def gather(number: int, conversation: Conversation, encoder: Encoder) -> list[QuestionSignals]:
    """Return the signals of a conversation's questions, asked after its last turn."""
    questions = [question for question in conversation.questions if question.evidence]
    vectors, state = read_all(encoder, conversation.turns)
    queries = encoder.embed_queries(state, [question.text for question in questions])
    lexical = Bm25().scorer(conversation.turns)
    with evomem.open(":memory:", encoder="hash:1") as db:  # only to get records of the turns
        records = db.memory("fusion").add_many(conversation.turns)
    texts = {record.seq: TimeAndSession(record.time, record.turn.session) for record in records}
    neighbours = {seq: (seq - 1, seq + 1) for seq in texts}
    days = [record.time.date() for record in records]
    result = []
    for question, query in zip(questions, queries, strict=True):
        cosines = dict(enumerate((vectors @ query).tolist(), 1))
        words = {seq: bm for seq, bm in enumerate(lexical(question.text).tolist(), 1) if bm > 0}
        when = When(tuple(asked_days(question.text, days)))
        values = signals(when, cosines, words, texts, neighbours)
        rows = np.stack([values[name] for name in SIGNALS], axis=1).astype(np.float32)
        result.append(QuestionSignals(number, question.type, question.evidence, rows))
    return result


def compare(questions: Sequence[QuestionSignals]) -> dict[str, Any]:
    """Return the held-out metrics of growing sets of signals, and the weights fitted on all questions."""
    rows = {}
    for count in range(1, len(SIGNALS) + 1):
        scored = []
        for fold in range(FOLDS):
            weights = fit([q for q in questions if q.conversation % FOLDS != fold], count)
            for question in questions:
                if question.conversation % FOLDS == fold:
                    ranking = best(np.asarray(question.signals @ weights, np.float64), DEPTH)
                    scored.append((question.type, score(ranking, question.evidence)))
        rows[" + ".join(SIGNALS[:count])] = summarise(scored)["overall"]
    weights = fit(questions, len(SIGNALS))
    learned = {
        name: round(float(w / weights[0]), 3) for name, w in zip(SIGNALS, weights, strict=True)
    }
    return {"rows": rows, "weights": learned, "in use": dict(WEIGHTS)}


def fit(questions: Sequence[QuestionSignals], count: int) -> npt.NDArray[np.float32]:
    """Return the fitted weights of the first `count` signals, (len(SIGNALS),), 0 for the others."""
    inputs = [torch.from_numpy(question.signals[:, :count]) for question in questions]
    weights = torch.zeros(count, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        total = L2_PENALTY * (weights[1:] ** 2).sum()
        for question, input in zip(questions, inputs, strict=True):
            scores = input @ weights
            evidence = list(question.evidence)
            others = scores.index_fill(0, torch.tensor(evidence), -torch.inf).logsumexp(0)
            total = total + F.softplus(others - scores[evidence]).mean()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return np.pad(weights.detach().numpy(), (0, len(SIGNALS) - count))


def report(entry: dict[str, Any]) -> str:
    """Return two tables: the metrics as signals are added, and the weights."""
    columns = [(group, metric) for group in ("all", "macro") for metric in ("recall@10", "ndcg@10")]
    rows = [
        [name, *(f"{100 * means[group][metric]:.1f}" for group, metric in columns)]
        for name, means in entry["rows"].items()
    ]
    head = ["held out, %", *(f"{metric} {group}" for group, metric in columns)]
    weights = [
        [name, f"{entry['weights'][name]:+.2f}", f"{entry['in use'][name]:+.2f}"]
        for name in SIGNALS
    ]
    return f"{table(head, rows)}\n\n{table(['signal', 'learned', 'in use'], weights)}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks fusion", description=(__doc__ or "").partition("\n")[0]
    )
    add_arguments(parser)
    parser.add_argument("--encoder", default=DEFAULT_ENCODER, metavar="NAME")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N conversations")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write all results here as JSON")
    return parser
