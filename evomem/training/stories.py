"""Seeded life stories: facts that change, answers that need what was said before, small talk.

A user and an assistant, or two people, talk over days. Things in a life change (a home, a job, a
deadline); some turns only make sense after earlier ones ("the second one", "she hates it"). The
questions ask for the first, the current, an earlier or a later value, and, far more often, for
things where order plays no part although words of time are used.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from evomem.training.histories import History
from evomem.training.names import Person, cast
from evomem.training.story_facts import (
    DETAILS,
    EVENTS,
    PET_FACTS,
    PET_NAMES,
    PETS,
    SLOTS,
    SMALL_TALK,
    THINGS,
    TIMES,
    Slot,
)

NOW = ("", "", " now", " at the moment", " currently", " these days", " today")
FIRST = (
    "What was the first {noun} {S} told about?",
    "Originally, what was {P} {noun}?",
    "What {noun} did {S} mention first?",
    "What was {P} {noun} in the beginning?",
    "What was {P} initial {noun}, before any change?",
)
LATEST = (
    "What is the latest on {P} {noun}?",
    "What {noun} did {S} mention last?",
    "What is {P} most recent {noun}?",
    "Which {noun} is still true for {O}?",
)
BEFORE = (
    "What was {P} {noun} before {v}?",
    "Before {v}, what did {S} say about the {noun}?",
)
AFTER = (
    "What came after {v} as {P} {noun}?",
    "{P} {noun} was {v}; what did it become then?",
)
EVERY = ("Every {noun} {S} ever mentioned?", "How has {P} {noun} changed over time?")
Beat = Callable[[], None]


class Story:
    """A history under construction."""

    def __init__(self, name: str, rng: Random, changing: int, turns: int) -> None:
        """Generate the story.

        Args:
            name: The history's id.
            rng: The source of all random choices.
            changing: The number of things in the life that change.
            turns: The approximate length.
        """
        self.rng = rng
        self.history = History(name)
        self.people = cast(rng)
        self.mentions: dict[tuple[Person, str], list[tuple[int, str]]] = {}
        self.things = rng.sample(THINGS, len(THINGS))
        self.pets = list(
            zip(rng.sample(PETS, len(PETS)), rng.sample(PET_NAMES, len(PETS)), strict=True)
        )
        beats: list[tuple[float, Beat]] = []
        for slot in rng.sample(SLOTS, changing):
            who = self.people[0] if self.people[0].is_me else rng.choice(self.people)
            count = rng.choice([1, 2, 2, 2, 3, 3, 4])
            values = rng.sample(slot.values, min(count, len(slot.values)))
            places = sorted(rng.random() for _ in values)
            for place, value in zip(places, values, strict=True):
                beats.append((place, self._tell(who, slot, value)))
        for make in (self._event, self._choice, self._pet):
            beats += [(rng.random(), make) for _ in range(rng.randint(1, max(2, changing)))]
        spare = max(0, turns - 2 * len(beats))
        beats += [(rng.random(), self._small_talk) for _ in range(spare // 2)]
        for _, beat in sorted(beats, key=lambda pair: pair[0]):
            beat()
        for (who, noun), mentions in self.mentions.items():
            self._ask_changes(who, next(s for s in SLOTS if s.noun == noun), mentions)

    def _other(self, who: Person) -> Person:
        return self.people[1] if who == self.people[0] else self.people[0]

    def _tell(self, who: Person, slot: Slot, value: str) -> Beat:
        def beat() -> None:
            mentions = self.mentions.setdefault((who, slot.noun), [])
            told = slot.changed if mentions else slot.told
            text = self.rng.choice(told).format(v=value)
            if (
                not mentions and self.rng.random() < 0.25
            ):  # a short answer to a question that names the subject
                self.history.say(self._other(who).name, slot.hint)
                text = value[0].upper() + value[1:] + "."
            if self.rng.random() < 0.3:
                text += " " + self.rng.choice(DETAILS)
            if self.rng.random() < 0.2:
                text = self.rng.choice(SMALL_TALK) + " " + text
            mentions.append((self.history.say(who.name, text), value))
            if self.rng.random() < 0.5:
                self.history.say(self._other(who).name, f"{value[0].upper()}{value[1:]}, nice!")

        return beat

    def _ask_changes(self, who: Person, slot: Slot, mentions: list[tuple[int, str]]) -> None:
        turns = [turn for turn, _ in mentions]

        def ask(templates: tuple[str, ...], turn: list[int], kind: str, **more: str) -> None:
            text = who.question(self.rng.choice(templates), noun=slot.noun, **more)
            answer = ", ".join(value for place, value in mentions if place in turn)
            self.history.ask(text, turn, kind, turns, answer)

        now = self.rng.choice(NOW)
        changes = len(turns) > 1
        if changes or self.rng.random() < 0.7:
            ask(slot.asked, turns[-1:], "latest" if changes else "only", now=now)
        if not changes:
            if self.rng.random() < 0.3:
                ask(self.rng.choice([FIRST, LATEST]), turns, "only")
            return
        self.history.threads.append(tuple(turns))
        ask(FIRST, turns[:1], "first")
        ask(LATEST, turns[-1:], "latest")
        spot = self.rng.randrange(1, len(turns))
        ask(BEFORE, turns[spot - 1 : spot], "before", v=mentions[spot][1])
        ask(AFTER, turns[spot : spot + 1], "after", v=mentions[spot - 1][1])
        ask(EVERY, turns, "every")

    def _event(self) -> None:
        who = self.rng.choice(self.people)
        if who.name == "Assistant":
            who = self.people[0]
        past, plain, values = self.rng.choice(EVENTS)
        thing, when = self.rng.choice(values.split("|")), self.rng.choice(TIMES)
        detail = self.rng.choice(DETAILS)
        turn = self.history.say(who.name, f"I {past.format(x=thing)} {when}. {detail}")
        plain, thing = plain.format(x=thing), thing.removeprefix("my ")
        question = self.rng.choice(
            [
                f"When did {{S}} {plain}?",
                f"How was it when {{S}} did this: {plain}?",
                f"What happened {when} with {thing}?",
                f"Did {{S}} {plain} {when}?",
                f"What did {{S}} say about {thing}?",
            ]
        )
        self.history.ask(who.question(question), [turn], "event")
        if self.rng.random() < 0.5:
            self.history.say(self._other(who).name, self.rng.choice(SMALL_TALK))

    def _choice(self) -> None:
        if not self.things:
            return
        who = self.people[0]
        thing, values = self.things.pop()
        first, second = self.rng.sample(values.split("|"), 2)
        offer = self.history.say(self._other(who).name, f"For the {thing}: {first} or {second}?")
        reply, chosen = self.rng.choice(
            [
                ("The first one, please.", first),
                ("I'd go for the second.", second),
                ("Hmm, the latter.", second),
                ("The former!", first),
            ]
        )
        turn = self.history.say(who.name, reply)
        question = self.rng.choice(
            [f"Which {thing} did {{S}} choose?", f"What did {{S}} decide about the {thing}?"]
        )
        self.history.ask(who.question(question), [offer, turn], "choice", answer=chosen)

    def _pet(self) -> None:
        if not self.pets:
            return
        who = self.people[0]
        pet, name = self.pets.pop()
        intro = self.history.say(who.name, f"My {pet} is called {name}.")
        named = who.question(f"What is the name of {{P}} {pet}?")
        self.history.ask(named, [intro], "event", answer=name)
        self.history.say(self._other(who).name, self.rng.choice(["Cute!", "Lovely name.", "Aww."]))
        verb, plain, values = self.rng.choice(PET_FACTS)
        value = self.rng.choice(values.split("|"))
        turn = self.history.say(
            who.name, f"{self.rng.choice(['She', 'He'])} {verb.format(v=value)}."
        )
        question = {"turn": "How old did {0} turn?", "sleep": "Where does {0} sleep?"}.get(
            plain, f"What does {{0}} {plain}?"
        )
        self.history.ask(question.format(name), [turn], "reference", answer=value)

    def _small_talk(self) -> None:
        first, second = self.rng.sample(self.people, 2)
        self.history.say(first.name, self.rng.choice(SMALL_TALK))
        self.history.say(second.name, self.rng.choice(SMALL_TALK))


def stories(count: int, turns: int, seed: int) -> list[History]:
    """Generate `count` stories of about `turns` turns; the same seed gives the same stories.

    >>> [one] = stories(1, 40, seed=7)
    >>> one.turns == stories(1, 40, seed=7)[0].turns
    True
    """
    result = []
    for number in range(count):
        rng = Random(f"{seed} story {number}")
        changing = rng.randint(3, max(3, min(len(SLOTS), turns // 12)))
        result.append(Story(f"story-{seed}-{number}", rng, changing, turns).history)
    return result
