"""Public corpora as histories: meetings, plays, stories, articles and chats.

Each function takes the streams of one corpus (`data/README.md` of the corpora describes them) and
yields short histories, dense in questions, that are chained into longer ones later.
"""

from __future__ import annotations

import json
import lzma
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from evomem.errors import InputError
from evomem.training.dialogues import multiwoz, sgd
from evomem.training.histories import History, chained, excerpt
from evomem.training.personas import persona_chat
from evomem.training.replies import ask_replies, ask_topics

Stream = dict[str, Any]
WORDS = 32  # words of a document per turn: fewer than the 64 tokens that training reads
MARKER = re.compile(r"\{[^}]*\}")  # QMSum's {vocalsound} and the like
CONTEXT = 6  # turns kept before and after an evidence span


def streams(file: Path) -> Iterator[Stream]:
    """Yield the JSON objects in a .jsonl.xz file.

    Raises:
        InputError: The file is missing or damaged.
    """
    try:
        with lzma.open(file, "rt", encoding="utf-8") as lines:
            yield from map(json.loads, lines)
    except (OSError, ValueError, lzma.LZMAError, EOFError) as error:
        raise InputError(f"{file} cannot be read as JSON lines in xz: {error}") from error


def spoken(given: Iterable[Stream], rng: Random) -> Iterator[History]:
    """Meetings, plays and games (`qmsum`, `friendsqa`, `crd3`): excerpts around short evidence."""
    for stream in given:
        history = History(stream["id"])
        for turn in stream["turns"]:
            history.say(_name(turn["speaker"]), MARKER.sub("", turn["text"]))
        for query in stream.get("queries", ()):
            evidence = _evidence(query)
            if evidence and len(evidence) <= 5:
                history.ask(query["question"], evidence, "spoken", answer=query["answer"])
        rng.shuffle(history.questions)
        covered = -1
        for question in sorted(history.questions, key=lambda q: q.evidence):
            first, last = question.evidence[0], question.evidence[-1]
            if first <= covered or last - first > 2 * CONTEXT:
                continue
            covered = min(last + rng.randint(0, CONTEXT), len(history.turns) - 1)
            part = excerpt(history, max(0, first - rng.randint(0, CONTEXT)), covered)
            ask_replies(part, rng, (), limit=3)
            ask_topics(part, rng, (), limit=1)
            yield part


def documents(given: Iterable[Stream], rng: Random) -> Iterator[History]:
    """Articles and stories (`squad_like`, `fairytaleqa`, `timeqa`, `multihop`) in short pieces.

    The evidence is the piece of the labelled paragraph that contains the answer; questions whose
    answer does not occur there verbatim are left out.
    """
    for stream in given:
        history = History(stream["id"])
        title = str(stream.get("title") or rng.choice(["Document", "Notes", "Page"]))
        places = [
            [history.say(title.replace("_", " "), piece) for piece in pieces(turn["text"])]
            for turn in stream["turns"]
        ]
        for query in stream["queries"]:
            answer = query["answer"].strip().strip(".").lower()
            passages = [
                piece
                for paragraph in query["evidence"]
                for piece in places[paragraph]
                if len(answer) > 2 and answer in history.turns[piece].lower()
            ]
            if passages:
                history.ask(query["question"], passages[:1], "document", answer=query["answer"])
        first = 0
        while first < len(history.turns):  # short ones, so that a history mixes several
            last = first + rng.randint(8, 24)
            part = excerpt(history, first, last)
            if part.questions:
                part.questions = rng.sample(part.questions, min(10, len(part.questions)))
                yield part
            first = last + 1


def facts(given: Iterable[Stream], rng: Random) -> Iterator[History]:
    """Facts whose evidence needs an earlier sentence or a pronoun (`redocred`)."""
    for stream in given:
        history = History(stream["id"])
        for turn in stream["turns"]:
            history.say("Document", turn["text"])
        usable = [fact for fact in stream["facts"] if 0 < len(fact["evidence"]) <= 3]
        for fact in rng.sample(usable, min(6, len(usable))):
            text = rng.choice(["What is the {1} of {0}?", "{0}: {1}?", "Tell me about {0}, {1}."])
            history.ask(
                text.format(fact["head"], fact["relation_name"]),
                fact["evidence"],
                "fact",
                answer=fact["tail"],
            )
        if history.questions:
            yield history


def pieces(text: str) -> list[str]:
    """Cut a text at sentence ends into pieces of about `WORDS` words.

    >>> pieces("One two. Three.")
    ['One two. Three.']
    """
    result: list[list[str]] = [[]]
    for sentence in re.split(r"(?<=[.!?])\s+", text.strip()):
        words = sentence.split()
        if result[-1] and len(result[-1]) + len(words) > WORDS:
            result.append([])
        result[-1] += words
    return [" ".join(words) for words in result if words]


def _name(speaker: str) -> str:
    return speaker.title() if speaker.isupper() else speaker.strip("#")


def _evidence(query: dict[str, Any]) -> list[int]:
    if "evidence_span" in query:  # CRD3 is aligned automatically: take only reliable spans
        first, last = query["evidence_span"]
        return list(range(first, last + 1)) if query["score"] >= 0.35 else []
    return list(query["evidence"])


Convert = Callable[[Iterable[Stream], Random], Iterator[History]]

CORPORA: dict[str, tuple[Convert, float]] = {
    "sgd": (sgd, 0.22),
    "multiwoz21_valtest": (multiwoz, 0.05),
    "synthetic_persona_chat": (persona_chat, 0.30),
    "friendsqa_devtest": (spoken, 0.12),
    "qmsum": (spoken, 0.06),
    "crd3": (spoken, 0.10),
    "squad_like": (documents, 0.06),
    "fairytaleqa": (documents, 0.04),
    "timeqa_human": (documents, 0.02),
    "redocred": (facts, 0.02),
    "multihop_small": (documents, 0.01),
}
"""File → its reader, and its share of the turns in a mixture."""


def convert(folder: Path, turns: int, length: int, seed: int) -> list[History]:
    """Return histories of about `length` turns from all corpora, about `turns` turns in all.

    Args:
        folder: The folder of the `<corpus>.jsonl.xz`; its subfolders (non-commercial data) are not read.
        turns: The number of turns; small corpora may yield fewer.
        length: Turns per history.
        seed: The same seed yields the same histories.

    Raises:
        InputError: A corpus is missing or damaged.
    """
    result: list[History] = []
    for name, (reader, share) in CORPORA.items():
        rng = Random(f"{seed} {name}")
        wanted = max(1, round(turns * share / length))
        given = _shuffled(streams(folder / f"{name}.jsonl.xz"), rng, limit=4000)
        parts: list[History] = []
        size = 0
        for part in reader(given, rng):
            parts.append(part)
            size += len(part.turns)
            if size > 1.3 * wanted * length:
                break
        result += list(islice(chained(parts, length, rng, name), wanted))
    return result


def _shuffled(given: Iterator[Stream], rng: Random, limit: int) -> list[Stream]:
    taken = list(islice(given, limit))
    rng.shuffle(taken)
    return taken
