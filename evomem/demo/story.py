"""The bundled story and questions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files

from evomem.chats import read_chats
from evomem.records import Turn


@dataclass(frozen=True, slots=True)
class Question:
    """A question whose answer depends on the order of the turns."""

    question: str
    answer: str
    right: frozenset[str]
    """Ids of turns with the answer, or a necessary part of it."""
    wrong: frozenset[str]
    """Ids of misleading turns, about the same topic at another time."""
    at: str | None
    """Id of the last turn before the question; None for the end of the story."""
    featured: bool
    """Whether it is among the few questions that are asked by default."""


def load_story() -> list[Turn]:
    """Return the story's exchanges, oldest first."""
    return read_chats(_file("story.json"), "story.json").turns


def load_questions() -> list[Question]:
    """Return all questions."""
    return [
        Question(
            **{**entry, "right": frozenset(entry["right"]), "wrong": frozenset(entry["wrong"])}
        )
        for entry in json.loads(_file("questions.json"))
    ]


def _file(name: str) -> bytes:
    return files("evomem.demo").joinpath(name).read_bytes()
