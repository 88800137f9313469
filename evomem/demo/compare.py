"""Asks the same questions with the memory's state and with an empty state.

Without memory, the same encoder embeds every turn and every query as if it were the first text it ever
read. For an encoder without memory both are the same, so vector search is compared with hybrid search
instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from evomem.database import Database
from evomem.demo.story import Question, load_story
from evomem.encoder import Encoder
from evomem.errors import InputError
from evomem.memory import Memory
from evomem.records import Record, Turn
from evomem.search.ranking import top_k
from evomem.state import State, Vectors

K = 3  # hits to show and count

Side = Literal["with memory", "without memory", "vectors alone", "hybrid"]
Verdict = Literal["right", "wrong", ""]
Progress = Callable[[str, int, int], None]
"""Called as `progress(what, done, total)`."""


@dataclass(frozen=True, slots=True)
class RatedHit:
    """A hit of one side, and whether it answers the question."""

    record: Record
    score: float
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Answer:
    """The hits of both sides for a question."""

    question: Question
    asked: Record
    """The last turn before the question."""
    hits: Mapping[Side, Sequence[RatedHit]]


@dataclass(frozen=True, slots=True)
class Report:
    """The results of the comparison."""

    encoder: str
    remembers: bool
    """Whether the encoder has a memory."""
    sides: tuple[Side, Side]
    answers: Sequence[Answer]
    turns: int
    seconds_per_turn: float | None
    """For reading and storing; None if the story was already in the database."""
    seconds_per_query: float

    def right(self, side: Side, k: int) -> int:
        """Return the number of questions for which `side` has a right turn among its first `k`."""
        return sum(
            any(hit.verdict == "right" for hit in answer.hits[side][:k]) for answer in self.answers
        )

    def misled(self, side: Side) -> int:
        """Return the number of questions for which `side` ranks a misleading turn first."""
        return sum(
            any(hit.verdict == "wrong" for hit in answer.hits[side][:1]) for answer in self.answers
        )


def compare(
    db: Database, memory: Memory, questions: Sequence[Question], progress: Progress
) -> Report:
    """Add the story to `memory` unless it has it, and ask the questions.

    Raises:
        InputError: The memory has other turns, which would affect the results.
    """
    turns = load_story()
    if {record.id for record in memory.history()} - {turn.id for turn in turns}:
        raise InputError(
            f"{memory!r} has turns other than the story's, which would affect the results; "
            "choose another --memory"
        )
    progress("loading the encoder", 0, 1)
    encoder = db.encoder
    encoder.embed_queries(State.empty(encoder.spec), ["warm up"])
    progress("loading the encoder", 1, 1)
    missing = len(turns) - len(memory)
    start = time.perf_counter()
    records = memory.add_many(turns, progress=lambda *count: progress("reading the story", *count))
    reading = time.perf_counter() - start

    remembers = encoder.spec.capacity > 0
    sides: tuple[Side, Side] = (
        ("with memory", "without memory") if remembers else ("vectors alone", "hybrid")
    )
    alone = _alone(encoder, turns, progress) if remembers else None
    seqs = {record.id: record.seq for record in records}
    answers: list[Answer] = []
    asking = 0.0
    for question in questions:
        at = seqs[question.at] if question.at else records[-1].seq
        turns_so_far = [record for record in records if record.seq <= at]
        start = time.perf_counter()
        hits = memory.search(question.question, K, mode="evolvable", at=at)
        asking += time.perf_counter() - start
        first = [(hit.record, hit.score) for hit in hits]
        if alone is None:
            fused = memory.search(question.question, K, mode="hybrid", at=at)
            second = [(hit.record, hit.score) for hit in fused]
        else:
            second = _rank(encoder, question.question, turns_so_far, alone)
        best = {
            side: [RatedHit(record, score, _verdict(record, question)) for record, score in ranked]
            for side, ranked in zip(sides, (first, second), strict=True)
        }
        answers.append(Answer(question, turns_so_far[-1], best))
        progress("asking", len(answers), len(questions))
    return Report(
        encoder=encoder.spec.name,
        remembers=remembers,
        sides=sides,
        answers=answers,
        turns=len(turns),
        seconds_per_turn=reading / len(turns) if missing == len(turns) else None,
        seconds_per_query=asking / max(1, len(questions)),
    )


def _alone(encoder: Encoder, turns: Sequence[Turn], progress: Progress) -> Vectors:
    """Return the turns' embeddings (N, D), each read with an empty memory."""
    rows = []
    for turn in turns:
        rows.append(encoder.read(State.empty(encoder.spec), [turn])[0].embedding)
        progress("reading each turn alone", len(rows), len(turns))
    return np.stack(rows)


def _rank(
    encoder: Encoder, query: str, turns_so_far: Sequence[Record], alone: Vectors
) -> list[tuple[Record, float]]:
    vector = encoder.embed_queries(State.empty(encoder.spec), [query])[0]
    scores = dict(enumerate((alone[: len(turns_so_far)] @ vector).tolist()))
    return [(turns_so_far[place], score) for place, score in top_k(scores, K)]


def _verdict(record: Record, question: Question) -> Verdict:
    if record.id in question.right:
        return "right"
    return "wrong" if record.id in question.wrong else ""
