"""Long histories of chats: HaluMem, BEAM, LongMemEval, PersonaMem-v2."""

from __future__ import annotations

import ast
import csv
import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.datasets.base import (
    ABSTENTION,
    DatasetError,
    expect,
    expect_objects,
    parse_time,
    read_json,
    read_lines,
    read_records,
)
from benchmarks.datasets.longmemeval import conversation_of
from benchmarks.sets.form import (
    Collection,
    Passage,
    SetQuestion,
    collection_of,
    passages_of,
    set_question,
    with_existing_evidence,
)

ROLES = ("user", "assistant")
_MARKER = re.compile(r"\s*->->\s*[\d,\w/ .]*$")


def longmemeval(path: Path) -> Iterator[Collection]:
    """Read a `longmemeval_*.json`, including `_m`, one question's history at a time."""
    for where, record in read_records(path):
        yield collection_of(conversation_of(record, where))


def halumem(path: Path) -> Iterator[Collection]:
    """Read `HaluMem-Medium.jsonl` or `-Long`, one collection per person.

    The file's evidence is memories, not turns; the evidence here is the sessions of those memories.
    """
    for where, person in read_lines(path):
        sessions = expect(expect(person, dict, where).get("sessions"), list, f"{where} sessions")
        yield _person(str(person.get("uuid", where)), sessions, where)


def _person(id: str, sessions: list[Any], where: str) -> Collection:
    memories: dict[str, list[str]] = {}
    for number, session in enumerate(sessions):
        points = expect(session, dict, where).get("memory_points")
        for memory in expect_objects(points, f"{where} memory_points"):
            memories.setdefault(str(memory.get("memory_content")).strip(), []).append(str(number))

    def passages() -> Iterator[Passage]:
        for number, session in enumerate(sessions):
            location = f"{where} session {number}"
            time = parse_time(session.get("start_time"), "%b %d, %Y, %H:%M:%S", location)
            for message in expect(session.get("dialogue"), list, f"{location} dialogue"):
                role = expect(message, dict, location).get("role")
                yield from passages_of(
                    str(number),
                    message.get("content"),
                    location,
                    role=role,
                    session=str(number),
                    time=time,
                )

    questions = []
    for number, session in enumerate(sessions):
        items = expect_objects(session.get("questions"), f"{where} session {number} questions")
        for position, item in enumerate(items):
            location = f"{where} session {number} question {position}"
            texts = [
                str(entry.get("memory_content")).strip()
                for entry in expect_objects(item.get("evidence"), f"{location} evidence")
            ]
            labels = [label for text in texts for label in memories.get(text, ())]
            kind = str(item.get("question_type", "question"))
            question = set_question(
                f"{id}/{number}.{position}", item.get("question"), kind, labels, location
            )
            questions.append(with_existing_evidence(labels or texts, frozenset(labels), question))
    return Collection(id, questions, passages)


def beam(path: Path) -> Iterator[Collection]:
    """Read a folder of BEAM's chats, such as `chats/1M` or `chats/10M`, or one chat's folder.

    Messages are identified by their id. If there is a shortened chat, which the authors' code uses, it is
    read. The pointer into the generation plan at the end of a user's message is removed.
    """
    folders = sorted(
        (file.parent.parent for file in path.rglob("probing_questions.json")),
        key=lambda folder: (len(folder.name), folder.name),
    )
    if not folders:
        raise DatasetError(f"{path} has no probing_questions/probing_questions.json")
    for folder in folders:
        shortened = folder / "chat_trunecated.json"
        chat = shortened if shortened.exists() else folder / "chat.json"
        file = folder / "probing_questions" / "probing_questions.json"
        questions = list(_probes(folder.name, expect(read_json(file), dict, str(file)), file))
        yield Collection(folder.name, questions, partial(_beam_messages, chat))


def _probes(chat: str, probes: dict[str, Any], path: Path) -> Iterator[SetQuestion]:
    for kind, items in probes.items():
        for number, item in enumerate(expect(items, list, f"{path} {kind}")):
            where = f"{path} {kind} {number}"
            labels = list(_ids(expect(item, dict, where).get("source_chat_ids"), where))
            id = f"{chat}/{kind}.{number}"
            abstention = kind == ABSTENTION
            yield set_question(
                id,
                item.get("question"),
                kind,
                [] if abstention else labels,
                where,
                abstention=abstention,
            )


