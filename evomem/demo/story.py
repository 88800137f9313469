"""The story and the questions, as they ship."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files

from evomem.chats import read_chats
from evomem.records import Turn


@dataclass(frozen=True, slots=True)
class Question:
    """A question whose right answer depends on the order in which things were told."""

    question: str
    answer: str
    right: frozenset[str]
    """Ids of turns that hold the answer, or a part of it that cannot be missed."""
    wrong: frozenset[str]
    """Ids of turns that speak of the same thing at another time and would mislead."""
    at: str | None
    """Id of the last turn told when the question is asked; None asks at the end of the story."""
    featured: bool
    """Whether it is one of the few that are asked by default."""


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
