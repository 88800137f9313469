"""Summary figures of each stage: retrieval, answers, verdicts, and their cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.datasets.base import Question
from benchmarks.qa.answers import exact, f1
from benchmarks.qa.stages import Task
from benchmarks.quality.intervals import Resampling
from benchmarks.quality.metrics import QA_TABLE_METRICS, score

Results = Mapping[str, Mapping[str, Any]]


def retrieval(task: Task, results: Results) -> dict[str, Any]:
    """Return the retrieval metrics, and the cost of ingestion and retrieval."""
    scored = [
        (conversation.id, question.type, score(results[question.id]["hits"], question.evidence))
        for conversation, question in task.questions
        if question.evidence
        and question.id in results
        and not any(isinstance(hit, str) for hit in results[question.id]["hits"])
    ]
    figures = {}
    if scored:
        resampling = Resampling([c for c, _, _ in scored], [kind for _, kind, _ in scored])
        figures = {
            f"{name} {metric}": _interval(
                resampling, [row[metric] for _, _, row in scored], name == "macro"
            )
            for name in ("all", "macro")
            for metric in QA_TABLE_METRICS
        }
    return {
        "questions": len(scored),
        "figures": figures,
        **{
            name: sum(result[name] for result in results.values())
            for name in ("ingest_s", "ingest_tokens", "retrieve_s", "retrieve_tokens")
        },
    }


def answers(task: Task, read: Results, judged: Results | None) -> dict[str, Any]:
    """Return the scores of the answers, overall and by type, with intervals, and their cost in tokens.

    "judged" is the share of answers that the judge accepts, or for multiple choice, of correct letters; an
    unclear verdict counts as wrong. F1 and exact match leave out questions without an answer.
    """
    answered = [(c.id, q) for c, q in task.questions if q.id in read]

    def is_right(question: Question) -> float:
        if question.choices:
            return choice_score(read[question.id]["answer"], question)
        return float(bool(judged and judged[question.id]["right"]))

    measures: dict[str, tuple[Callable[[Question], float], list[tuple[str, Question]]]] = {}
    decided = [(c, q) for c, q in answered if q.choices or (judged and q.id in judged)]
    if decided:
        measures["judged"] = is_right, decided
    free_text = [(c, q) for c, q in answered if q.answer and not q.unanswerable and not q.choices]
    measures["f1"] = lambda q: f1(read[q.id]["answer"], q.answer), free_text
    measures["exact"] = lambda q: exact(read[q.id]["answer"], q.answer), free_text
    replies = [*read.values(), *(judged or {}).values()]
    return {
        "questions": len(answered),
        "unclear_verdicts": sum(answer["right"] is None for answer in (judged or {}).values()),
        **{name: _scores(measure, pairs) for name, (measure, pairs) in measures.items() if pairs},
        "context_tokens": _mean([answer["context_tokens"] for answer in read.values()]),
        "prompt_tokens": _mean([answer["prompt_tokens"] for answer in read.values()]),
        "read_tokens": sum(_total_tokens(answer) for answer in read.values()),
        "judge_tokens": sum(_total_tokens(reply) for reply in replies[len(read) :]),
    }


def choice_score(answer: str, question: Question) -> float:
    """Return 1 if the reply names the correct letter and no other, otherwise 0."""
    letters = {choice[:3] for choice in question.choices}  # "(a)"
    plain = answer.strip().strip("().").lower()
    if len(plain) == 1:
        chosen_letters = {f"({plain})"}
    else:
        chosen_letters = {letter for letter in letters if letter in answer}
    return float(chosen_letters == {question.answer})


def _scores(
    measure: Callable[[Question], float], pairs: Sequence[tuple[str, Question]]
) -> dict[str, Any]:
    values = [measure(question) for _, question in pairs]
    kinds = [question.type for _, question in pairs]
    resampling = Resampling([conversation for conversation, _ in pairs], kinds)
    return {
        "all": _interval(resampling, values, False),
        "macro": _interval(resampling, values, True),
        "types": {
            kind: _mean([v for v, other in zip(values, kinds, strict=True) if other == kind])
            for kind in sorted(set(kinds))
        },
    }


def _interval(resampling: Resampling, values: list[float], macro: bool) -> list[float]:
    interval = resampling.interval(values, macro=macro)
    return [interval.mean, interval.low, interval.high]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _total_tokens(reply: Mapping[str, Any]) -> int:
    return int(reply["prompt_tokens"]) + int(reply["completion_tokens"])
