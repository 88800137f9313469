"""LoCoMo: `locomo10.json` of snap-research/locomo."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from benchmarks.datasets.base import (
    UNKNOWN,
    UNLABELLED,
    Conversation,
    Dataset,
    dataset,
    expect,
    parse_time,
    read_json,
)
from benchmarks.datasets.evidence import resolve

CATEGORIES = {
    1: "multi-hop",
    2: "temporal",
    3: "open-domain",
    4: "single-hop",
    5: "adversarial",
}


def load_locomo(path: Path) -> Dataset:
    """Read the conversations and questions; summaries and observations are not indexed.

    Sessions are taken in numeric order, those announced by a date alone are skipped, and the
    machine caption of a shared image becomes part of the text: "... [image: a photo of a dog]".
    """
    return dataset("locomo", path, [path], _conversations)


def _conversations(path: Path) -> list[Conversation]:
    samples = expect(read_json(path), list, str(path))
    return [_conversation(sample, f"{path} sample {n}") for n, sample in enumerate(samples)]


def _conversation(sample: Any, where: str) -> Conversation:
    talk = expect(expect(sample, dict, where).get("conversation"), dict, f"{where} conversation")
    conversation = Conversation(str(sample.get("sample_id", where)))
    for number in session_numbers(talk):
        name = f"session_{number}"
        spot = f"{where} {name}"
        time = parse_time(talk.get(f"{name}_date_time"), "%I:%M %p on %d %B, %Y", spot)
        for position, turn in enumerate(expect(talk[name], list, spot)):
            here = f"{spot} turn {position}"
            conversation.say(
                expect(turn, dict, here).get("dia_id"),
                with_caption(turn, "text", here),
                here,
                speaker=turn.get("speaker"),
                session=number,
                time=time,
            )
    for position, item in enumerate(expect(sample.get("qa"), list, f"{where} qa")):
        add_question(conversation, item, CATEGORIES, f"{where} qa {position}")
    return conversation


def session_numbers(keys: dict[str, Any]) -> list[int]:
    """Return N of every `session_N` that exists, in numeric order.

    >>> session_numbers({"session_10": [], "session_2": [], "session_3_date_time": ""})
    [2, 10]
    """
    return sorted(int(key[8:]) for key in keys if re.fullmatch(r"session_\d+", key))


def with_caption(turn: dict[str, Any], field: str, where: str) -> str:
    """Return a turn's text, with the machine caption of a shared image after it."""
    text: str = expect(turn.get(field), str, f"{where} {field}")
    caption = turn.get("blip_caption")
    return f"{text} [image: {caption}]".strip() if caption else text


def add_question(
    conversation: Conversation, item: Any, categories: dict[int, str], where: str
) -> None:
    """Add a question with `category` and `evidence` labels."""
    labels = expect(expect(item, dict, where).get("evidence"), list, f"{where} evidence")
    for label in labels:
        expect(label, str, f"{where} evidence")
    category = item.get("category")
    conversation.ask(
        item.get("question"),
        categories.get(category, f"category {category}"),
        resolve(conversation, labels),
        where,
        UNKNOWN if any(labels) else UNLABELLED,
        answer=item.get("answer"),
    )
