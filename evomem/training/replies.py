"""Questions that people ask each other inside a conversation, asked about it afterwards.

"Mei: What do you do for a living?" and Omar's answer, "I bake bread.", give the question "What does
Omar do for a living?" with his answer as evidence. The wordings are authentic; often the answer
can be recognised only by the turn before it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from random import Random

from evomem.training.histories import History
from evomem.training.names import Person

SENTENCE = re.compile(r"[^.!?]+[.!?]+|[^.!?]+$")
WORD = re.compile(r"[A-Za-z][A-Za-z'-]+")
VERBS = "do did are were have will would can could should"
ASKS = re.compile(rf"\b(?:{VERBS.replace(' ', '|')}) you\b|\byour\b", re.IGNORECASE)
VAGUE = re.compile(  # words that are unclear without context, or refer to the person who asks
    r"\b(?:I|me|my|we|us|our|it|that|this|those|these|they|them|he|she|him|her|there|one|else|"
    r"know|mean|think|sure|ready|doing today|how are you|right|okay|ok|kidding)\b",
    re.IGNORECASE,
)
GREETING = re.compile(r"^(?:(?:so|and|but|well|oh|hi|hello|hey|wow|sorry|of course)\b[, ]*)+", re.I)
CONTRACTED = ((r"\byou're\b", "you are"), (r"\byou've\b", "you have"), (r"\byou'd\b", "you would"))
THIRD = {"do you": "does {S}", "are you": "is {S}", "were you": "was {S}", "have you": "has {S}"}
EMPTY = frozenset(
    "so and well what what's which where who how when is are do does did have has will would can "
    "could should like to of for the an any some kind sort type".split()
)
LENGTH = range(4, 21)  # words per question; others are skipped
ABOUT = (
    "What did {S} say about {topic}?",
    "When did {S} mention {topic}?",
    "{S}, {topic}",
    "Did {S} talk about {topic}?",
    "What does {S} tell about {topic}?",
)


def ask_replies(history: History, rng: Random, people: Sequence[Person], limit: int) -> None:
    """Add at most `limit` questions whose evidence is a reply.

    Args:
        history: The history to extend.
        rng: Draws the questions.
        people: Speakers by the names in the turns; questions call others by these names.
        limit: Maximum number of questions.
    """
    known = {person.name: person for person in people}
    candidates = []
    for place, (asker, text) in enumerate(map(_split, history.turns[:-1])):
        speaker, reply = _split(history.turns[place + 1])
        if speaker == asker or len(WORD.findall(reply)) < 2 or reply.rstrip().endswith("?"):
            continue
        asked = third_person(_last_sentence(text), known.get(speaker, Person(speaker)))
        if asked:
            candidates.append((place + 1, asked))
    often = Counter(_gist(asked) for _, asked in candidates)
    once = [(place, asked) for place, asked in candidates if often[_gist(asked)] == 1]
    for place, asked in rng.sample(once, min(limit, len(once))):
        history.ask(asked, [place], "reply")


def third_person(question: str, who: Person) -> str | None:
    """Turn a question to `who` into one about `who`; None if it would be unclear without its context.

    >>> third_person("So what do you do for a living?", Person("Omar"))
    'What does Omar do for a living?'
    >>> third_person("Where is your brother now?", Person("User", is_me=True))
    'Where is my brother now?'
    >>> third_person("Did you like it?", Person("Omar")) is None
    True
    """
    text = GREETING.sub("", " ".join(question.split()))
    if not text.endswith("?") or len(text.split()) not in LENGTH or "{" in text:
        return None
    if VAGUE.search(text) or not ASKS.search(text):
        return None
    for short, full in CONTRACTED:
        text = re.sub(short, full, text, flags=re.IGNORECASE)
    for verb in VERBS.split():
        pair = f"{verb} you"
        text = re.sub(rf"\b{pair}\b", THIRD.get(pair, f"{verb} {{S}}"), text, flags=re.IGNORECASE)
    text = re.sub(r"\byou are\b", "{S} is", text, flags=re.IGNORECASE)
    text = re.sub(r"\byours\b|\byour\b", "{P}", text, flags=re.IGNORECASE)
    text = re.sub(r"\byourself\b|\byou\b", "{O}", text, flags=re.IGNORECASE)
    asked = who.question(text)
    return asked[0].upper() + asked[1:]


def ask_topics(history: History, rng: Random, people: Sequence[Person], limit: int) -> None:
    """Add at most `limit` questions about words that occur in only one turn of the history."""
    known = {person.name: person for person in people}
    spoken = [_split(turn) for turn in history.turns]
    words = [[word for word in WORD.findall(text) if len(word) > 3] for _, text in spoken]
    often = Counter(word.lower() for turn_words in words for word in set(turn_words))
    rare = [[word for word in turn_words if often[word.lower()] == 1] for turn_words in words]
    places = [
        place
        for place, turn_words in enumerate(rare)
        if len(turn_words) >= 3 and len(words[place]) >= 6
    ]
    for place in rng.sample(places, min(limit, len(places))):
        chosen = set(rng.sample(range(len(rare[place])), rng.choice([2, 2, 3])))
        topic = " ".join(word for at, word in enumerate(rare[place]) if at in chosen)
        who = known.get(spoken[place][0], Person(spoken[place][0]))
        history.ask(who.question(rng.choice(ABOUT), topic=topic), [place], "topic")


def _last_sentence(text: str) -> str:
    sentences = SENTENCE.findall(text)
    return sentences[-1] if sentences else ""


def _gist(question: str) -> frozenset[str]:
    """Return a key that similar wordings of the same question share."""
    return frozenset(word.lower() for word in WORD.findall(question)) - EMPTY


def _split(turn: str) -> tuple[str, str]:
    speaker, _, text = turn.partition(": ")
    return speaker, text
