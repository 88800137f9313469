"""The messages of a Strands agent, in the form that `evomem.adapter` takes.

Strands passes messages in batches, whose boundaries may fall within an exchange.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

from evomem.pairing import Message

HostMessage = Mapping[str, Any]
"""A message of Strands: `role`, and `content`, a list of blocks."""


_UNPLACED = "new "
"""The prefix of the ids of messages that never replace another."""


@dataclass
class Question:
    """A question for which the memory was searched."""

    text: str
    place: str
    """Identifies the question's position in the conversation: asked again there, it has the same."""
    recalled: list[str] = field(default_factory=list)


@dataclass
class RunNotes:
    """Facts from an agent's events that its messages do not contain."""

    answers: dict[str, str] = field(default_factory=dict)
    """Structured output as JSON, by the id of the call that returned it."""
    prompts: set[str] = field(default_factory=set)
    """Texts in the user's role that a program added during a run."""


def text_messages(messages: Iterable[HostMessage], notes: RunNotes | None = None) -> list[Message]:
    """Return the texts of user and assistant, without texts that accompany a tool's result."""
    notes = notes or RunNotes()
    result: list[Message] = []
    for message in messages:
        role, blocks = message["role"], message["content"]
        calls = [block["toolUse"].get("toolUseId") for block in blocks if "toolUse" in block]
        texts = [block["text"] for block in blocks if block.get("text")]
        texts += [notes.answers[id] for id in calls if id in notes.answers]
        text = "\n".join(texts)
        if not text.strip() or any("toolResult" in block for block in blocks):
            continue
        if role != "user" or text not in notes.prompts:
            result.append({"role": role, "content": text})
    return result


class Conversation:
    """Joins exchanges that batches have split, and tracks the place of each exchange.

    A place is a hash chain over all exchanges before it. If a window has cut the beginning of a prompt,
    the place is looked up by the last exchange before the question, for as long as this object lives.
    """

    def __init__(self, notes: RunNotes | None = None) -> None:
        self._notes = notes or RunNotes()
        self._open: list[Message] = []
        self._questions: list[Question] = []
        self._chain: dict[str, str] = {}  # exchange's digest → the latest place after it
        self._places: set[str] = set()

    def ask(self, messages: Sequence[HostMessage]) -> Question:
        """Return the question at the end of a prompt, and keep it until its messages arrive.

        A conversation without answers may have been cleared, so a first question never replaces
        another.
        """
        conversation = text_messages(messages, self._notes)
        text = conversation[-1]["content"] if conversation else ""
        while conversation and conversation[-1]["role"] == "user":
            conversation.pop()
        place = _UNPLACED + uuid.uuid4().hex
        if conversation:
            exchanges = _exchanges(conversation)
            place = reduce(_place_after, exchanges, "")
            if place not in self._places:
                place = self._chain.get(_place_after("", exchanges[-1]), place)
        question = Question(text, place)
        self._questions.append(question)
        return question

    def with_batch(self, batch: Sequence[HostMessage]) -> tuple[list[Message], Conversation]:
        """Return the messages to write, and the conversation after they are written.

        A question without an answer is kept back. The last exchange is written again with the messages
        that follow it.
        """
        messages = list(self._open)
        after = Conversation(self._notes)
        after._questions = list(self._questions)
        after._chain, after._places = dict(self._chain), set(self._places)
        for message in text_messages(batch, self._notes):
            placed = {**message, "id": _UNPLACED + uuid.uuid4().hex}
            if message["role"] == "user" and not (messages and messages[-1]["role"] == "user"):
                places = [n for n, q in enumerate(after._questions) if q.text == placed["content"]]
                if places:
                    question = after._questions[places[0]]
                    placed |= {"id": question.place, "recalled": question.recalled}
                    del after._questions[: places[0] + 1]
            messages.append(placed)
        exchanges = _exchanges(messages)
        after._open = exchanges[-1] if exchanges and exchanges[-1][0]["role"] == "user" else []
        for exchange in exchanges:
            before = exchange[0]["id"]
            place = _place_after("" if before.startswith(_UNPLACED) else before, exchange)
            after._places.add(place)
            after._chain[_place_after("", exchange)] = place
        while messages and messages[-1]["role"] == "user":
            messages.pop()
        return messages, after


def _exchanges(messages: Sequence[Message]) -> list[list[Message]]:
    """Return the messages in groups, each a question and the messages after it."""
    groups: list[list[Message]] = []
    for n, message in enumerate(messages):
        if not groups or (message["role"] == "user" and messages[n - 1]["role"] != "user"):
            groups.append([])
        groups[-1].append(message)
    return groups


def _place_after(place: str, exchange: Sequence[Message]) -> str:
    """Return the place after an exchange."""
    texts = json.dumps([place, *([message["role"], message["content"]] for message in exchange)])
    return hashlib.blake2b(texts.encode(), digest_size=16).hexdigest()
