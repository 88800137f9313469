"""REALTALK: `Chat_*.json` of danny911kr/REALTALK."""

from __future__ import annotations

from pathlib import Path

from benchmarks.datasets.base import (
    Conversation,
    Dataset,
    DatasetError,
    expect,
    make_dataset,
    parse_time,
    read_json,
)
from benchmarks.datasets.locomo import add_question, session_numbers, with_caption

CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open-domain"}


def load_realtalk(path: Path) -> Dataset:
    """Read a folder of chats, or one chat.

    The text is `clean_text`, followed by the caption of a shared image. Turns are identified by `dia_id`
    alone; the number before its colon is a day, not a session.
    """
    files = sorted(path.glob("Chat_*.json"), key=_number) if path.is_dir() else [path]
    if not files:
        raise DatasetError(f"{path} has no Chat_*.json")
    return make_dataset("realtalk", path, files, lambda file: [_conversation(file)])


def _number(path: Path) -> tuple[int, str]:
    number = path.stem.split("_")[1]
    return (int(number) if number.isdecimal() else 0, path.stem)


def _conversation(path: Path) -> Conversation:
    chat = expect(read_json(path), dict, str(path))
    conversation = Conversation(path.stem)
    for number in session_numbers(chat):
        spot = f"{path} session_{number}"
        for position, turn in enumerate(expect(chat[f"session_{number}"], list, spot)):
            location = f"{spot} turn {position}"
            conversation.add_turn(
                expect(turn, dict, location).get("dia_id"),
                with_caption(turn, "clean_text", location),
                location,
                speaker=turn.get("speaker"),
                session=number,
                time=parse_time(turn.get("date_time"), "%d.%m.%Y, %H:%M:%S", location),
            )
    for position, item in enumerate(expect(chat.get("qa"), list, f"{path} qa")):
        add_question(conversation, item, CATEGORIES, f"{path} qa {position}")
    return conversation
