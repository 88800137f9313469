"""LongMemEval's evidence turns planted in LongMemEval's histories; this is not LongMemEval_S.

The turns that answer a question are planted as short sessions at random positions of one of the few
available complete histories. The official file has a separate history for every question and evidence
sessions of full length, so the figures are not comparable with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.datasets.base import (
    Conversation,
    Dataset,
    expect,
    make_dataset,
    read_json,
    read_lines,
)
from benchmarks.datasets.longmemeval import record_sessions

HISTORIES = "longmemeval_haystacks.json.xz"
SEED = 0


@dataclass(frozen=True, slots=True)
class _Session:
    label: str
    time: datetime | None
    messages: list[dict[str, Any]]


def load_planted(path: Path) -> Dataset:
    """Read the questions with their evidence at `path`, and the histories next to it.

    For each question, a random history is chosen, its evidence sessions are left out, and the question's
    evidence is inserted between sessions. The random generator is seeded with the question's id, so a
    question's history does not depend on the other questions. Conversations are in random order, so that
    the first N are a sample.
    """
    questions = [(where, expect(question, dict, where)) for where, question in read_lines(path)]
    histories = [_sessions(record) for record in read_json(path.with_name(HISTORIES))]
    conversations = [
        _plant(record, histories, where) for where, record in questions if record.get("evidence")
    ]
    Random(SEED).shuffle(conversations)
    files = {path: conversations, path.with_name(HISTORIES): []}
    return make_dataset("planted", path, list(files), lambda file: files[file])


def _sessions(record: Any) -> list[_Session]:
    """Return a history's sessions in the order of dates, without those that hold answers."""
    return [
        _Session(label, time, messages)
        for _, time, label, messages in record_sessions(record, HISTORIES)
        if not label.startswith("answer")
    ]


def _plant(record: dict[str, Any], histories: list[list[_Session]], where: str) -> Conversation:
    identity = str(record.get("question_id", where))
    rng = Random(f"{SEED} {identity}")
    sessions = rng.choice(histories)
    planted = [
        list(turns) for _, turns in groupby(record["evidence"], key=lambda turn: turn["session"])
    ]
    places = sorted(rng.randint(0, len(sessions)) for _ in planted)
    for place, turns in reversed(list(zip(places, planted, strict=True))):
        time = sessions[max(0, place - 1)].time
        sessions = [*sessions[:place], _Session("planted", time, turns), *sessions[place:]]
    conversation = Conversation(identity)
    evidence: list[int] = []
    for number, session in enumerate(sessions):
        for message in session.messages:
            name = len(conversation.turns)
            conversation.add_turn(
                name,
                message.get("content"),
                f"{where} session {number}",
                role=message.get("role", "user"),
                session=number,  # a label would reveal the planted sessions
                time=session.time,
            )
            if session.label == "planted":
                evidence.append(name)
    conversation.add_question(
        record.get("question"),
        str(record.get("question_type", "question")),
        evidence,
        where,
        answer=record.get("answer"),
        id=identity,
        asked=record.get("question_date") or "",
    )
    return conversation
