"""Queries as people write them in a chat: the next message, not a question about the chat.

Replies in a help channel with hand-made links; dialogues that are taken up again after others; long
answers of an assistant; and ordinary questions in the words of someone who talks to an assistant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from random import Random
from typing import Any

from evomem.training.histories import History

Stream = dict[str, Any]
WINDOW = 100  # turns of a channel in one history
ADDRESSED = re.compile(r"^\s*[A-Z][\w-]+[:,]\s+")
NEAR = 0.12  # share of the replies to one of the last five turns that are taken
ANSWER = 80  # words of an assistant's answer
ASKING = (
    "Can you remind me: {q}",
    "Hey, quick question. {q}",
    "I forgot, {q}",
    "Sorry to ask again, but {q}",
    "Before we go on: {q}",
    "We talked about this before. {q}",
    "Do you still know this? {q}",
    "Hi! Let's get back to that: {q} I would like to continue from there.",
    "I need your help with something from earlier. {q}",
    "Not sure whether I told you. {q}",
    "{q} I want to plan the rest around it.",
    "{q} Just give me the short version.",
    "ok so {q}",
)


def channel(given: Iterable[Stream], rng: Random) -> Iterator[History]:
    """Real replies (`irc_disentanglement`): each asks for the message that it answers."""
    for stream in given:
        turns = stream["turns"]
        ends = [query["asked_at"] for query in stream["queries"]]
        start = min(ends, default=0)
        while ends and start < max(ends):
            first = max(0, start - WINDOW // 3)
            history = History(f"{stream['id']}-{first}")
            for turn in turns[first : first + WINDOW]:
                history.say(turn["speaker"], turn["text"])
            for query in stream["queries"]:
                place = query["asked_at"] - first
                evidence = [turn - first for turn in query["evidence"] if turn >= first]
                if not evidence or not len(evidence) < place < len(history.turns):
                    continue
                if query["type"] == "near" and rng.random() > NEAR:
                    continue
                text = query["question"]
                if rng.random() < 0.7:
                    text = ADDRESSED.sub("", text)
                history.ask(text, evidence, "reply_to", asked_at=place)
            start = first + WINDOW
            if len(history.questions) >= 3:
                yield history


def taken_up(given: Iterable[Stream], rng: Random) -> Iterator[History]:
    """Task dialogues in two sessions with others between (`sgd`, `multiwoz21_valtest`).

    The user's first message of the second session asks for what was said in the first.
    """
    waiting: list[Stream] = []
    for stream in given:
        if len(stream["turns"]) >= 12:
            waiting.append(stream)
        if len(waiting) < 6:
            continue
        history = History(f"{waiting[0]['id']}-taken-up")
        first_parts: list[range] = []
        middles = [len(each["turns"]) // 2 // 2 * 2 for each in waiting]
        for each, middle in zip(waiting, middles, strict=True):
            start = len(history.turns)
            _say(history, each["turns"][:middle])
            first_parts.append(range(start, len(history.turns)))
        order = list(range(len(waiting)))
        rng.shuffle(order)
        for number in order:
            place = len(history.turns)
            rest = waiting[number]["turns"][middles[number] :]
            _say(history, rest)
            if len(rest[0]["text"].split()) >= 6:
                evidence = list(first_parts[number])[-6:]
                history.ask(rest[0]["text"], evidence, "taken_up", asked_at=place)
        waiting = []
        if history.questions:
            yield history


def answers(given: Iterable[Stream], rng: Random) -> Iterator[History]:
    """Paragraphs as the long answers of an assistant (`squad_like`, `evidence_inference_600`)."""
    for stream in given:
        history = History(f"{stream['id']}-answers")
        places: dict[int, int] = {}
        title = str(stream.get("title") or "this").replace("_", " ")
        questions: dict[int, list[dict[str, Any]]] = {}
        for query in stream["queries"]:
            if len(query["evidence"]) == 1:
                questions.setdefault(query["evidence"][0], []).append(query)
        for number, turn in enumerate(stream["turns"][:40]):
            asked = questions.get(number, [])
            if not asked:
                continue
            opening = asked.pop(rng.randrange(len(asked)))["question"]
            history.say("User", opening if rng.random() < 0.6 else f"Tell me more about {title}.")
            places[number] = history.say("Assistant", _formatted(turn["text"], rng))
            for query in rng.sample(asked, min(2, len(asked))):
                answer = query["answer"].lower()
                if answer and answer in history.turns[places[number]].lower():
                    history.ask(query["question"], [places[number]], "answer")
        if history.questions:
            yield history


def as_messages(history: History, rng: Random, share: float) -> None:
    """Put a share of the questions into the words of someone who talks to an assistant."""
    history.questions = [
        replace(question, text=_message(question.text, rng))
        if question.asked_at is None and rng.random() < share
        else question
        for question in history.questions
    ]


def _message(text: str, rng: Random) -> str:
    wording = rng.choice(ASKING)
    if not wording.startswith("{q}") and rng.random() < 0.5:
        head = text.split(" ", 1)[0]
        if head in {"What", "When", "Where", "Who", "How", "Which", "Did", "Does", "Is", "Do"}:
            text = text[0].lower() + text[1:]
    return wording.format(q=text)


def _say(history: History, turns: list[dict[str, Any]]) -> None:
    for turn in turns:
        history.say("User" if turn["speaker"] == "user" else "Assistant", turn["text"])


def _formatted(text: str, rng: Random) -> str:
    """Write a paragraph as an assistant does: a list, a heading, or as it is."""
    words = text.split()[:ANSWER]
    sentences = re.split(r"(?<=[.!?])\s+", " ".join(words))
    style = rng.random()
    if style < 0.3:
        return "Here is what I found: " + " ".join(f"- {sentence}" for sentence in sentences)
    if style < 0.5:
        return "### Overview " + " ".join(
            f"{number}. {sentence}" for number, sentence in enumerate(sentences, 1)
        )
    if style < 0.65:
        return " ".join(sentences) + " Would you like to know more?"
    return " ".join(sentences)
