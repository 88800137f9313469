"""PersonaMem: `questions_32k.csv` (or 128k, 1M) next to `shared_contexts_32k.jsonl`.

Questions are multiple choice and have no evidence labels, so only accuracy can be measured, not recall.
"""

from __future__ import annotations

import ast
import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.datasets.base import (
    Conversation,
    Dataset,
    DatasetError,
    expect,
    make_dataset,
    read_lines,
)

COLUMNS = (
    *("question_id", "question_type", "user_question_or_message", "correct_answer"),
    *("all_options", "shared_context_id", "end_index_in_shared_context"),
)


def load_personamem(path: Path) -> Dataset:
    """Read the questions at `path` and the contexts next to them.

    A question comes after the first `end_index_in_shared_context` messages of its context; questions
    about the same messages are one conversation. The system message is left out, because it describes
    the persona that a memory has to infer.
    """
    contexts_path = path.with_name(
        path.name.replace("questions", "shared_contexts").replace(".csv", ".jsonl")
    )
    contexts: dict[str, list[Any]] = {}
    for where, line in read_lines(contexts_path):
        contexts |= expect(line, dict, where)
    conversations: dict[tuple[str, int], Conversation] = {}
    for where, row in _rows(path):
        context, end = row["shared_context_id"], _number(row["end_index_in_shared_context"], where)
        if context not in contexts:
            raise DatasetError(f"{where}: {contexts_path} has no context {context!r}")
        if (context, end) not in conversations:
            conversations[context, end] = _conversation(context, contexts[context][:end], where)
        conversations[context, end].add_question(
            row["user_question_or_message"],
            row["question_type"],
            [],
            where,
            answer=row["correct_answer"].strip(),
            id=row["question_id"],
            choices=_choices(row["all_options"], where),
        )
    files = {path: list(conversations.values()), contexts_path: []}
    return make_dataset("personamem", path, list(files), lambda file: files[file])


def _rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise DatasetError(f"{path} has no column {missing[0]!r}")
            for number, row in enumerate(reader, 1):
                yield f"{path} row {number}", {name: row[name] or "" for name in COLUMNS}
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}") from error


def _conversation(context: str, messages: list[Any], where: str) -> Conversation:
    conversation = Conversation(f"{context}:{len(messages)}")
    for position, message in enumerate(messages):
        location = f"{where} message {position}"
        role = expect(message, dict, location).get("role")
        if role in ("user", "assistant"):
            conversation.add_turn(position, message.get("content"), location, role=role)
    return conversation


def _choices(text: str, where: str) -> list[str]:
    """Return the options, a list in JSON or Python syntax."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return [str(option) for option in expect(parse(text), list, where)]
        except (ValueError, SyntaxError):
            continue
    raise DatasetError(f"{where} all_options: expected a list, found {text!r:.60}")


def _number(text: str, where: str) -> int:
    if not text.isdecimal():
        raise DatasetError(
            f"{where} end_index_in_shared_context: expected a number, found {text!r}"
        )
    return int(text)
