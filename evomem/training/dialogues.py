"""Task dialogues with a tracked state (SGD, MultiWOZ) as histories in which values change.

Several dialogues of one person follow each other, some about the same service, so that the same
slot is filled repeatedly: it is known which of its values comes first, last, before or after another,
and every other mention is a hard negative.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from random import Random
from typing import Any

from evomem.training.histories import History
from evomem.training.names import Person, cast
from evomem.training.replies import ask_replies

Stream = dict[str, Any]
Change = tuple[int, str, str, str, bool]
"""Turn, subject, slot, new value, and whether the turn names the value or accepts an offer."""
SKIPPED = {"True", "False", "dontcare", "yes", "no", "none", ""}
FIRST = [
    "What {slot} did {S} give first for {what}?",
    "Which {slot} did {S} originally want for {what}?",
    "What was the first {slot} {S} mentioned for {what}?",
    "At the beginning, what {slot} did {S} ask for ({what})?",
]
LATEST = [
    "What {slot} does {S} want now for {what}?",
    "Which {slot} did {S} give last for {what}?",
    "What is {P} latest {slot} for {what}?",
    "What {slot} did {S} most recently ask for ({what})?",
]
BEFORE = [
    "Which {slot} did {S} want for {what} before {value}?",
    "What was the {slot} for {what} before it became {value}?",
]
AFTER = [
    "After {value}, which {slot} did {S} ask for ({what})?",
    "{P} {slot} for {what} was {value}; what came next?",
]
VALUE = [
    "When did {S} ask for {value} as the {slot} for {what}?",
    "Did {S} mention {value} for {what}?",
    "Where does {S} speak of {value}?",
    "{what}, {slot} {value}",
]
EVERY = [
    "Which {slot}s has {S} mentioned for {what}?",
    "List every {slot} {S} gave for {what}.",
]


def sgd(given: Iterable[Stream], rng: Random) -> Iterator[History]:
    """Histories of four dialogues of SGD; two or more share a service where possible."""
    yield from _histories(given, _sgd_changes, lambda stream: stream["services"][0], rng)


def multiwoz(given: Iterable[Stream], rng: Random) -> Iterator[History]:
    """Histories of four dialogues of MultiWOZ."""
    yield from _histories(given, _multiwoz_changes, lambda stream: "", rng)


def _histories(given: Iterable[Stream], changes: Any, key: Any, rng: Random) -> Iterator[History]:
    shelves: dict[str, list[Stream]] = defaultdict(list)
    for stream in given:
        shelves[key(stream)].append(stream)
    while shelves:
        names = list(shelves)
        main, other = rng.choice(names), rng.choice(names)
        chosen = [
            shelves[name].pop()
            for name in (main, other, main, main)
            if name in shelves and shelves[name]
        ]
        for name in {main, other}:
            if not shelves[name]:
                del shelves[name]
        if len(chosen) > 1:
            yield _history(chosen, changes, rng)


def _history(dialogues: list[Stream], changes: Any, rng: Random) -> History:
    history = History(dialogues[0]["id"])
    user, helper = cast(rng)
    seen: dict[tuple[str, str], list[tuple[list[int], str]]] = defaultdict(list)
    for dialogue in dialogues:
        start = len(history.turns)
        for turn in dialogue["turns"]:
            history.say((user if turn["speaker"] == "user" else helper).name, _plain(turn["text"]))
        for place, what, slot, value, spoken in changes(dialogue["turns"]):
            shown = spoken or not place or value.lower() in history.turns[start + place].lower()
            # An accepted offer: the previous turn contains the value, so both turns are evidence.
            evidence = [start + place] if shown else [start + place - 1, start + place]
            mentions = seen[what, slot]
            if not mentions or mentions[-1][1].lower() != value.lower():
                mentions.append((evidence, value))
    for (what, slot), mentions in seen.items():
        _ask(history, user, what, slot, mentions, rng)
    history.questions = rng.sample(history.questions, min(14, len(history.questions)))
    ask_replies(history, rng, (user, helper), limit=3)
    return history


def _ask(
    history: History,
    user: Person,
    what: str,
    slot: str,
    mentions: list[tuple[list[int], str]],
    rng: Random,
) -> None:
    thread = sorted({turn for evidence, _ in mentions for turn in evidence})

    def ask(templates: list[str], evidence: list[int], kind: str, value: str = "") -> None:
        values = {"slot": slot, "what": what, "value": value}
        history.ask(user.question(rng.choice(templates), **values), evidence, kind, thread)

    place, value = rng.choice(mentions)
    ask(VALUE, place, "value", value)
    if len(mentions) == 1:
        if rng.random() < 0.5:  # the same wording if the value never changed
            ask(rng.choice([FIRST, LATEST]), mentions[0][0], "only")
        return
    history.threads.append(tuple(evidence[-1] for evidence, _ in mentions))
    ask(FIRST, mentions[0][0], "first")
    ask(LATEST, mentions[-1][0], "latest")
    spot = rng.randrange(1, len(mentions))
    ask(BEFORE, mentions[spot - 1][0], "before", mentions[spot][1])
    ask(AFTER, mentions[spot][0], "after", mentions[spot - 1][1])
    if len(mentions) <= 6:
        ask(EVERY, thread, "every")


def _sgd_changes(turns: list[dict[str, Any]]) -> Iterator[Change]:
    for place, turn in enumerate(turns):
        for frame in turn["frames"]:
            informed = {act[1] for act in frame["acts"] if act[0] == "INFORM"}
            what = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", frame["service"].split("_")[0]).lower()
            for slot, values in frame.get("state_delta", {}).items():
                if values[0] not in SKIPPED:
                    name = slot.replace("_", " ")
                    yield place, f"the {what.rstrip('s')}", name, values[0], slot in informed


def _multiwoz_changes(turns: list[dict[str, Any]]) -> Iterator[Change]:
    for place, turn in enumerate(turns):
        for name, value in turn.get("state_delta", {}).items():
            what, _, slot = name.partition("-")
            if value not in SKIPPED and place:
                values = {v for acts in turns[place - 1]["acts"].values() for _, v in acts}
                yield place - 1, f"the {what}", slot.replace("book ", ""), value, value in values


def _plain(text: str) -> str:
    return re.sub(r" (?=[.,?!:;]|n't|'s|'m|'re|'ve|'ll|'d)", "", text)