def _ids(value: Any, where: str) -> Iterator[str]:
    """Yield the ids in a list, or in the lists of an object."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _ids(inner, where)
    elif value is not None:
        yield str(expect(value, int, f"{where} source_chat_ids"))


def _beam_messages(path: Path) -> Iterator[Passage]:
    """Yield the messages of a list of batches, or of a list of plans, which contain such lists."""
    batch_number = 0
    for where, record in read_records(path):
        expect(record, dict, where)
        batches = (
            [record]
            if "turns" in record
            else [
                batch
                for name, plan in record.items()
                for batch in expect(plan, list, f"{where} {name}")
            ]
        )
        for batch in batches:
            batch_number += 1
            yield from _batch(batch, str(batch_number), where)


def _batch(batch: Any, session: str, where: str) -> Iterator[Passage]:
    time = None
    for turn in expect(expect(batch, dict, where).get("turns"), list, f"{where} turns"):
        for message in expect(turn, list, f"{where} turn"):
            location = f"{where} message {expect(message, dict, where).get('id')}"
            text = expect(message.get("content"), str, f"{location} content")
            time = parse_time(message.get("time_anchor"), "%B-%d-%Y", location) or time
            yield from passages_of(
                str(message.get("id")),
                _MARKER.sub("", text),
                location,
                role=message.get("role", "user"),
                session=session,
                time=time,
            )


def personamem2(path: Path, *, history: str = "chat_history_32k_link") -> Iterator[Collection]:
    """Read PersonaMem-v2's folder: `benchmark/text/benchmark.csv` and the histories that it names.

    The evidence is the messages of the snippet that reveals the preference. Questions are asked after the
    last message. The system message, which describes the persona, is left out.

    Args:
        path: The dataset's folder.
        history: The column with the path of the history; "chat_history_128k_link" for 128,000 tokens.
    """
    table = path / "benchmark" / "text" / "benchmark.csv"
    rows: dict[str, list[tuple[str, dict[str, str]]]] = {}
    for number, row in enumerate(_csv(table), 1):
        where = f"{table} row {number}"
        if not row.get(history):
            raise DatasetError(f"{where} has no history in the column {history!r}")
        rows.setdefault(row[history], []).append((where, row))
    for link, link_rows in rows.items():
        messages = _history(path / link)
        yield Collection(
            link,
            [_preference(where, row, messages) for where, row in link_rows],
            partial(_passages, messages, str(path / link)),
        )


def _csv(path: Path) -> Iterator[dict[str, str]]:
    csv.field_size_limit(1 << 24)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}") from error


def _history(path: Path) -> list[dict[str, Any]]:
    value = read_json(path)
    if isinstance(value, dict):
        value = value.get("chat_history", value.get("conversations"))
    messages = expect(value, list, f"{path} chat_history")
    return [
        message for message in messages if expect(message, dict, str(path)).get("role") in ROLES
    ]


def _passages(messages: list[dict[str, Any]], where: str) -> Iterator[Passage]:
    for number, message in enumerate(messages):
        yield from passages_of(
            str(number), message.get("content"), f"{where} message {number}", role=message["role"]
        )


def _preference(where: str, row: dict[str, str], messages: list[dict[str, Any]]) -> SetQuestion:
    query = _literal(row.get("user_query"), where)
    text = query.get("content") if isinstance(query, dict) else query
    snippet = _literal(row.get("related_conversation_snippet") or "[]", where)
    revealing = {
        str(expect(message, dict, where).get("content")).strip()
        for message in expect(snippet, list, f"{where} related_conversation_snippet")
    }
    labels = [
        str(number)
        for number, message in enumerate(messages)
        if str(message.get("content")).strip() in revealing
    ]
    question = set_question(
        where.rpartition(" ")[2], text, row.get("pref_type") or "question", labels, where
    )
    return with_existing_evidence(labels or list(revealing), frozenset(labels), question)


def _literal(text: str | None, where: str) -> Any:
    """Return the value of JSON or of a Python literal; the text itself if it is neither."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text or "")
        except (ValueError, SyntaxError):
            continue
    return text
