"""Conversations of a user and an assistant, and the user's next messages as questions.

Several projects take turns, session by session: articles as long answers of the assistant, reviews and posts
as long messages of the user, and task dialogues. A question is what a user writes next: a question of the
corpus or a sentence that was taken out of a text, in the words of someone who talks to an assistant; the
held-out next message of a dialogue; or a request to go on with a project.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from random import Random
from typing import Any

from evomem.training.histories import History

Stream = dict[str, Any]
SENTENCE = re.compile(r"(?<=[.!?])\s+")
KINDS = ("answer", "held out", "next", "pick up")
"""The kinds of these questions."""
PROJECTS = range(8, 12)
SESSIONS = range(2, 5)
ANSWER = 90  # words of a long turn
OPENINGS = (
    "Hi, I'm back. |Hey. |Hello again. |Okay. |Okay, great. |Good, that helps. |Thanks, that was useful. |"
    "Alright. |Right, let's continue. |Hi! Sorry for the break. |Perfect, that's settled. |Hm, wait. |"
    "Actually, before we go on: |I've been thinking about this. |One more thing. |Morning! |"
    "That makes sense, thank you. |I finally had time to look at it. |Not sure about this yet. |"
    "Sorry, I lost track. |Let's get this done. |I'm a bit stuck. |Seriously? |We talked about this before. |"
    "You mentioned something about this earlier. |I told you about this. |As we agreed last time. "
).split("|")
CLOSINGS = (
    " Can you remind me?| What should I do next?| Keep it short, please.| Let's move on with that.|"
    " Could you check that again?| What do you think?| I'd like to work from there.| Is that still right?|"
    " Just give me the main points.| I want to be sure before I go on.| Can we pick up from there?|"
    " Walk me through it step by step.| Did I understand that correctly?| Let's build on that.|"
    " I don't want to repeat myself.| Please put it in a list.| How does that fit with what we have?"
).split("|")
PICK_UP = (
    "Can you pick up where we left off with {title}?|Let's get back to {title}.|"
    "I'm ready to continue with {title}. What's next?|Where were we with {title}?|"
    "What do we have on {title} so far?|Next step for {title}, please.|"
    "I want to go on with {title} today, from where we stopped.|Update on {title}?"
).split("|")
ASKS_FOR = (
    "Tell me about {title}.|I need to know more about {title}.|Go on about {title}, please.|"
    "What else is there on {title}?|Can you explain that part of {title}?|More detail, please."
).split("|")
REPLIES = (
    "Thanks for telling me. Would you like to go through it together?|Got it, I'll keep that in mind.|"
    "That is good to know. What would you like to do with it?|Understood. Shall we look at the details next?|"
    "I see. Let me know if you want a summary.|Noted! Is there anything else I should know?"
).split("|")


@dataclass(slots=True)
class Project:
    """Exchanges about one thing, and questions about them."""

    title: str
    turns: list[tuple[str, str]] = field(default_factory=list)
    """(speaker, text)."""
    questions: list[tuple[str, list[int], str]] = field(default_factory=list)
    """(text, indices in `turns`, kind)."""


def conversations(
    articles: Iterable[Stream],
    posts: Iterable[Stream],
    dialogues: Iterable[Stream],
    length: int,
    rng: Random,
) -> Iterator[History]:
    """Yield histories of about `length` turns, each of several projects that take turns.

    Args:
        articles: Documents by paragraph, with questions (`squad_like`, `timeqa_human` and others).
        posts: The same in the first person: reviews and posts.
        dialogues: Task dialogues (`sgd`, `multiwoz21_valtest`).
        length: Turns per history.
        rng: Draws everything.
    """
    kinds = (_articles(articles, rng), _posts(posts, rng), _dialogues(dialogues, rng))
    number = 0
    while True:
        drawn = rng.choices(kinds, (5, 3, 3), k=rng.choice(PROJECTS))
        projects = [project for source in drawn for project in islice(source, 1)]
        if len(projects) < PROJECTS.start:
            return
        history = interleaved(projects, length, rng, f"messages-{number}")
        if history.questions:
            yield history
        number += 1


def interleaved(projects: list[Project], length: int, rng: Random, name: str) -> History:
    """Return one history in which the sessions of the projects follow each other in random order."""
    room = max(4, length // len(projects))
    sessions: list[tuple[int, range]] = []
    order: list[int] = []
    for number, project in enumerate(projects):
        count = min(len(project.turns), room)
        cuts = sorted(
            {2 * rng.randrange(1, max(2, count // 2)) for _ in range(rng.choice(SESSIONS) - 1)}
        )
        edges = [0, *(cut for cut in cuts if cut < count), count]
        sessions += [(number, range(*pair)) for pair in zip(edges, edges[1:], strict=False)]
        order += [number] * (len(edges) - 1)
    rng.shuffle(order)
    waiting = {n: iter([s for s in sessions if s[0] == n]) for n in range(len(projects))}
    history = History(name)
    places: dict[tuple[int, int], int] = {}
    last: dict[int, list[int]] = {}
    for number in order:
        _, turns = next(waiting[number])
        for turn in turns:
            places[number, turn] = history.say(*projects[number].turns[turn])
        last[number] = [places[number, turn] for turn in turns]
    for number, project in enumerate(projects):
        for text, evidence, kind in project.questions:
            if all((number, turn) in places for turn in evidence):
                history.ask(text, [places[number, turn] for turn in evidence], kind)
        if len(project.title.split()) > 1:
            text = rng.choice(PICK_UP).format(title=project.title)
            history.ask(_framed(text, rng), last[number][-4:], "pick up")
    return history


def _articles(streams: Iterable[Stream], rng: Random) -> Iterator[Project]:
    for stream in streams:
        title = str(stream.get("title") or stream["turns"][0]["text"]).replace("_", " ")
        title = " ".join(title.split()[:9]).rstrip(".")
        asked = _by_paragraph(stream)
        start = rng.randrange(max(1, len(stream["turns"]) - 8))
        project = Project(title)
        for number, turn in list(enumerate(stream["turns"]))[start : start + 8]:
            if len(turn["text"].split()) < 25:
                continue
            questions = asked.get(number, [])
            opening = rng.choice(ASKS_FOR).format(title=title)
            if questions and rng.random() < 0.7:
                opening = questions.pop()["question"]
            project.turns.append(("User", opening))
            text, query = _held_out(turn["text"], rng)
            place = len(project.turns)
            project.turns.append(("Assistant", _formatted(text, rng)))
            _ask(project, place, text, query, questions, rng)
        if project.questions:
            yield project


def _posts(streams: Iterable[Stream], rng: Random) -> Iterator[Project]:
    for stream in streams:
        asked = _by_paragraph(stream)
        project = Project("")
        for number, turn in list(enumerate(stream["turns"]))[:6]:
            if len(turn["text"].split()) < 25:
                continue
            text, query = _held_out(turn["text"], rng)
            place = len(project.turns)
            project.turns.append(("User", " ".join(text.split()[:ANSWER])))
            project.turns.append(("Assistant", rng.choice(REPLIES)))
            _ask(project, place, text, query, asked.get(number, []), rng)
        if project.questions:
            yield project


def _dialogues(streams: Iterable[Stream], rng: Random) -> Iterator[Project]:
    """The user's message after the last exchange that is told asks for the newest exchanges."""
    for stream in streams:
        turns = stream["turns"]
        held = [
            place
            for place in range(6, min(len(turns), 17), 2)
            if turns[place]["speaker"] == "user" and len(turns[place]["text"].split()) >= 8
        ]
        if not held or turns[0]["speaker"] != "user":
            continue
        end = rng.choice(held)
        project = Project("")
        for turn in turns[:end]:
            speaker = "User" if turn["speaker"] == "user" else "Assistant"
            project.turns.append((speaker, turn["text"]))
        project.questions.append((turns[end]["text"], list(range(end - 4, end)), "next"))
        yield project


