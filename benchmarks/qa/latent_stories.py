"""Short stories in a closed vocabulary, for a language model that is small enough to train on a CPU.

Two people tell facts about their lives, each fact one word: a home, a job, a partner. Nothing changes and
nothing is told twice. The wording is that of the stories of `evomem.training.stories`.
"""

from __future__ import annotations

from random import Random

from evomem.training.histories import History
from evomem.training.names import NAMES, Person
from evomem.training.story_facts import SLOTS

PEOPLE = NAMES[::4]
KINDS = ("home", "job", "favourite food", "sport", "partner", "book")
WORDS = {
    slot: [value for value in slot.values if " " not in value]
    for slot in SLOTS
    if slot.noun in KINDS
}
"""Kinds of facts, and their values of one word."""


def short_story(turns: int, rng: Random, name: str = "") -> History:
    """Tell a story of `turns` turns, with a question about each of them that one word answers."""
    story = History(name)
    people = rng.sample(PEOPLE, 2)
    facts = rng.sample([(person, slot) for person in people for slot in WORDS], turns)
    for person, slot in facts:
        value = rng.choice(WORDS[slot])
        turn = story.say(person, rng.choice(slot.told).format(v=value))
        text = Person(person).question(rng.choice(slot.asked), now="")
        story.ask(text, [turn], slot.noun, answer=value)
    return story
