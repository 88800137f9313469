"""The Temporal Memory Dataset of Zyphra/TemporalMemoryDataset, as a stream; for reporting only.

{"id": "tmd-42", "turns": [{"speaker": "Nate", "text": "...", "session": 1, "date": "2022-01-21",
 "time": "07:31:05", "caption": "..."}], "queries": [{"question": "...", "type": "...", "evidence": [0]}]}
"""

from __future__ import annotations

from datetime import datetime, timezone
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


def load_tmd(path: Path) -> Dataset:
    """Read a `.jsonl` or `.jsonl.xz` file; the text is followed by the caption of a shared image."""
    return make_dataset("tmd", path, [path], _conversations)


def _conversations(path: Path) -> list[Conversation]:
    return [_conversation(line, where) for where, line in read_lines(path)]


def _conversation(stream: Any, where: str) -> Conversation:
    expect(stream, dict, where)
    conversation = Conversation(str(stream.get("id", where)))
    for position, turn in enumerate(expect(stream.get("turns"), list, f"{where} turns")):
        location = f"{where} turn {position}"
        caption = expect(turn, dict, location).get("caption")
        text = turn.get("text")
        conversation.add_turn(
            position,
            f"{text} [shares: {caption}]" if caption else text,
            location,
            speaker=turn.get("speaker"),
            session=turn.get("session"),
            time=_time(turn, location),
        )
    for position, query in enumerate(expect(stream.get("queries"), list, f"{where} queries")):
        location = f"{where} query {position}"
        evidence = expect(
            expect(query, dict, location).get("evidence"), list, f"{location} evidence"
        )
        conversation.add_question(query.get("question"), str(query.get("type")), evidence, location)
    return conversation


def _time(turn: dict[str, Any], where: str) -> datetime:
    text = f"{turn.get('date')}T{turn.get('time')}"
    try:
        return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)
    except ValueError as error:
        raise DatasetError(f"{where}: {text!r} is not a date and time") from error
