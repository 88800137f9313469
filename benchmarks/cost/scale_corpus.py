"""Real texts for memories of any size: chats and documents, repeated with other names.

Texts are joined to turns of about 500 tokens. Each repetition exchanges names for names that are about as
frequent, so that its questions, whose names are exchanged too, have one answer.
"""

from __future__ import annotations

import calendar
import json
import lzma
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, count, islice
from pathlib import Path
from typing import Any, NamedTuple

from evomem.errors import InputError

TOKENS = 500  # of a turn, about
CHARACTERS = 1750  # of a turn: 3.5 per token
FIRST, FIRST_QUESTIONS = 10, 5  # this many streams with this many questions come first
COPIES = 16  # names are exchanged within groups of this size: a power of two
MIN_NAMES, MAX_LOWER = 3, 0.1  # a name occurs this often, and rarely in lower case
WORD = re.compile(r"[A-Za-z]+")
CAPITALISED = re.compile(r"\b[A-Z][a-z]+")
NO_NAMES = {*calendar.month_name, *calendar.day_name, "I"}


class Question(NamedTuple):
    """A question whose answer is in one turn."""

    text: str
    turn: int
    """The index of the turn."""


class Corpus:
    """A folder with texts (`turns.jsonl`) and questions (`questions.json`)."""

    def __init__(self, folder: Path) -> None:
        """Open a folder that `write_corpus` has filled."""
        self._folder = folder
        rows = json.loads((folder / "questions.json").read_text("utf-8"))
        self._questions = [Question(text, turn) for text, turn in rows]
        with (folder / "turns.jsonl").open("rb") as file:
            self._places = list(accumulate(map(len, file), initial=0))

    def __len__(self) -> int:
        """Return the number of turns."""
        return len(self._places) - 1

    def texts(self, start: int, end: int) -> Iterator[str]:
        """Yield the texts of turns `start` to `end`, without the latter."""
        with (self._folder / "turns.jsonl").open("rb") as file:
            file.seek(self._places[start])
            yield from map(json.loads, islice(file, end - start))

    def questions(self, turns: int, limit: int) -> list[Question]:
        """Return up to `limit` questions about the first `turns` turns, drawn at random."""
        asked = [question for question in self._questions if question.turn < turns]
        return random.Random(0).sample(asked, min(limit, len(asked)))


def write_corpus(folder: Path, corpora: Path, turns: int) -> Corpus:
    """Write `turns` texts and the questions about them to `folder`, unless they are there; open it.

    Args:
        folder: Where to write.
        corpora: A folder of streams with turns and questions (`*.jsonl.xz`).
        turns: The number of texts.

    Raises:
        InputError: There are no streams, or the folder holds fewer texts.
    """
    if (folder / "questions.json").exists():
        corpus = Corpus(folder)
        if len(corpus) < turns:
            raise InputError(
                f"{folder} holds {len(corpus)} turns, not {turns}: name another folder"
            )
        return corpus
    streams = [
        stream
        for file in sorted(corpora.glob("*.jsonl.xz"))
        for stream in map(json.loads, lzma.open(file, "rt", encoding="utf-8"))
        if stream.get("turns")
    ]
    if not streams:
        raise InputError(f"{corpora} holds no streams: pass a folder of *.jsonl.xz files")
    random.Random(0).shuffle(streams)
    names = names_of(turn["text"] for stream in streams for turn in stream["turns"])
    streams = _with_questions_first(streams, set(names))
    folder.mkdir(parents=True, exist_ok=True)
    questions: list[Question] = []
    with (folder / "turns.jsonl").open("w", encoding="utf-8") as file:
        for number, (text, asked) in enumerate(islice(_endless(streams, names), turns)):
            file.write(json.dumps(text) + "\n")
            questions += [Question(question, number) for question in asked]
    (folder / "questions.json").write_text(json.dumps(questions), "utf-8")
    return Corpus(folder)


