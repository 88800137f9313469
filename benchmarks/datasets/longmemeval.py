"""LongMemEval: the official `longmemeval_*.json`, and histories with several questions."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.datasets.base import (
    ABSTENTION,
    Conversation,
    Dataset,
    DatasetError,
    expect,
    make_dataset,
    parse_time,
    read_records,
)

NO_TURN_LABELS = "its sessions are labelled, its turns are not"  # shown in results


def load_longmemeval(path: Path) -> Dataset:
    """Read a file in the official layout, with one conversation per history.

    The evidence is the turns with `has_answer` in the question's answer sessions. Abstention questions
    (ids that end in `_abs`) are left out, as in the benchmark's own retrieval scores. A record may have
    parallel lists `questions` and `answer_session_ids` instead of one question. Sessions are sorted by
    date, since some files are not sorted.
    """
    return make_dataset("longmemeval", path, [path], _conversations)


def _conversations(path: Path) -> list[Conversation]:
    return [conversation_of(record, where) for where, record in read_records(path)]


def conversation_of(record: Any, where: str) -> Conversation:
    """Return a record's history with its questions."""
    expect(record, dict, where)
    identity = str(record.get("question_id", where))
    conversation = Conversation(identity)
    marked: dict[str, list[tuple[int, int]]] = {}  # session id → its turns with `has_answer`
    for number, time, label, session in record_sessions(record, where):
        for position, message in enumerate(session):
            location = f"{where} session {label} message {position}"
            role = expect(message, dict, location).get("role")
            if role not in ("user", "assistant"):
                raise DatasetError(
                    f"{location}: the role is {role!r}, expected 'user' or 'assistant'"
                )
            name = (number, position)  # session in the file's order, message in the session
            conversation.add_turn(
                name, message.get("content"), location, role=role, session=label, time=time
            )
            if message.get("has_answer"):
                marked.setdefault(label, []).append(name)
    kind = str(record.get("question_type", "question"))
    abstention = identity.endswith("_abs")
    questions = _questions(record, where)
    for text, answer, labels in questions:
        names = [name for label in labels for name in marked.get(label, [])]
        conversation.add_question(
            text,
            kind,
            [] if abstention else names,
            where,
            ABSTENTION if abstention else NO_TURN_LABELS if labels else "",
            answer=answer,
            id=identity if len(questions) == 1 else "",
            asked=record.get("question_date") or "",
        )
    return conversation


def record_sessions(
    record: dict[str, Any], where: str
) -> list[tuple[int, datetime | None, str, list[Any]]]:
    """Return (number in the file, time, id, messages) of every session, in the order of dates."""
    sessions = expect(record.get("haystack_sessions"), list, f"{where} haystack_sessions")
    dates = expect(record.get("haystack_dates"), list, f"{where} haystack_dates")
    labels = expect(record.get("haystack_session_ids"), list, f"{where} haystack_session_ids")
    if not len(sessions) == len(dates) == len(labels):
        raise DatasetError(
            f"{where}: {len(sessions)} haystack_sessions, {len(dates)} haystack_dates and "
            f"{len(labels)} haystack_session_ids, expected one of each for every session"
        )
    rows = []
    for number, (date, label, session) in enumerate(zip(dates, labels, sessions, strict=True)):
        location = f"{where} session {number}"
        plain = re.sub(
            r"\s*\(\w+\)", "", expect(date, str, f"{location} date")
        )  # "2023/05/20 (Sat) 02:21"
        time = parse_time(plain, "%Y/%m/%d %H:%M", location)
        rows.append((number, time, str(label), expect(session, list, location)))
    return sorted(rows, key=lambda row: str(row[1]))


def _questions(record: dict[str, Any], where: str) -> list[tuple[Any, Any, list[str]]]:
    """Return every question with its answer and the ids of the sessions that hold the answer."""
    labels = expect(record.get("answer_session_ids"), list, f"{where} answer_session_ids")
    if "questions" not in record:
        return [(record.get("question"), record.get("answer"), [str(label) for label in labels])]
    questions = expect(record["questions"], list, f"{where} questions")
    answers = expect(record.get("answers", [None] * len(questions)), list, f"{where} answers")
    if not len(questions) == len(answers) == len(labels):
        raise DatasetError(
            f"{where}: {len(questions)} questions, but {len(labels)} answer_session_ids and "
            f"{len(answers)} answers"
        )
    return [
        (text, answer, [str(label) for label in expect(ids, list, f"{where} answer_session_ids")])
        for text, answer, ids in zip(questions, answers, labels, strict=True)
    ]
