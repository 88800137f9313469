"""The one shape of training data: a history and questions with known evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random


@dataclass(frozen=True, slots=True)
class Question:
    """A question about one history, and the turns that answer it."""

    text: str
    evidence: tuple[int, ...]
    """Indices of turns, counted from 0, ascending, at least one."""
    kind: str = ""
    """What it asks for, such as `"first"` or `"latest"`; for reports only."""
    rivals: tuple[int, ...] = ()
    """Turns about the same thing that do not answer it: only order or reference tells them apart."""
    answer: str = ""
    asked_at: int | None = None
    """How many turns have been said when it is asked; None: all of them."""

    def moved(self, by: int) -> Question:
        """Return the same question where `by` turns stand before the history."""
        return replace(
            self,
            evidence=tuple(turn + by for turn in self.evidence),
            rivals=tuple(turn + by for turn in self.rivals),
            asked_at=None if self.asked_at is None else self.asked_at + by,
        )


@dataclass(slots=True)
class History:
    """Turns in order, as they are embedded (`Speaker: text`), and questions about them."""

    id: str
    turns: list[str] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    threads: list[tuple[int, ...]] = field(default_factory=list)
    """Groups of turns that speak about the same changing thing, ascending."""

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
        asked_at: int | None = None,
    ) -> None:
        """Append a question; the turns of `thread` that are no evidence are its rivals."""
        found = tuple(sorted(set(evidence)))
        rivals = tuple(sorted(set(thread) - set(evidence)))
        self.questions.append(
            Question(" ".join(text.split()), found, kind, rivals, answer, asked_at)
        )


def chain(parts: Sequence[History], name: str) -> History:
    """Put histories one after another into one."""
    whole = History(name)
    for part in parts:
        start = len(whole.turns)
        whole.turns += part.turns
        whole.threads += [tuple(start + turn for turn in thread) for thread in part.threads]
        whole.questions += [question.moved(start) for question in part.questions]
    return whole


def chained(parts: Sequence[History], turns: int, rng: Random, name: str) -> list[History]:
    """Shuffle histories and chain them into longer ones of about `turns` turns each.

    Args:
        parts: What is chained; each is used once.
        turns: A history is closed when it has this many.
        rng: Decides the order.
        name: Of the histories; a number is added.
    """
    order = list(parts)
    rng.shuffle(order)
    result: list[History] = []
    waiting: list[History] = []
    for part in order:
        waiting.append(part)
        if sum(len(each.turns) for each in waiting) >= turns:
            result.append(chain(waiting, f"{name}-{len(result)}"))
            waiting = []
    return result


def excerpt(history: History, first: int, last: int) -> History:
    """Return turns `first` to `last` (inclusive) and the questions whose evidence lies there."""

    def inside(turn: int) -> bool:
        return first <= turn <= last

    part = History(history.id, history.turns[first : last + 1])
    for q in history.questions:
        asked_inside = q.asked_at is None or first < q.asked_at <= last + 1
        if asked_inside and all(map(inside, q.evidence)):
            kept = replace(q, rivals=tuple(filter(inside, q.rivals)))
            part.questions.append(kept.moved(-first))
    for thread in history.threads:
        turns = tuple(turn - first for turn in thread if inside(turn))
        if len(turns) > 1:
            part.threads.append(turns)
    return part
