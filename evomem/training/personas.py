"""Chats of two people whose personas are known (Synthetic-Persona-Chat) as histories.

The data do not label the turn that reveals a trait; it is the speaker's turn that shares most of the
trait's rare words. Unclear matches are skipped.
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
from evomem.training.replies import ask_replies, ask_topics

WORD = re.compile(r"[a-z']+")
GROUPS = (1, 1, 1, 3, 5)  # chats of the same two people in one history
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
WH: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"my favou?rite (.+?) (?:is|are|was) ", ("What is {P} favorite {0}?", "{P} favorite {0}?")),
    (r"i (?:work|worked) ", ("Where does {S} work?", "What is {P} job?")),
    (r"i live ", ("Where does {S} live?", "What is {P} home like?")),
    (r"i (?:was born|grew up|was raised) ", ("Where did {S} grow up?", "Where is {S} from?")),
    (
        r"i have .*\b(dog|cat|horse|parrot|pet)s?\b",
        ("What pets does {S} have?", "Which animal lives with {O}?"),
    ),
    (
        r"i have \w+ (children|kids|sons|daughters|siblings|brothers|sisters)",
        ("How many {0} does {S} have?",),
    ),
    (
        r"i (?:like|love|enjoy) (?:to )?\w+",
        ("What does {S} like to do?", "What does {S} enjoy?", "What is one of {P} hobbies?"),
    ),
    (r"i (?:hate|dislike|do not like|don't like|can't stand) ", ("What does {S} dislike?",)),
    (
        r"i (?:want|hope|plan|would like|wish|dream) ",
        ("What does {S} want to do?", "What are {P} plans?"),
    ),
    (
        r"my (mother|mom|father|dad|wife|husband|brother|sister|parents|son|daughter|grandmother|grandfather|boyfriend|girlfriend|boss)\b",
        ("What do we know about {P} {0}?", "Who is {P} {0}?", "{P} {0}?"),
    ),
    (
        r"i (play|drive|teach|study|collect|own|drink|eat|speak|write|read|watch|ride|cook|grow|sell|make) ",
        ("What does {S} {0}?",),
    ),
    (r"i (?:am|'m) (?:a|an) \w+", ("What does {S} do for a living?", "Who is {S}?")),
    (r"i (?:am|'m) (?:allergic|afraid|scared)", ("What is {S} afraid of or allergic to?",)),
)
"""Questions that do not repeat the trait's words."""
THIRD = {"am": "is", "have": "has", "was": "was", "can": "can", "do": "does", "will": "will"}


def persona_chat(given: Iterable[dict[str, Any]], rng: Random) -> Iterator[History]:
    """Histories of one chat each, or of several chats of the same two people.

    Questions ask about clearly revealed traits, and repeat what the two asked each other.
    """
    chats = list(given)
    known = Counter(word for chat in chats for t in chat["turns"] for word in words(t["text"]))
    while chats:
        group = [chats.pop() for _ in range(min(len(chats), rng.choice(GROUPS)))]
        history = _history(group, known, rng)
        if history.questions:
            yield history


def _history(group: list[dict[str, Any]], known: Counter[str], rng: Random) -> History:
    people = dict(zip(group[0]["personas"], rng.sample(NAMES, 2), strict=True))
    history = History(group[0]["id"])
    turns = [turn for chat in group for turn in chat["turns"]]
    for turn in turns:
        history.say(people[turn["speaker"]], turn["text"])
    for speaker in people:
        spoken = [words(t["text"]) if t["speaker"] == speaker else set() for t in turns]
        for trait in (trait for chat in group for trait in chat["personas"][speaker]):
            place = _revealed(words(trait), spoken, known, known.total())
            if place is not None:
                text = _question(trait, Person(people[speaker]), rng)
                history.ask(text, [place], "trait", answer=trait)
    ask_replies(history, rng, (), limit=6 * len(group))
    ask_topics(history, rng, (), limit=len(group))
    return history


def words(text: str) -> set[str]:
    """Return the words of a text without common ones.

    >>> sorted(words("I love to bake cookies."))
    ['bake', 'cookies']
    """
    return set(WORD.findall(text.lower())) - COMMON


def _revealed(
    trait: set[str], spoken: list[set[str]], known: Counter[str], total: int
) -> int | None:
    def weight(shared: set[str]) -> float:
        return sum(log(total / (1 + known[word])) for word in shared)

    scores = [weight(trait & turn_words) for turn_words in spoken]
    ranked = sorted(range(len(spoken)), key=lambda turn: -scores[turn])
    best, second = ranked[0], ranked[1]
    clear = scores[best] > 0.45 * weight(trait) and scores[best] > 1.3 * scores[second]
    return best if trait and clear else None


def _question(trait: str, who: Person, rng: Random) -> str:
    claim = trait.strip().rstrip(".").lower()
    match = re.match(r"i (\w+)(.*)", claim)
    for pattern, wordings in WH:
        fits = re.match(pattern, claim)
        if fits and rng.random() < 0.6:
            return who.question(rng.choice(wordings).replace("{0}", "".join(fits.groups()[:1])))
    templates = ASKED if match else ASKED[:5]
    if match:
        verb = match[1]
        claim = THIRD.get(verb, verb if verb.endswith("ed") else f"{verb}s") + match[2]
        claim = re.sub(r"\bmy\b", "their", claim)
    rare = [word for word in WORD.findall(trait.lower()) if word not in COMMON]
    topic = " ".join(rng.sample(rare, min(len(rare), rng.randint(1, 3)))) or "it"
    return who.question(rng.choice(templates), topic=topic, claim=claim)
