"""The common stream layout, one conversation or document per line: BEAM, COVID-QA and others.

{"id": "beam_128k-1", "turns": [{"speaker": "user", "text": "...", "session": 1, "date": "March-15-2024"}],
 "queries": [{"question": "...", "type": "...", "evidence": [28]}]}
"""

from __future__ import annotations

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
    read_lines,
)


def load_stream(path: Path, name: str | None = None) -> Dataset:
    """Read a `.jsonl` or `.jsonl.xz` file; `name` is its name in tables.

    Only `text` is indexed, since plans, acts and other labels of a turn would leak information. A date
    applies until the next date. Evidence is a list of turn indices, or an inclusive span.
    """
    return make_dataset(name or path.name.partition(".")[0], path, [path], _conversations)


def _conversations(path: Path) -> list[Conversation]:
    return [_conversation(line, where) for where, line in read_lines(path)]


def _conversation(stream: Any, where: str) -> Conversation:
    expect(stream, dict, where)
    conversation = Conversation(str(stream.get("id", where)))
    time: datetime | None = None
    for position, turn in enumerate(expect(stream.get("turns"), list, f"{where} turns")):
        location = f"{where} turn {position}"
        speaker = expect(turn, dict, location).get("speaker", "user")
        date = turn.get("date")
        layout = "%Y-%m-%d" if str(date)[:1].isdigit() else "%B-%d-%Y"
        time = parse_time(date, layout, location) or time
        conversation.add_turn(
            position,
            turn.get("text"),
            location,
            role="assistant" if speaker == "assistant" else "user",
            speaker=None if speaker in ("user", "assistant") else speaker,
            session=turn.get("session"),
            time=time,
        )
    for position, query in enumerate(expect(stream.get("queries", []), list, f"{where} queries")):
        location = f"{where} query {position}"
        kind = str(expect(query, dict, location).get("type", "question"))
        names = _evidence(query, location)
        conversation.dangling += sum(name not in conversation.places for name in names)
        why = ABSTENTION if kind == "abstention" else ""
        place = _place(query, conversation, location)
        if place is not None:  # neither the asking turn nor later ones are evidence
            names = [name for name in names if conversation.places.get(name, place) < place]
        conversation.add_question(
            query.get("question"),
            kind,
            names,
            location,
            why,
            answer=query.get("answer"),
            place=place,
        )
    return conversation


def _place(query: dict[str, Any], conversation: Conversation, where: str) -> int | None:
    """Return the number of turns before a query that is a turn of the stream itself, otherwise None."""
    if query.get("asked_at") is None:
        return None
    asked_at: int = expect(query["asked_at"], int, f"{where} asked_at")
    return sum(turn < asked_at for turn in conversation.places if isinstance(turn, int))


def _evidence(query: dict[str, Any], where: str) -> list[int]:
    if "evidence_span" in query:
        span = expect(query["evidence_span"], list, f"{where} evidence_span")
        if len(span) != 2 or not all(isinstance(end, int) for end in span):
            raise DatasetError(f"{where} evidence_span: expected [first, last], found {span!r:.60}")
        return list(range(span[0], span[1] + 1))
    names = expect(query.get("evidence"), list, f"{where} evidence")
    return [expect(name, int, f"{where} evidence") for name in names]
