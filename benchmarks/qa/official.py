"""LongMemEval's own files and metrics, as its repository's scripts read and compute them.

The measures follow the definitions of https://github.com/xiaowu0162/LongMemEval, where they differ
from `benchmarks.quality.metrics`: only the user's turns are candidates, a discounted gain counts ranks 1
and 2 the same, and session figures come from turns.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import log2
from pathlib import Path
from typing import Any

from benchmarks.datasets.base import Conversation, Dataset, DatasetError, expect, read_records
from evomem.errors import EvomemError

CUTS = (1, 3, 5, 10, 30, 50)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A turn of the user in the official retrieval."""

    id: str
    """`<session id>_<message number from 1>`; one without the answer in an answer session is
    called `noans…` instead of `answer…`."""
    text: str
    timestamp: str
    place: tuple[int, int]
    """The turn's name in a `Conversation`: number of the session in the file, message in the session."""


def candidates(record: Mapping[str, Any]) -> list[Candidate]:
    """Return the candidates of the official retrieval, in the file's order."""
    result = []
    sessions = zip(
        record["haystack_session_ids"],
        record["haystack_dates"],
        record["haystack_sessions"],
        strict=True,
    )
    for number, (session, date, messages) in enumerate(sessions):
        for position, message in enumerate(messages):
            if message["role"] != "user":
                continue
            id = f"{session}_{position + 1}"
            if not message.get("has_answer"):
                id = id.replace("answer", "noans")
            result.append(Candidate(id, message["content"], date, (number, position)))
    return result


def scores(ranking: Sequence[int], ids: Sequence[str], k: int) -> dict[str, float]:
    """Return recall_any, recall_all and ndcg_any at `k` of a ranking of `ids`."""
    evidence = {id for id in ids if "answer" in id}
    top = {ids[place] for place in ranking[:k]}
    gain = _gain([rank for rank, place in enumerate(ranking[:k], 1) if ids[place] in evidence])
    best = _gain(range(1, min(k, sum(id in evidence for id in ids)) + 1))
    return {
        f"recall_any@{k}": float(not evidence.isdisjoint(top)),
        f"recall_all@{k}": float(evidence <= top),
        f"ndcg_any@{k}": gain / best if best else 0.0,
    }


def session_scores(ranking: Sequence[int], ids: Sequence[str], k: int) -> dict[str, float]:
    """Return the same metrics for sessions, from a ranking of turns cut where it names `k` sessions."""
    sessions = [id.rpartition("_")[0] for id in ids]
    depth = k
    while depth <= len(sessions) and len({sessions[place] for place in ranking[:depth]}) < k:
        depth += 1
    figures = scores(ranking, sessions, depth)
    return {f"{name.partition('@')[0]}@{k}": value for name, value in figures.items()}


def _gain(ranks: Collection[int]) -> float:
    return sum(1.0 if rank == 1 else 1 / log2(rank) for rank in ranks)


def log_entry(
    record: Mapping[str, Any], conversation: Conversation, hits: Sequence[int]
) -> dict[str, Any]:
    """Return a question's line of the official retrieval log."""
    corpus = candidates(record)
    ids = [candidate.id for candidate in corpus]
    index = {
        conversation.places[candidate.place]: number
        for number, candidate in enumerate(corpus)
        if candidate.place in conversation.places  # messages without text are not turns
    }
    ranking = [index[hit] for hit in hits if hit in index]
    metrics: dict[str, dict[str, float]] = {"session": {}, "turn": {}}
    for k in CUTS:
        metrics["turn"] |= scores(ranking, ids, k)
        metrics["session"] |= session_scores(ranking, ids, k)
    fields = (
        *("question_id", "question_type", "question", "answer", "question_date"),
        *("haystack_dates", "haystack_sessions", "haystack_session_ids", "answer_session_ids"),
    )
    return {
        **{name: record.get(name) for name in fields},
        "retrieval_results": {
            "query": record["question"],
            "ranked_items": [
                {
                    "corpus_id": corpus[place].id,
                    "text": corpus[place].text,
                    "timestamp": corpus[place].timestamp,
                }
                for place in ranking
            ],
            "metrics": metrics,
        },
    }


def is_counted(record: Mapping[str, Any]) -> bool:
    """Return whether the benchmark counts a question in its retrieval figures.

    It does not count abstention questions, nor questions that only the assistant answered, since no
    candidate holds their answer.
    """
    return not str(record["question_id"]).endswith("_abs") and any(
        message["role"] == "user" and message.get("has_answer")
        for messages in record["haystack_sessions"]
        for message in messages
    )


def write_retrieval_log(
    dataset: Dataset, results: Mapping[str, Mapping[str, Any]], path: Path
) -> dict[str, dict[str, float]]:
    """Write the official retrieval log of every question with results.

    The scripts that print its figures leave out only abstention questions, so the questions that the
    benchmark does not count are written to a separate file, `<path>.uncounted`.

    Returns:
        The means over counted questions, for "session" and "turn".
    """
    conversations = {conversation.id: conversation for conversation in dataset.conversations}
    totals: list[dict[str, dict[str, float]]] = []
    uncounted = path.with_name(path.name + ".uncounted")
    with (
        path.open("w", encoding="utf-8") as log,
        uncounted.open("w", encoding="utf-8") as uncounted_log,
    ):
        for where, record in read_records(dataset.path):
            id = str(expect(record, dict, where).get("question_id"))
            if id not in results or "question" not in record:
                continue
            entry = log_entry(record, conversations[id], results[id]["hits"])
            counted = is_counted(record)
            print(json.dumps(entry), file=log if counted else uncounted_log)
            if counted:
                totals.append(entry["retrieval_results"]["metrics"])
    return {
        level: {
            name: sum(total[level][name] for total in totals) / len(totals)
            for name in totals[0][level]
        }
        for level in (("session", "turn") if totals else ())
    }


def write_hypotheses(answers: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Write the answers in the format of the official judge."""
    lines = [
        json.dumps({"question_id": id, "hypothesis": answer["answer"]})
        for id, answer in answers.items()
    ]
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")


def run_script(repository: Path, script: str, *arguments: str) -> str:
    """Run an unchanged script of the repository; return its output.

    Raises:
        DatasetError: The script does not exist.
        EvomemError: The script failed.
    """
    path = repository / "src" / "evaluation" / script
    if not path.is_file():
        raise DatasetError(f"{repository} is not a checkout of LongMemEval: {path} is missing")
    command = [sys.executable, str(path), *arguments]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        raise EvomemError(f"{path} failed: {process.stderr.strip()[-500:]}")
    return process.stdout
