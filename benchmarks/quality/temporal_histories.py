"""Histories for `temporal`: mentions of one topic at known positions, among turns about other things.

The sentences do not mention time, and the order of the values is random, so a text alone does not reveal
its position. No sentence is shared with the generated stories that encoders are trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from evomem import Turn

MENTIONS = 16
QUERIES = {
    "first": "Which {topic} did I mention first of all, at the very beginning?",
    "middle": "Which {topic} did I mention in the middle of our talks?",
    "last": "Which {topic} did I mention last, most recently?",
}
_TOPICS = {
    "novel": "Our reading circle discusses {v}.|{v} lies on my bedside table.|My sister lent me {v}.",
    "film": "The cinema on the square shows {v}.|We watched {v} with popcorn.|{v} made my aunt cry.",
    "board game": "We unpacked {v} and learned the rules.|{v} kept us at the table for hours.|Someone brought {v} to the party.",
    "song": "The choir rehearses {v}.|{v} is stuck in my head.|The busker at the station played {v}.",
    "exhibition": "The gallery hosts {v}.|I walked through {v} with a sketchbook.|Tickets for {v} cost eleven euros.",
    "podcast": "I listened to {v} on the tram.|{v} talked about lighthouses.|My colleague recommends {v}.",
    "hiking trail": "We hiked {v} with two dogs.|{v} has a wooden bridge.|The map shows {v} in green.",
    "café": "I wrote letters at {v}.|{v} bakes its own bread.|We met at {v} under the awning.",
}
_ADJECTIVES = "Amber|Crooked|Silent|Painted|Hollow|Winter|Copper|Velvet|Salt|Narrow|Borrowed|Northern|Paper|Sleeping|Violet|Stony"
_NOUNS = "Orchard|Harbour|Compass|Lantern|Feather|Meadow|Clock|Ladder|Island|Mirror|Bridge|Garden|Kettle|Sparrow|Letter|Window"
_SUBJECTS = "My neighbour|The plumber|A cousin of mine|The dentist|Our landlady|A man on the bus|My old teacher|The vet|The baker|A colleague"
_VERBS = "talked about|asked me about|complained about|laughed about|wrote to me about|sent pictures of|worries about|dreams of"
_OBJECTS = "the leaking roof|a pair of skis|the price of onions|her vegetable patch|a broken bicycle|the new timetable|a lost umbrella|his tax form|the noise upstairs|a wasp nest|two stray kittens|the parking permit|a recipe for plum jam|the choir's concert hall|a crack in the wall|the school fair"
_REPLIES = "I see.|That sounds like a lot.|Thanks for telling me.|How did you react?|Interesting!|What happened then?"


@dataclass(frozen=True, slots=True)
class History:
    """One history and its questions."""

    turns: tuple[Turn, ...]
    mentions: tuple[int, ...]
    """The indices of the turns about the topic, ascending, spread evenly over the history."""
    queries: dict[str, str]
    """`first`, `middle`, `last` → the question."""


def make_histories(count: int, turns: int, seed: int) -> list[History]:
    """Return `count` histories of `turns` turns; `turns` must be at least twice `MENTIONS`."""
    return [_make_history(turns, Random(f"temporal {seed} {number}")) for number in range(count)]


def _make_history(turns: int, rng: Random) -> History:
    topic = rng.choice(list(_TOPICS))
    width = turns // MENTIONS
    places = [window * width + rng.randrange(width) for window in range(MENTIONS)]
    nouns = rng.sample(_NOUNS.split("|"), MENTIONS)
    values = [f"The {_choose(_ADJECTIVES, rng)} {noun}" for noun in nouns]
    texts = {
        place: Turn(user=_choose(_TOPICS[topic], rng).format(v=value))
        for place, value in zip(places, values, strict=True)
    }
    return History(
        tuple(texts.get(place) or filler(rng) for place in range(turns)),
        tuple(places),
        {kind: query.format(topic=topic) for kind, query in QUERIES.items()},
    )


def filler(rng: Random) -> Turn:
    """Return a turn about something else."""
    if rng.random() < 0.3:
        return Turn(assistant=_choose(_REPLIES, rng))
    parts: Sequence[str] = [_choose(words, rng) for words in (_SUBJECTS, _VERBS, _OBJECTS)]
    return Turn(user=f"{' '.join(parts)}.")


def _choose(words: str, rng: Random) -> str:
    return rng.choice(words.split("|"))
