"""What every set is read into: collections of labelled passages, with questions that name labels."""

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
    """A text that a question may be answered from."""

    label: str
    """What evidence names: a document, a paragraph, a session, a turn. Passages may share one."""
    turn: Turn


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and the labels that answer it."""

    id: str
    """Unique in its set."""
    text: str
    type: str
    evidence: frozenset[str]
    """Empty: there is nothing to score, and the question is left out."""
    why_left_out: str = ""


@dataclass(frozen=True, slots=True)
class Collection:
    """Passages that are searched together, and the questions about them."""

    id: str
    """Unique in its set."""
    questions: Sequence[Asked]
    passages: Callable[[], Iterator[Passage]]
    """Reads the passages from the first one on; they are never held together."""


Reader = Callable[[Path], Iterator[Collection]]
"""Path → collections, one after the other."""


def asked(
    id: str,
    text: object,
    kind: str,
    evidence: Sequence[str],
    where: str,
    *,
    abstention: bool = False,
) -> Asked:
    """Return a question; one without evidence says why.

    Raises:
        DatasetError: `text` is no text.
    """
    if not isinstance(text, str) or not text.strip():
        raise DatasetError(f"{where}: the question is {text!r:.60}, expected text")
    why = "" if evidence else ABSTENTION if abstention else UNLABELLED
    return Asked(id, text, kind, frozenset(evidence), why)


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
    """Yield a text as a passage; none if it is blank, several if it is longer than a turn can be.

    Raises:
        DatasetError: It is no text.
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
    """Return a label for a text that is known by its words alone."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def collection_of(conversation: Conversation) -> Collection:
    """Return a conversation whose turns are labelled by their index."""
    return Collection(
        conversation.id,
        [
            Asked(
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


def known(labels: Sequence[str], existing: frozenset[str], question: Asked) -> Asked:
    """Return `question` with those of `labels` that exist; without any, it is left out."""
    evidence = frozenset(labels) & existing
    unknown = labels and question.why_left_out != ABSTENTION
    why = "" if evidence else UNKNOWN if unknown else question.why_left_out or UNLABELLED
    return Asked(question.id, question.text, question.type, evidence, why)
