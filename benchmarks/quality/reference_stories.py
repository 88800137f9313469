"""Short stories in a closed vocabulary whose follow-ups do not say who or what they are about.

"I bought a bicycle." "It cost forty dollars." "I ordered a lamp." "It cost forty dollars." Which of the two
equal turns answers "How much did the bicycle cost?" is known from the turns before them alone. A follow-up
is about what was named last.

One in five combinations of a name and a kind of fact occurs in held-out stories only.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from benchmarks.quality.memory import FILLERS, SPEAKERS
from benchmarks.quality.memory_cases import Case
from evomem.training.histories import History

PEOPLE = (*SPEAKERS, "Amir", "Bea", "Kenji", "Tara")
"""Who speaks; each turn's speaker is drawn."""
LARGEST = 3  # openings of a story
FILLED = 0.25  # share of places between turns with small talk
EQUAL = 0.5  # share of stories in which the shared fact is the same after every opening
HELD_OUT = 5  # one in so many combinations


@dataclass(frozen=True, slots=True)
class Fact:
    """A kind of fact: its values, its wordings (`{v}` is the value), and questions (`{n}` is the name)."""

    kind: str
    values: tuple[str, ...]
    told: tuple[str, ...]
    asked: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Topic:
    """Names that one pronoun stands for, the turns that name them, and the facts about them."""

    names: tuple[str, ...]
    named: tuple[str, ...]
    """Openings; `{n}` is the name."""
    suffix: str
    """What a follow-up that names its subject ends with."""
    facts: tuple[Fact, ...]

    def held_out(self, name: str, fact: Fact) -> bool:
        """Whether no training story has this combination."""
        return (self.names.index(name) + self.facts.index(fact)) % HELD_OUT == 0


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split("|"))


def _fact(kind: str, values: str, told: str, asked: str) -> Fact:
    return Fact(kind, _words(values), _words(told), _words(asked))


THINGS = Topic(
    _words(
        "bicycle|lamp|table|kettle|tent|guitar|sofa|piano|camera|ladder|mirror|carpet|clock|drill|kayak|"
        "radio|scooter|stove|telescope|toaster"
    ),
    _words(
        "I bought a {n}.|I ordered a {n}.|We got a {n} last week.|There was a {n} in the shop window."
    ),
    ", the {n}.",
    (
        _fact(
            "price",
            "thirty|forty|sixty|seventy|ninety",
            "It cost {v} dollars.|I paid {v} dollars for it.",
            "How much did the {n} cost?|What was the price of the {n}?",
        ),
        _fact(
            "colour",
            "red|green|blue|black|white",
            "It is {v}.|The colour of it is {v}.",
            "What colour is the {n}?|Which colour does the {n} have?",
        ),
        _fact(
            "arrival",
            "Monday|Tuesday|Wednesday|Friday|Sunday",
            "It comes on {v}.|They bring it on {v}.",
            "When does the {n} come?|On which day do they bring the {n}?",
        ),
        _fact(
            "place",
            "kitchen|garage|cellar|attic|hallway",
            "It goes into the {v}.|I put it in the {v}.",
            "Where is the {n}?|In which room is the {n}?",
        ),
    ),
)
_PERSONAL = (
    ("instrument", "cello|drums|oboe|ukulele|accordion", "{p} plays the {v}.|You can hear the {v} when {q} practises.", "Which instrument does {n} play?|What does {n} practise?"),
    ("job", "nurse|baker|florist|carpenter|translator", "{p} works as a {v}.|By trade {q} is a {v}.", "What does {n} do for a living?|What kind of work does {n} do?"),
    ("home", "Lyon|Graz|Leeds|Kyoto|Bergen", "{p} lives in {v}.|These days {q} is at home in {v}.", "Where does {n} live?|Which city does {n} call home?"),
    ("pet", "cat|dog|parrot|pony|rabbit", "{p} has a {v}.|At home {q} keeps a {v}.", "Which animal does {n} have?|What kind of pet does {n} keep?"),
)  # fmt: skip


def _person(names: str, subject: str) -> Topic:
    facts = tuple(
        _fact(kind, values, told.replace("{p}", subject).replace("{q}", subject.lower()), asked)
        for kind, values, told, asked in _PERSONAL
    )
    openings = "I met {n} today.|My friend {n} called me.|Our new neighbour is {n}.|{n} says hello."
    return Topic(_words(names), _words(openings), ", {n}.", facts)


TOPICS = (
    THINGS,
    _person(
        "Ada|Clara|Dora|Edith|Fiona|Greta|Helen|Julia|Karen|Laura|Maria|Nancy|Olga|Petra|Ruth",
        "She",
    ),
    _person(
        "Adam|Ben|Carl|David|Eric|Frank|George|Henry|Ian|Kurt|Leo|Martin|Oscar|Paul|Ralph", "He"
    ),
)


def reference_story(
    openings: int, rng: Random, name: str = "", *, naming: bool = False, held_out: bool = False
) -> History:
    """Tell a story of `openings` openings, each with follow-ups, and ask about each follow-up.

    One kind of fact follows every opening, in half of the stories as the same words; another kind follows
    some. Turns of small talk are anywhere.

    Args:
        openings: The number of things or people.
        rng: Draws everything.
        name: The story's name.
        naming: Whether follow-ups name what they are about, so that no turn needs those before it.
        held_out: Whether the fact that is asked for is held out with every name; the other kind is
            not asked for. Otherwise, no combination is held out.
    """
    story = History(name)
    topic = rng.choice((THINGS, THINGS, *TOPICS[1:]))
    shared, other = rng.sample(topic.facts, 2)
    candidates = [n for n in topic.names if topic.held_out(n, shared) == held_out]
    if not held_out:
        candidates = [n for n in candidates if not topic.held_out(n, other)]
    equal, wording = rng.random() < EQUAL, rng.choice(shared.told)
    values = rng.sample(shared.values, openings)

    def pause() -> None:
        if rng.random() < FILLED:
            story.say(rng.choice(PEOPLE), rng.choice(FILLERS))

    for value, noun in zip(values, rng.sample(candidates, openings), strict=True):
        pause()
        story.say(rng.choice(PEOPLE), rng.choice(topic.named).format(n=noun))
        told = [(shared, values[0] if equal else value)]
        if rng.random() < 0.5:
            told.insert(rng.randint(0, 1), (other, rng.choice(other.values)))
        for fact, said in told:
            pause()
            text = (wording if fact is shared else rng.choice(fact.told)).format(v=said)
            if naming:
                text = text[:-1] + topic.suffix.format(n=noun)
            turn = story.say(rng.choice(PEOPLE), text)
            if fact is shared or not held_out:
                question = rng.choice(fact.asked).format(n=noun)
                story.ask(question, [turn], fact.kind, answer=said)
    return story


def either_story(openings: int, rng: Random, name: str = "") -> History:
    """Tell a story whose follow-ups all name what they are about, or, as often, all do not."""
    return reference_story(openings, rng, name, naming=rng.random() < 0.5)


def held_out_case(rng: Random) -> Case:
    """Return two openings with a follow-up whose kind of fact is held out with either of the names."""
    topic = rng.choice((THINGS, THINGS, *TOPICS[1:]))
    fact = rng.choice(topic.facts)
    first, second = rng.sample([n for n in topic.names if topic.held_out(n, fact)], 2)
    opening, asked = rng.choice(topic.named), rng.choice(fact.asked)
    return Case(
        (opening.format(n=first), opening.format(n=second)),
        rng.choice(fact.told).format(v=rng.choice(fact.values)),
        (asked.format(n=first), asked.format(n=second)),
    )
