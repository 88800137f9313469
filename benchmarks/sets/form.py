"""The common form of all sets: collections of labelled passages, and questions that name labels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from benchmarks.datasets.base import ABSTENTION, UNKNOWN, UNLABELLED, Conversation, DatasetError
from evomem import Turn
from evomem.errors import EvomemError
from evomem.records import MAX_CHARS


@dataclass(frozen=True, slots=True)
class Passage:
    """A text that may answer a question."""

    label: str
    """The name of its document, paragraph, session or turn, to which evidence refers. Not unique."""
    turn: Turn


@dataclass(frozen=True, slots=True)
class SetQuestion:
    """A question, and the labels of the passages that answer it."""

    id: str
    """Unique in its set."""
    text: str
    type: str
    evidence: frozenset[str]
    """If it is empty, the question is not scored."""
    why_left_out: str = ""


@dataclass(frozen=True, slots=True)
class Collection:
    """Passages that are searched together, and questions about them."""

    id: str
    """Unique in its set."""
    questions: Sequence[SetQuestion]
    passages: Callable[[], Iterator[Passage]]
    """Yields the passages from the first one on, without loading all of them."""


Reader = Callable[[Path], Iterator[Collection]]
"""Path → collections."""


def set_question(
    id: str,
    text: object,
    kind: str,
    evidence: Sequence[str],
    where: str,
    *,
    abstention: bool = False,
) -> SetQuestion:
    """Return a question, with the reason if it has no evidence.

    Raises:
        DatasetError: `text` is not a text, or blank.
    """
    if not isinstance(text, str) or not text.strip():
        raise DatasetError(f"{where}: the question is {text!r:.60}, expected text")
    why = "" if evidence else ABSTENTION if abstention else UNLABELLED
    return SetQuestion(id, text, kind, frozenset(evidence), why)


def passages_of(
    label: str,
    text: object,
    where: str,
    *,
    role: str = "user",
    speaker: str | None = None,
    session: str | None = None,
    time: datetime | None = None,
) -> Iterator[Passage]:
    """Yield a text as a passage: none if it is blank, several if it exceeds the limit of a turn.

    Raises:
        DatasetError: It is not a text.
    """
    if not isinstance(text, str):
        raise DatasetError(f"{where}: the text is {text!r:.60}, expected a string")
    for start in range(0, len(text), MAX_CHARS):
        part = text[start : start + MAX_CHARS]
        if part.strip():
            of_assistant = role == "assistant"
            try:
                turn = Turn(
                    user="" if of_assistant else part,
                    assistant=part if of_assistant else "",
                    speaker=speaker,
                    session=session,
                    time=time,
                )
            except EvomemError as error:
                raise DatasetError(f"{where}: {error}") from error
            yield Passage(label, turn)


def digest(text: str) -> str:
    """Return the label of a text that has no other name."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def collection_of(conversation: Conversation) -> Collection:
    """Return a conversation as a collection, with the indices of turns as labels."""
    return Collection(
        conversation.id,
        [
            SetQuestion(
                question.id,
                question.text,
                question.type,
                frozenset(map(str, question.evidence)),
                question.why_left_out,
            )
            for question in conversation.questions
        ],
        lambda: (Passage(str(n), turn) for n, turn in enumerate(conversation.turns)),
    )


def with_existing_evidence(
    labels: Sequence[str], existing: frozenset[str], question: SetQuestion
) -> SetQuestion:
    """Return `question` with the existing `labels` as evidence, and the reason if there are none."""
    evidence = frozenset(labels) & existing
    has_unknown_labels = labels and question.why_left_out != ABSTENTION
    why = "" if evidence else UNKNOWN if has_unknown_labels else question.why_left_out or UNLABELLED
    return SetQuestion(question.id, question.text, question.type, evidence, why)
