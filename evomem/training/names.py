"""The speakers of converted and generated histories, and their names in questions."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

NAMES = (
    "Ada Aisha Akira Alba Amir Anders Anya Arjun Astrid Bela Beth Boris Bruno Camille Carlos Cora "
    "Dalia Daniel Darius Deniz Dora Edgar Elif Elena Emil Esther Farid Felix Fiona Freya Gideon "
    "Grace Hana Harun Heidi Hugo Ines Ingrid Iris Ivan Jamal Jana Joel Jonas Judith Kai Karim "
    "Kenji Lara Leif Lena Leo Lina Luca Maeve Magnus Mara Marco Mei Mina Nadia Nina Noah Nora "
    "Olga Omar Oscar Paula Pavel Petra Priya Quentin Rafael Rania Rosa Ruben Sana Saul Selma "
    "Sofia Stefan Tara Tariq Theo Tilda Uma Vera Viktor Wanda Xenia Yara Yusuf Zara Zoe"
).split()


@dataclass(frozen=True, slots=True)
class Person:
    """A speaker. The user of an assistant asks about "I"; people in a chat are named."""

    name: str
    is_me: bool = False

    def question(self, template: str, **values: str) -> str:
        """Fill a template in the third person: `{S}` subject, `{O}` object, `{P}` possessive.

        >>> Person("Mei").question("Where does {S} live, and what is {P} job?")
        "Where does Mei live, and what is Mei's job?"
        >>> Person("User", is_me=True).question("Where does {S} live, and what is {P} job?")
        'Where do I live, and what is my job?'
        """
        if not self.is_me:
            return template.format(S=self.name, O=self.name, P=f"{self.name}'s", **values)
        for theirs, mine in ME:
            template = template.replace(theirs, mine)
        text = template.format(S="I", O="me", P="my", **values)
        return text[0].upper() + text[1:]


ME = (
    ("does {S}", "do {S}"),
    ("Does {S}", "Do {S}"),
    ("is {S}", "am {S}"),
    ("Is {S}", "Am {S}"),
    ("has {S}", "have {S}"),
    ("Has {S}", "Have {S}"),
    ("was {S}", "was {S}"),
)


def cast(rng: Random) -> tuple[Person, Person]:
    """Return the two speakers: user and assistant, or two people."""
    if rng.random() < 0.4:
        return Person("User", is_me=True), Person("Assistant")
    first, second = rng.sample(NAMES, 2)
    return Person(first), Person(second)
