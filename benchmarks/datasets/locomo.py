"""LoCoMo: `locomo10.json` of snap-research/locomo."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.datasets.base import (
    UNKNOWN,
    UNLABELLED,
    Conversation,
    Dataset,
    DatasetError,
    expect,
    make_dataset,
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
    """Read the conversations and questions; summaries and observations are not used.

    Sessions are in numeric order; a session that has only a date is skipped. The generated caption of a
    shared image becomes part of the text: "... [image: a photo of a dog]".
    """
    return make_dataset("locomo", path, [path], _conversations)


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
            location = f"{spot} turn {position}"
            conversation.add_turn(
                expect(turn, dict, location).get("dia_id"),
                with_caption(turn, "text", location),
                location,
                speaker=turn.get("speaker"),
                session=number,
                time=time,
            )
    for position, item in enumerate(expect(sample.get("qa"), list, f"{where} qa")):
        add_question(conversation, item, CATEGORIES, f"{where} qa {position}")
    return conversation


def corrected(original: Dataset, path: Path) -> Dataset:
    """Return LoCoMo with the evidence labels that an audit corrects.

    Reads `errors.json` of github.com/dial481/locomo-audit, or the same findings as
    {"items": [{"conversation", "qa_index", "question", "corrected_evidence"}]}. A question is
    scored with the audit's labels or, where the audit names no turn, with its own; the same
    questions are scored as before.

    Raises:
        DatasetError: A finding names no question of `original`, or quotes a different one.
    """
    talks = {
        talk.id: replace(talk, questions=list(talk.questions)) for talk in original.conversations
    }
    for where, name, number, item in _findings(path, list(talks)):
        talk = talks.get(name)
        if talk is None or number >= len(talk.questions):
            raise DatasetError(f"{where}: {original.path} has no question {number} in {name!r}")
        question = talk.questions[number]
        if question.text != item.get("question"):
            raise DatasetError(
                f"{where}: question {number} of {name} is {question.text!r:.60}, "
                f"not {item.get('question')!r:.60}"
            )
        labels = expect(item["evidence"], list, f"{where} evidence")
        places = {talk.places[label] for label in resolve(talk, labels)}
        if places and question.evidence:
            talk.questions[number] = replace(question, evidence=tuple(sorted(places)))
    return replace(original, name=f"{original.name}, corrected", conversations=list(talks.values()))


def _findings(path: Path, names: list[str]) -> Iterator[tuple[str, str, int, dict[str, Any]]]:
    """Yield (position, conversation, number of the question, finding) of an audit."""
    value = read_json(path)
    items = value.get("items") if isinstance(value, dict) else value
    for position, item in enumerate(expect(items, list, str(path))):
        where = f"{path} finding {position}"
        key = re.fullmatch(
            r"locomo_(\d+)_qa(\d+)", str(expect(item, dict, where).get("question_id"))
        )
        if key and int(key[1]) < len(names):
            yield (
                where,
                names[int(key[1])],
                int(key[2]),
                item | {"evidence": item.get("correct_evidence")},
            )
        elif "qa_index" in item:
            number = expect(item["qa_index"], int, f"{where} qa_index")
            evidence = item.get("corrected_evidence")
            yield where, str(item.get("conversation")), number, item | {"evidence": evidence}
        else:
            raise DatasetError(f"{where} names no question of LoCoMo")


def session_numbers(keys: dict[str, Any]) -> list[int]:
    """Return N of every existing `session_N`, in numeric order.

    >>> session_numbers({"session_10": [], "session_2": [], "session_3_date_time": ""})
    [2, 10]
    """
    return sorted(int(key[8:]) for key in keys if re.fullmatch(r"session_\d+", key))


def with_caption(turn: dict[str, Any], field: str, where: str) -> str:
    """Return a turn's text, followed by the generated caption of a shared image."""
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
    conversation.add_question(
        item.get("question"),
        categories.get(category, f"category {category}"),
        resolve(conversation, labels),
        where,
        UNKNOWN if any(labels) else UNLABELLED,
        answer=item.get("answer"),
    )
