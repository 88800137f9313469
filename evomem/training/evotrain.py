"""The EvoTrain format: one JSON object per line, with one question; checked before training.

    {"messages": [{"role": "user", "content": "Where do I live?"},
                  {"role": "assistant", "content": "In Oslo."}],
     "meta": {"turns": ["User: I moved to Oslo.", "Where do I live?"], "evidence_turns": [0]}}

`meta.turns` ends with the question itself. `messages` may hold the whole conversation: the question
is the user's last message, and the assistant's message after it is the answer, which may be absent.
Lines that share their turns are one history with several questions. `meta.threads`, an optional
extension of evomem, groups turns about the same thing.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from evomem.errors import InputError
from evomem.training.histories import History
from evomem.training.hub import PREFIX, dataset_records

MAX_TURN = 65_536  # characters, about 16,000 tokens; encoders read far less of one turn
NAMES = ("*.jsonl", "*.jsonl.xz")


def read_evotrain(source: str | Path) -> list[History]:
    """Read all histories of a source, and check them.

    Args:
        source: A file; a folder, whose .jsonl and .jsonl.xz files are read; or a data set
            (see `evomem.training.hub`).

    Raises:
        InputError: The data cannot be used; the message names the file, the line and the fault.
    """
    histories: dict[tuple[str, ...], History] = {}
    for where, record in _found(source):
        _add(histories, where, record)
    if not histories:
        raise InputError(f"{source} holds no records")
    return list(histories.values())


def write_evotrain(histories: Sequence[History], file: Path) -> int:
    """Write histories, one line per question (compressed if the name ends in .xz); return the lines written."""
    count = 0
    with lzma.open(file, "wt") if file.suffix == ".xz" else file.open("w", encoding="utf-8") as out:
        for history in histories:
            for question in history.questions:
                record = {
                    "messages": [
                        {"role": "user", "content": question.text},
                        {"role": "assistant", "content": question.answer},
                    ],
                    "meta": {
                        "turns": [*history.turns, question.text],
                        "evidence_turns": list(question.evidence),
                        "kind": question.kind,
                        "threads": [list(thread) for thread in history.threads],
                    },
                }
                out.write(json.dumps(record) + "\n")
                count += 1
    return count


def _found(source: str | Path) -> Iterator[tuple[str, Any]]:
    """Yield each record of a source with its location."""
    if str(source).startswith(PREFIX):
        yield from dataset_records(str(source))
        return
    path = Path(source).expanduser()
    files = [path]
    if path.is_dir():
        files = sorted(file for name in NAMES for file in path.glob(name))
        if not files:
            raise InputError(
                f"{path} holds no {' or '.join(NAMES)} file; a folder that the datasets package "
                f"wrote is named {PREFIX}{path}"
            )
    for file in files:
        yield from _records(file)


def _records(file: Path) -> Iterator[tuple[str, Any]]:
    number = 0
    try:
        opened = (
            lzma.open(file, "rt", encoding="utf-8")
            if file.suffix == ".xz"
            else file.open(encoding="utf-8")
        )
        with opened as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield f"{file} line {number}", json.loads(line)
    except (ValueError, lzma.LZMAError, EOFError, RecursionError) as error:
        raise InputError(f"{file} line {max(1, number)} is not JSON: {error}") from error
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}") from error


def _add(histories: dict[tuple[str, ...], History], where: str, record: Any) -> None:
    record = _expect(record, dict, where)
    messages = _expect(record.get("messages"), list, f"{where} messages")
    meta = _expect(record.get("meta"), dict, f"{where} meta")
    turns = _expect(meta.get("turns"), list, f"{where} meta.turns")
    question, answer = _asked(messages, where)
    for place, turn in enumerate(turns):
        _text(turn, f"{where} meta.turns[{place}]")
    last = turns[-1].strip().removeprefix("User: ") if turns else ""
    past = tuple(turns[:-1] if last == question.strip() else turns)
    if not past:
        raise InputError(f"{where}: meta.turns holds no turn before the question")
    evidence = _indices(meta.get("evidence_turns"), len(past), f"{where} meta.evidence_turns")
    if not evidence:
        raise InputError(
            f"{where}: meta.evidence_turns is empty; leave out questions that no turn answers"
        )
    history = histories.setdefault(past, History(where, list(past)))
    threads = _optional(meta, "threads", [], where)
    for place, thread in enumerate(threads):
        thread_turns = tuple(_indices(thread, len(past), f"{where} meta.threads[{place}]"))
        if len(thread_turns) > 1 and thread_turns not in history.threads:
            history.threads.append(thread_turns)
    history.ask(question, evidence, _optional(meta, "kind", "", where), answer=answer)


def _asked(messages: list[Any], where: str) -> tuple[str, str]:
    """Return the question, which is the user's last message, and the answer after it, if any."""
    spoken = [_message(message, f"{where} messages[{i}]") for i, message in enumerate(messages)]
    answer = spoken.pop()[1] if spoken and spoken[-1][0] == "assistant" else ""
    asked = [content for role, content in spoken if role == "user"]
    if not asked:
        raise InputError(f"{where}: messages hold no question; expected one with role 'user'")
    _text(asked[-1], f"{where}: the question")
    if answer.strip():
        _text(answer, f"{where}: the answer")
    return asked[-1], answer.strip()


def _expect(value: Any, kind: type, where: str) -> Any:
    if not isinstance(value, kind):
        raise InputError(
            f"{where}: expected {kind.__name__}, found {type(value).__name__} {value!r:.60}"
        )
    return value


def _optional(meta: dict[str, Any], name: str, default: Any, where: str) -> Any:
    value = meta.get(name)  # data sets fill absent columns with None
    return default if value is None else _expect(value, type(default), f"{where} meta.{name}")


def _message(value: Any, where: str) -> tuple[str, str]:
    message = _expect(value, dict, where)
    role = _expect(message.get("role"), str, f"{where}.role")
    return role, _expect(message.get("content"), str, f"{where}.content")


def _text(value: Any, where: str) -> None:
    text = _expect(value, str, where)
    if not text.strip():
        raise InputError(f"{where} is empty; leave it out and renumber the evidence")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise InputError(f"{where} holds half a character (a lone surrogate); write it as UTF-8")
    if len(text) > MAX_TURN:
        raise InputError(
            f"{where} has {len(text):,} characters, the limit is {MAX_TURN:,}; split it into "
            "several turns and renumber the evidence"
        )


def _indices(value: Any, count: int, where: str) -> list[int]:
    indices = _expect(value, list, where)
    for index in indices:
        if isinstance(index, bool) or not isinstance(index, int):
            raise InputError(f"{where}: expected whole numbers, found {index!r:.60}")
        if not 0 <= index < count:
            raise InputError(
                f"{where}: {index} is out of range; the {count} turns before the question are "
                f"counted from 0 to {count - 1}"
            )
    return sorted(set(indices))
