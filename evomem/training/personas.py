"""Chats of two people whose personas are known (Synthetic-Persona-Chat) as histories.

Nobody labelled where a trait is revealed; the turn of that speaker which shares most of the
trait's rare words is taken, and only where the match is clear.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from math import log
from random import Random
from typing import Any

from evomem.training.histories import History
from evomem.training.names import NAMES, Person

WORD = re.compile(r"[a-z']+")
COMMON = set(
    "i a an the to my is am are of and in with have has for on me it be that at was do not from "
    "like love really very i'm so about but when as by there can go get one".split()
)
ASKED = [
    "What did {S} say about {topic}?",
    "When did {S} talk about {topic}?",
    "What does {S} tell about {topic}?",
    "Does {S} mention {topic}?",
    "{S} and {topic}",
    "Is it true that {S} {claim}?",
    "Who {claim}?",
]
THIRD = {"am": "is", "have": "has", "was": "was", "can": "can", "do": "does", "will": "will"}


def persona_chat(given: Iterable[dict[str, Any]], rng: Random) -> Iterator[History]:
    """Histories of one chat each, with questions about the traits that are clearly revealed."""
    chats = list(given)
    known = Counter(word for chat in chats for t in chat["turns"] for word in words(t["text"]))
    total = sum(known.values())
    for chat in chats:
        people = dict(zip(chat["personas"], rng.sample(NAMES, 2), strict=True))
        history = History(chat["id"])
        for turn in chat["turns"]:
            history.say(people[turn["speaker"]], turn["text"])
        for speaker, traits in chat["personas"].items():
            said = [words(t["text"]) if t["speaker"] == speaker else set() for t in chat["turns"]]
            for trait in traits:
                place = _revealed(words(trait), said, known, total)
                if place is not None:
                    text = _question(trait, Person(people[speaker]), rng)
                    history.ask(text, [place], "trait", answer=trait)
        if history.questions:
            yield history


def words(text: str) -> set[str]:
    """Return the words of a text that are not common everywhere.

    >>> sorted(words("I love to bake cookies."))
    ['bake', 'cookies']
    """
    return set(WORD.findall(text.lower())) - COMMON


def _revealed(trait: set[str], said: list[set[str]], known: Counter[str], total: int) -> int | None:
    def weight(shared: set[str]) -> float:
        return sum(log(total / (1 + known[word])) for word in shared)

    scores = [weight(trait & each) for each in said]
    ranked = sorted(range(len(said)), key=lambda turn: -scores[turn])
    best, second = ranked[0], ranked[1]
    clear = scores[best] > 0.45 * weight(trait) and scores[best] > 1.3 * scores[second]
    return best if trait and clear else None


def _question(trait: str, who: Person, rng: Random) -> str:
    claim = trait.strip().rstrip(".").lower()
    match = re.match(r"i (\w+)(.*)", claim)
    templates = ASKED if match else ASKED[:5]
    if match:
        verb = match[1]
        claim = THIRD.get(verb, verb if verb.endswith("ed") else f"{verb}s") + match[2]
        claim = re.sub(r"\bmy\b", "their", claim)
    rare = [word for word in WORD.findall(trait.lower()) if word not in COMMON]
    topic = " ".join(rng.sample(rare, min(len(rare), rng.randint(1, 3)))) or "it"
    return who.question(rng.choice(templates), topic=topic, claim=claim)