def _ask(
    project: Project, place: int, text: str, held: str, questions: list[Any], rng: Random
) -> None:
    """Add the sentence that was taken out of a turn, and at most two questions of the corpus."""
    if held:
        project.questions.append((_framed(held, rng), [place], "held out"))
    shown = " ".join(text.split()[:ANSWER]).lower()
    for query in rng.sample(questions, min(3, len(questions))):
        answer = query["answer"].strip(" .").lower()
        if len(answer) > 2 and answer in shown:
            asked = query["question"]
            project.questions.append(
                (_framed(asked, rng) if rng.random() < 0.7 else asked, [place], "answer")
            )


def _by_paragraph(stream: Stream) -> dict[int, list[dict[str, Any]]]:
    result: dict[int, list[dict[str, Any]]] = {}
    for query in stream["queries"]:
        if len(query["evidence"]) == 1:
            result.setdefault(query["evidence"][0], []).append(query)
    return result


def _held_out(text: str, rng: Random) -> tuple[str, str]:
    """Return a text without one or two of its sentences, and these; nothing is taken from a short text."""
    sentences = SENTENCE.split(" ".join(text.split()))
    places = [n for n, s in enumerate(sentences) if 6 <= len(s.split()) <= 40]
    if len(sentences) < 4 or not places or rng.random() < 0.3:
        return text, ""
    first = rng.choice(places)
    count = rng.choice((1, 1, 2))
    rest = sentences[:first] + sentences[first + count :]
    return " ".join(rest), " ".join(sentences[first : first + count])


def _framed(text: str, rng: Random) -> str:
    """Put a sentence or question between what people say to an assistant before and after it."""
    opening = rng.choice(OPENINGS) if rng.random() < 0.7 else ""
    if rng.random() < 0.25:
        opening += rng.choice(OPENINGS)
    closing = rng.choice(CLOSINGS) if rng.random() < 0.6 else ""
    return opening + text + closing


def _formatted(text: str, rng: Random) -> str:
    """Write a paragraph as an assistant does: a list, a heading, or as it is."""
    sentences = SENTENCE.split(" ".join(text.split()[:ANSWER]))
    style = rng.random()
    if style < 0.3:
        return "Here is what I found: " + " ".join(f"- {sentence}" for sentence in sentences)
    if style < 0.5:
        points = " ".join(
            f"{number}. **{sentence}**" for number, sentence in enumerate(sentences, 1)
        )
        return f"### Overview {points}"
    closing = " Would you like to know more?" if style < 0.65 else ""
    return " ".join(sentences) + closing
