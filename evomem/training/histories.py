"""The form of all training data: a history, and questions with known evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random


@dataclass(frozen=True, slots=True)
class Question:
    """A question about one history, and the turns that answer it."""

    text: str
    evidence: tuple[int, ...]
    """Indices of turns, counted from 0, ascending, at least one."""
    kind: str = ""
    """The kind of question, such as `"first"` or `"latest"`; for reports only."""
    rivals: tuple[int, ...] = ()
    """Turns about the same thing that do not answer it; only order or reference distinguishes them."""
    answer: str = ""


@dataclass(slots=True)
class History:
    """Turns in order, as they are embedded (`Speaker: text`), and questions about them."""

    id: str
    turns: list[str] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    threads: list[tuple[int, ...]] = field(default_factory=list)
    """Groups of turns about the same changing thing, ascending."""

    def say(self, speaker: str, text: str) -> int:
        """Append a turn and return its index."""
        self.turns.append(f"{speaker}: {' '.join(text.split())}")
        return len(self.turns) - 1

    def ask(
        self,
        text: str,
        evidence: Sequence[int],
        kind: str,
        thread: Sequence[int] = (),
        answer: str = "",
    ) -> None:
        """Append a question; the turns of `thread` that are not evidence are its rivals."""
        turns = tuple(sorted(set(evidence)))
        rivals = tuple(sorted(set(thread) - set(evidence)))
        self.questions.append(Question(" ".join(text.split()), turns, kind, rivals, answer))


def chain(parts: Sequence[History], name: str) -> History:
    """Concatenate histories into one."""
    history = History(name)
    for part in parts:
        start = len(history.turns)
        history.turns += part.turns
        history.threads += [tuple(start + turn for turn in thread) for thread in part.threads]
        history.questions += [
            Question(
                q.text,
                tuple(start + turn for turn in q.evidence),
                q.kind,
                tuple(start + turn for turn in q.rivals),
                q.answer,
            )
            for q in part.questions
        ]
    return history


def chained(parts: Sequence[History], turns: int, rng: Random, name: str) -> list[History]:
    """Shuffle histories and chain them into longer ones of about `turns` turns each.

    Args:
        parts: The short histories; each is used once.
        turns: A history is closed when it has this many turns.
        rng: Draws the order.
        name: The beginning of the histories' names; a number is appended.
    """
    order = list(parts)
    rng.shuffle(order)
    result: list[History] = []
    waiting: list[History] = []
    for part in order:
        waiting.append(part)
        if sum(len(history.turns) for history in waiting) >= turns:
            result.append(chain(waiting, f"{name}-{len(result)}"))
            waiting = []
    return result


def excerpt(history: History, first: int, last: int) -> History:
    """Return turns `first` to `last` (inclusive) and the questions whose evidence is among them."""

    def inside(turn: int) -> bool:
        return first <= turn <= last

    part = History(history.id, history.turns[first : last + 1])
    for q in history.questions:
        if all(map(inside, q.evidence)):
            evidence = tuple(turn - first for turn in q.evidence)
            rivals = tuple(turn - first for turn in q.rivals if inside(turn))
            part.questions.append(Question(q.text, evidence, q.kind, rivals, q.answer))
    for thread in history.threads:
        inner = tuple(turn - first for turn in thread if inside(turn))
        if len(inner) > 1:
            part.threads.append(inner)
    return part
