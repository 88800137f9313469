"""Histories and questions as token ids: the input of protocol R, and the answers to be learnt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evomem.evoembedding.model import Ids
from evomem.evoembedding.tokens import Tokens
from evomem.training.histories import History, Question

ASSISTANT = "Assistant: "


@dataclass(frozen=True, slots=True)
class Answer:
    """A question and its answer as the last segment of a chat."""

    ids: Ids
    start: int
    """Index of the first id that is trained."""
    end: int
    """Index after the last id that is trained: the end of the answer's message."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A history and some of its questions."""

    segments: list[Ids]
    """The ids that evolve the memory, turn by turn."""
    turns: list[Ids]
    """The ids that are embedded, turn by turn."""
    questions: list[Ids]
    evidence: list[tuple[int, ...]]
    answers: list[Answer]
    """The answers of those questions that have one."""


def make_sample(tokens: Tokens, history: History, questions: Sequence[Question]) -> Sample:
    """Return `questions` about `history` as a memory reads them: special-token strings in texts are plain text."""
    turns = [tokens.defuse(turn) for turn in history.turns]
    return Sample(
        segments=[tokens.exchange(*sides(turn)) for turn in turns],
        turns=[tokens.history(turn) for turn in turns],
        questions=[tokens.query(tokens.defuse(question.text)) for question in questions],
        evidence=[question.evidence for question in questions],
        answers=[make_answer(tokens, q.text, q.answer) for q in questions if q.answer],
    )


def make_answer(tokens: Tokens, question: str, answer: str) -> Answer:
    """Return the segment of a question and its answer."""
    asked = {"role": "user", "content": tokens.defuse(question)}
    reply = {"role": "assistant", "content": tokens.defuse(answer)}
    prompt = tokens.chat([asked], answer=True)
    ids = tokens.chat([asked, reply], answer=False)
    # Some templates begin a requested answer differently from a given one: the shared part is the prompt.
    start = next((i for i, (a, b) in enumerate(zip(prompt, ids, strict=False)) if a != b), None)
    end = len(ids) - ids[::-1].index(tokens.special.im_end)
    return Answer(ids, len(prompt) if start is None else start, end)


def sides(turn: str) -> tuple[str, str]:
    r"""Return the two messages of a turn, the inverse of how turns are written (see "Turns").

    >>> sides("User: Hi\nAssistant: Hello"), sides("Assistant: Hello"), sides("Mel: Hi")
    (('Hi', 'Hello'), ('', 'Hello'), ('Mel: Hi', ''))
    """
    if turn.startswith(ASSISTANT):
        return "", turn.removeprefix(ASSISTANT)
    if not turn.startswith("User: "):
        return turn, ""
    user, _, assistant = turn.removeprefix("User: ").partition(f"\n{ASSISTANT}")
    return user, assistant