def names_of(texts: Iterator[str]) -> list[str]:
    """Return capitalised words that are rare in lower case, the most frequent ones first."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(WORD.findall(text))
    names = [
        word
        for word, number in counts.most_common()
        if CAPITALISED.fullmatch(word)
        and number >= MIN_NAMES
        and counts[word.lower()] <= MAX_LOWER * number
        and word not in NO_NAMES
    ]
    return names[: len(names) // COPIES * COPIES]


def exchange(names: Sequence[str], copy: int) -> dict[str, str]:
    """Return the name that replaces each name in a copy; any two copies differ in all of them.

    `copy` is below `COPIES`.

    >>> exchange(["Ann", "Bob", "Cy", "Di"], 1)
    {'Ann': 'Bob', 'Bob': 'Ann', 'Cy': 'Di', 'Di': 'Cy'}
    """
    return {name: names[place ^ copy] for place, name in enumerate(names)}


def rename(text: str, others: Mapping[str, str]) -> str:
    """Replace every name in a text that `others` has a replacement for."""
    return CAPITALISED.sub(lambda match: others.get(match[0], match[0]), text)


def _with_questions_first(
    streams: Sequence[Mapping[str, Any]], names: set[str]
) -> list[Mapping[str, Any]]:
    """Return all streams, a few with many questions first: a small memory needs questions, too."""
    asked = (
        place
        for place, stream in enumerate(streams)
        if sum(map(len, _questions(stream, names).values())) >= FIRST_QUESTIONS
    )
    first = set(islice(asked, FIRST))
    return [
        *(stream for place, stream in enumerate(streams) if place in first),
        *(stream for place, stream in enumerate(streams) if place not in first),
    ]


def _endless(
    streams: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> Iterator[tuple[str, list[str]]]:
    """Yield texts with the questions that they answer, from one copy of all streams after another."""
    for copy in count():
        if copy == COPIES:
            raise InputError(f"the corpora are too small: they would be repeated {copy} times")
        others = exchange(names, copy)
        for text, questions in _turns(streams, set(names)):
            yield rename(text, others), [rename(question, others) for question in questions]


def _turns(
    streams: Sequence[Mapping[str, Any]], names: set[str]
) -> Iterator[tuple[str, list[str]]]:
    """Yield texts of `CHARACTERS` characters or a few more, and the questions about each.

    A question is kept if one text answers it and shares a name with it: otherwise, the same question
    about a copy would look alike.
    """
    lines: list[str] = []
    questions: list[str] = []
    for stream in streams:
        asked = _questions(stream, names)
        for number, turn in enumerate(stream["turns"]):
            text = turn["text"].strip()
            if turn["speaker"] not in ("document", "narrator"):
                text = f"{turn['speaker']}: {text}"
            if len(text) > CHARACTERS:  # its pieces have no questions
                words, text = text[:-CHARACTERS], text[-CHARACTERS:]
                for start in range(0, len(words), CHARACTERS):
                    lines.append(words[start : start + CHARACTERS])
                    if sum(map(len, lines)) >= CHARACTERS:
                        yield "\n".join(lines), questions
                        lines, questions = [], []
            else:
                questions = questions + asked.get(number, [])
            lines.append(text)
            if sum(map(len, lines)) >= CHARACTERS:
                yield "\n".join(lines), questions
                lines, questions = [], []


def _questions(stream: Mapping[str, Any], names: set[str]) -> dict[int, list[str]]:
    """Return, by index of a turn, the questions that it alone answers and shares a name with."""
    asked: dict[int, list[str]] = {}
    for query in stream.get("queries") or ():
        evidence = query.get("evidence") or []
        if len(evidence) != 1 or "asked_at" in query:
            continue
        shared = names.intersection(CAPITALISED.findall(query["question"]))
        if shared.intersection(CAPITALISED.findall(stream["turns"][evidence[0]]["text"])):
            asked.setdefault(evidence[0], []).append(query["question"])
    return asked
