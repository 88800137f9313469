"""What an agent of Strands said, as messages for `evomem.adapter`, from batches that cut exchanges."""

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


_NEW = "new "
"""Begins the ids of messages that take nothing's place."""


@dataclass
class Asked:
    """A question for which the memory was searched."""

    text: str
    place: str
    """The same for a question that is asked again in the same place of a conversation."""
    recalled: list[str] = field(default_factory=list)


@dataclass
class Noted:
    """What the messages of an agent do not say, from its events."""

    answers: dict[str, str] = field(default_factory=dict)
    """Structured output as JSON, by the id of the call that returned it."""
    prompts: set[str] = field(default_factory=set)
    """Texts in the user's role that a program added in the course of a run."""


def said(messages: Iterable[HostMessage], noted: Noted | None = None) -> list[Message]:
    """Return what user and assistant said; what comes with a tool's result is not the user's."""
    noted = noted or Noted()
    result: list[Message] = []
    for message in messages:
        role, blocks = message["role"], message["content"]
        calls = [block["toolUse"].get("toolUseId") for block in blocks if "toolUse" in block]
        texts = [block["text"] for block in blocks if block.get("text")]
        texts += [noted.answers[id] for id in calls if id in noted.answers]
        text = "\n".join(texts)
        if not text.strip() or any("toolResult" in block for block in blocks):
            continue
        if role != "user" or text not in noted.prompts:
            result.append({"role": role, "content": text})
    return result


class Conversation:
    """Puts together the exchanges that batches cut, and knows the place of each.

    A place is what was said before, as a chain: a prompt from which a window has cut the beginning is known
    by the exchange before the question, as long as this object lives.
    """

    def __init__(self, noted: Noted | None = None) -> None:
        self._noted = noted or Noted()
        self._open: list[Message] = []
        self._questions: list[Asked] = []
        self._chain: dict[str, str] = {}  # the newest place after an exchange, by what it says
        self._places: set[str] = set()

    def ask(self, messages: Sequence[HostMessage]) -> Asked:
        """Return the question that a prompt ends with, and keep it until its messages come.

        A conversation without answers may have been cleared: its first question is never taken for
        another one.
        """
        conversation = said(messages, self._noted)
        text = conversation[-1]["content"] if conversation else ""
        while conversation and conversation[-1]["role"] == "user":
            conversation.pop()
        place = _NEW + uuid.uuid4().hex
        if conversation:
            exchanges = _exchanges(conversation)
            place = reduce(_behind, exchanges, "")
            if place not in self._places:
                place = self._chain.get(_behind("", exchanges[-1]), place)
        question = Asked(text, place)
        self._questions.append(question)
        return question

    def with_batch(self, batch: Sequence[HostMessage]) -> tuple[list[Message], Conversation]:
        """Return what can be written now, and the conversation as it is once that is written.

        A question waits for its answer. The last exchange is given again with what follows it.
        """
        messages = list(self._open)
        after = Conversation(self._noted)
        after._questions = list(self._questions)
        after._chain, after._places = dict(self._chain), set(self._places)
        for message in said(batch, self._noted):
            named = {**message, "id": _NEW + uuid.uuid4().hex}
            if message["role"] == "user" and not (messages and messages[-1]["role"] == "user"):
                places = [n for n, q in enumerate(after._questions) if q.text == named["content"]]
                if places:
                    question = after._questions[places[0]]
                    named |= {"id": question.place, "recalled": question.recalled}
                    del after._questions[: places[0] + 1]
            messages.append(named)
        exchanges = _exchanges(messages)
        after._open = exchanges[-1] if exchanges and exchanges[-1][0]["role"] == "user" else []
        for exchange in exchanges:
            before = exchange[0]["id"]
            place = _behind("" if before.startswith(_NEW) else before, exchange)
            after._places.add(place)
            after._chain[_behind("", exchange)] = place
        while messages and messages[-1]["role"] == "user":
            messages.pop()
        return messages, after


def _exchanges(messages: Sequence[Message]) -> list[list[Message]]:
    """Return the messages in groups: the user's, and those that follow."""
    groups: list[list[Message]] = []
    for n, message in enumerate(messages):
        if not groups or (message["role"] == "user" and messages[n - 1]["role"] != "user"):
            groups.append([])
        groups[-1].append(message)
    return groups


def _behind(place: str, exchange: Sequence[Message]) -> str:
    """Return the place after an exchange."""
    texts = json.dumps([place, *([message["role"], message["content"]] for message in exchange)])
    return hashlib.blake2b(texts.encode(), digest_size=16).hexdigest()
