"""Reads files in the EvoTrain format, so that held-out training data can be evaluated."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.datasets.base import Conversation, Dataset, make_dataset
from evomem import Turn
from evomem.training.evotrain import read_evotrain

_UTTERANCE = re.compile(r"(?P<speaker>[^\n:]{1,60}): (?P<text>.+)", re.DOTALL)
_EXCHANGE = re.compile(r"User: (?P<user>.+)\nAssistant: (?P<assistant>.+)", re.DOTALL)


def load_evotrain(path: Path) -> Dataset:
    """Read a `.jsonl` or `.jsonl.xz` file; lines with the same turns are one conversation."""
    return make_dataset(path.name.partition(".")[0], path, [path], _conversations)


def _conversations(path: Path) -> list[Conversation]:
    conversations = []
    for number, history in enumerate(read_evotrain(path)):
        conversation = Conversation(str(number), turns=[as_turn(text) for text in history.turns])
        conversation.places = {place: place for place in range(len(history.turns))}
        for question in history.questions:
            conversation.add_question(
                question.text,
                question.kind or "question",
                question.evidence,
                history.id,
                answer=question.answer,
            )
        conversations.append(conversation)
    return conversations


def as_turn(text: str) -> Turn:
    r"""Return the turn that `text` represents; a text without a speaker is the user's.

    >>> as_turn("Ann: Hi!").speaker, as_turn("User: Hi!\nAssistant: Hello.").assistant
    ('Ann', 'Hello.')
    >>> as_turn("It rained.").user
    'It rained.'
    """
    exchange = _EXCHANGE.fullmatch(text)
    if exchange:
        turn = Turn(user=exchange["user"], assistant=exchange["assistant"])
    elif match := _UTTERANCE.fullmatch(text):
        speaker = match["speaker"]
        if speaker == "Assistant":
            turn = Turn(assistant=match["text"])
        else:
            turn = Turn(user=match["text"], speaker=None if speaker == "User" else speaker)
    else:
        turn = Turn(user=text)
    return turn
