"""Training `evomem.search.stating`: `python -m evomem.training.stating --out FILE`.

Histories are made of topics: states of a person's life or work with ways of telling a value, a new
value, an old one, values of others, and remarks about the same thing. Each history holds several
topics in random order among other talk. For every question about them the best turns are scored by
cosine and BM25 as a search does, and the model learns which of them state the asked-for value of the
person who asks, and above all the newest (or the oldest, if that is what the question asks for).
Everything is drawn from one seed.
"""

from __future__ import annotations

import argparse
import json
import lzma
import math
import re
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evomem.mini import load as load_mini
from evomem.records import Turn
from evomem.search.ranking import WEIGHTS
from evomem.search.stating import (
    FILE,
    READS,
    SHARPNESS,
    USUAL,
    agreements,
    kinds_in,
    plain_features,
)
from evomem.state import State, Vectors
from evomem.training.story_facts import SMALL_TALK

TOPICS = Path(__file__).with_name("topics.jsonl.xz")
K = 32  # candidates of a question
TURNS = 80  # of a history, at least
EACH = 6  # topics of a history
T = TypeVar("T")
PLANS_EACH = 2  # things that are planned and then cancelled
VALUES = {"first": (0, 2, 3), "changed": (0, 2, 3), "recalled": (0, 2), "others": (0, 2)}
"""With which values each template is used, from its own number on: all would be slow to embed."""

NOW = ("now", "currently", "today", "right now", "nowadays", "at present")
LATEST = (
    "What is my latest {noun}?",
    "What is my most recent {noun}?",
    "What's my current {noun}?",
    "What was the last {noun} I told you?",
)
FIRST = (
    "{was} at first?",
    "What was my first {noun}?",
    "{was} at the very beginning?",
    "{was} in the beginning?",
    "What was my original {noun}?",
    "{was} to begin with?",
)
BEFORE = (
    "{was} before {v}?",
    "What was my {noun} before it was {v}?",
    "{was} before it was {v}?",
    "What was my previous {noun}?",
)
REPLIES = ("", "", "", "Okay, noted.", "Thanks for telling me!", "I will remember that.")
WHO = ("My cousin", "A colleague of mine", "My neighbour", "An old friend")
PLANS = (
    "the beekeeping workshop|the blood donation on Monday|the train to Lyon|the hot-air balloon ride"
    "|the parents' evening|the vegetable box|the guided tour of the harbour|the first-aid course"
    "|the cabin for Easter|the charity run|the piano tuner on Wednesday|the chess magazine"
    "|the escape room with Ben|the guest room for June|the pottery course on Tuesdays"
    "|the ferry to Harwich|the newspaper subscription|the table at Luigi's for Friday"
    "|the sailing lessons|the allotment garden|the hike in the Harz"
).split("|")
BEGUN = (
    "I said I'd come to {v}.|Count me in for {v}.|The deposit for {v} is paid.|I'm down for {v}."
    "|We reserved {v}.|I signed up for {v}.|I booked {v}.|I registered for {v}.|We agreed to {v}."
    "|I said yes to {v}."
).split("|")
CANCELLED = (
    "I pulled out of {v}.|{v} fell through.|We're not doing {v} after all.|They scrapped {v}."
    "|I had to give up {v}.|I cancelled {v}.|{v} is off, I called it off today.|{v} was cancelled."
    "|I no longer want {v}.|I withdrew from {v}."
).split("|")
HOLDS = (
    "Is {v} still planned?|Am I taking part in {v}?|Is {v} in my calendar?|Do we have {v} coming up?"
    "|Am I signed up for {v}?|Do I have {v}?|Is {v} on?|Will {v} take place?|Is {v} happening?"
    "|Am I still in for {v}?"
).split("|")


@dataclass(frozen=True, slots=True)
class Topic:
    """Something of which one value holds at a time; `{v}` in texts is the value."""

    noun: str
    values: list[str]
    first: list[str]
    """Ways of telling a value as it is."""
    changed: list[str]
    """Ways of telling a new value, direct and indirect ones."""
    recalled: list[str]
    """Ways of speaking of a value that holds no longer."""
    asked: list[str]
    """Questions for the value that holds, without a word for time."""
    was: list[str]
    """Questions for an earlier value, without their end."""
    remarks: list[str]
    """What is said about the topic without its value."""
    others: list[str]
    """Statements with a value that is not the one asked for: of other people, wishes, visits."""

    def filled(self, field: str) -> list[tuple[str, str]]:
        """Return (text, value) for each template of a field, with some of the values."""
        values = self.values[:6]
        pairs = [
            (_fill(template, value), value)
            for number, template in enumerate(getattr(self, field))
            for value in (values[(number + step) % len(values)] for step in VALUES[field])
        ]
        return list(dict.fromkeys(pairs))

    def quoted(self) -> list[tuple[str, str]]:
        """Return (text, value): somebody else tells theirs in the words of the topic."""
        pairs = [*self.filled("first"), *self.filled("changed")][::5]
        return [(f"{WHO[n % 4]} said: “{text}”", value) for n, (text, value) in enumerate(pairs)]


def load_topics(file: Path = TOPICS) -> list[Topic]:
    """Read topics, one JSON object a line."""
    with lzma.open(file, "rt", encoding="utf-8") as lines:
        return [Topic(**json.loads(line)) for line in lines]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question about one thread of a history."""

    text: str
    wish: int
    """1 for the newest value, -1 for the oldest, 0 for the one before."""
    thread: int


@dataclass(frozen=True, slots=True)
class Told:
    """One history: texts, of which thread each states a value (-1 for none), and questions."""

    texts: list[str]
    states: npt.NDArray[np.int64]
    asked: list[Asked]


def tell(topics: Sequence[Topic], talk: Sequence[str], rng: Random) -> Told:
    """Make a history of some topics among other talk."""
    threads: list[list[tuple[str, bool]]] = []
    asked: list[Asked] = []
    for number, topic in enumerate(rng.sample(topics, EACH)):
        mentions, values = _mentions(topic, rng)
        threads.append(mentions)
        asked += [Asked(text, wish, number) for text, wish in _questions(topic, values, rng)]
    for plan in rng.sample(PLANS, PLANS_EACH):
        asked.append(Asked(_fill(rng.choice(HOLDS), plan), 1, len(threads)))
        threads.append([(_fill(rng.choice(words), plan), True) for words in (BEGUN, CANCELLED)])
    owners = [number for number, mentions in enumerate(threads) for _ in mentions]
    rng.shuffle(owners)
    count = max(TURNS, len(owners) + 10)
    texts = rng.choices(talk, k=count)
    states = np.full(count, -1)
    waiting = [iter(mentions) for mentions in threads]
    for place, owner in zip(sorted(rng.sample(range(count), len(owners))), owners, strict=True):
        texts[place], is_own = next(waiting[owner])
        if is_own:
            states[place] = owner
    return Told(texts, states, asked)


def _mentions(topic: Topic, rng: Random) -> tuple[list[tuple[str, bool]], list[str]]:
    """Return what is said about a topic in order, True for its own values, and these values."""
    is_single = rng.random() < 0.25
    values = rng.sample(topic.values[:6], 1 if is_single else rng.choice((2, 2, 3, 4)))
    first, changed = topic.filled("first"), topic.filled("changed")
    own: list[str] = []
    for number, value in enumerate(values):
        usual = first if rng.random() < (0.15 if number else 0.85) else changed
        ways = [t for t, v in usual if v == value] or [
            t for t, v in [*first, *changed] if v == value
        ]
        own.append(rng.choice([text for text in ways if text not in own] or ways))
    mentions = [(text, True) for text in own]
    old = [text for text, value in topic.filled("recalled") if value in values[-2:-1]]
    if old and rng.random() < 0.6:
        mentions.append((rng.choice(old), False))
    spare = [text for text, value in topic.quoted() if value not in values]
    if spare and rng.random() < 0.4:
        _insert(mentions, rng.choice(spare), rng)
    for text, _ in _some(topic.filled("others"), rng.choice((0, 1, 1, 2)), rng):
        _insert(mentions, text, rng)
    for text in _some(topic.remarks, rng.choice((1, 2, 3, 6) if is_single else (1, 1, 2, 3)), rng):
        _insert(mentions, text, rng)
    if rng.random() < 0.06:  # the value is never told
        mentions = [(text, False) for text, is_own in mentions if not is_own]
    return mentions, values


def _some(items: Sequence[T], count: int, rng: Random) -> list[T]:
    return rng.sample(items, min(count, len(items)))


def _insert(mentions: list[tuple[str, bool]], text: str, rng: Random) -> None:
    mentions.insert(rng.randint(0, len(mentions)), (text, False))


def _questions(topic: Topic, values: Sequence[str], rng: Random) -> list[tuple[str, int]]:
    """Return questions and their wishes."""
    now = rng.choice(topic.asked)
    present = [
        rng.choice(topic.asked),
        f"{now.rstrip('?')} {_pick(NOW, now)}?",
        rng.choice(LATEST).format(noun=topic.noun),
    ]
    if len(values) == 1:
        return [(text, 1) for text in present]
    first, last = rng.choice(FIRST), values[-1]
    past = [(first, -1, first), (_pick(BEFORE, last), 0, last)]
    return [(text, 1) for text in present] + [
        (text.format(was=_pick(topic.was, key), noun=topic.noun, v=last), wish)
        for text, wish, key in past
    ]


def _pick(choices: Sequence[str], key: str) -> str:
    """Return one of the choices, always the same for a key: fewer questions have to be embedded."""
    return choices[zlib.crc32(key.encode()) % len(choices)]


def _fill(template: str, value: str) -> str:
    text = template.replace("{v}", value)
    return text[0].upper() + text[1:]


# examples -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Examples:
    """Questions with their best candidates; N questions, `K` candidates each."""

    query: Tensor
    """(N, D)."""
    table: Tensor
    """(V, D) vectors of all turns."""
    turns: Tensor
    """(N, K) rows of `table`."""
    plain: Tensor
    """(N, K, 6), `plain_features`."""
    agree: Tensor
    """(2, N, K, K), `agreements`."""
    states: Tensor
    """(N, K) whether a candidate states the asked-for value."""
    time: Tensor
    """(N, K) when it was said."""
    wish: Tensor
    """(N,), `Asked.wish`."""


def embedded(histories: Sequence[Told]) -> dict[str, Vectors]:
    """Embed every turn and every question of histories once, by the bundled encoder without memory.

    In 16 bits, which is much faster on some processors. A text is a turn or a question, never both.
    """
    encoder = load_mini(turns=0, dtype="bfloat16")
    nothing: State[Turn] = State.empty(encoder.spec)
    turns = sorted({text for told in histories for text in told.texts})
    queries = sorted({asked.text for told in histories for asked in told.asked})
    # Some turns have a reply, always the same one.
    readings = encoder.read(
        nothing, [Turn(user=text, assistant=_pick(REPLIES, text)) for text in turns]
    )
    vectors = {text: reading.embedding for text, reading in zip(turns, readings, strict=True)}
    return vectors | dict(zip(queries, encoder.embed_queries(nothing, queries), strict=True))


def examples(histories: Sequence[Told], vectors: Mapping[str, Vectors]) -> Examples:
    """Score the turns of histories for their questions, and keep the `K` best of each."""
    places = {text: place for place, text in enumerate(vectors)}
    table = np.stack(list(vectors.values()))
    rows: list[tuple[npt.NDArray[Any], ...]] = []
    for told in histories:
        turns = np.array([places[text] for text in told.texts])
        words = [re.findall(r"\w+", text.lower()) for text in told.texts]
        has = kinds_in(told.texts)
        agree = agreements(told.texts, has)
        for asked in told.asked:
            query = vectors[asked.text]
            cosines = (table[turns] @ query).astype(np.float64)
            near = cosines / max(float(cosines.max()), 1e-6)
            shared = _shared_words(asked.text, words)
            best = np.argsort(-(near + WEIGHTS["lexical"] * shared), kind="stable")[:K]
            plain = plain_features(has[best], near[best], shared[best])
            common = agree[:, best][:, :, best].astype(np.float16)
            states = told.states[best] == asked.thread
            rows.append((query, turns[best], plain, common, states, best, np.array(asked.wish)))
    query, turns, plain, common, states, time, wish = map(np.stack, zip(*rows, strict=True))

    def real(array: npt.NDArray[Any]) -> Tensor:
        return torch.tensor(array, dtype=torch.float32)

    return Examples(
        real(query),
        real(table),
        torch.tensor(turns),
        real(plain),
        real(common).transpose(0, 1),
        real(states),
        real(time),
        real(wish),
    )


def _shared_words(query: str, words: Sequence[Sequence[str]]) -> npt.NDArray[np.float64]:
    """Return BM25 of texts, given by their words, as a share of the best."""
    lengths = np.array([len(own) for own in words]) / (sum(map(len, words)) / len(words))
    scores = np.zeros(len(words))
    for word in sorted(set(re.findall(r"\w+", query.lower()))):
        counts = np.array([own.count(word) for own in words])
        having = int((counts > 0).sum())
        rare = math.log(1 + (len(words) - having + 0.5) / (having + 0.5))
        scores += rare * counts * 2.2 / (counts + 1.2 * (0.25 + 0.75 * lengths))
    return scores / (scores.max() or 1.0)


# the network ----------------------------------------------------------------------------------


class Network(nn.Module):
    """`evomem.search.stating.Stating` for many questions at once, with dropout."""

    def __init__(
        self, width: int | None, *, mapped: int = 96, projected: int = 32, hidden: int = 48
    ) -> None:
        """Make the layers; `width` of the vectors that are read, None to read none."""
        super().__init__()
        self.reads = width is not None
        own, others = 7, 5
        if width is not None:
            own, others = own + 2 * projected + 1, others + projected + 1
            self.map_in, self.map_out = (
                nn.Linear(width, mapped),
                nn.Linear(mapped, width, bias=False),
            )
            nn.init.zeros_(self.map_out.weight)
            self.query, self.turn, self.told = (nn.Linear(width, projected) for _ in range(3))
        self.first_in, self.first_out = nn.Linear(own, hidden), nn.Linear(hidden, 1, bias=False)
        self.second_in = nn.Linear(own + others, hidden)
        self.second_out = nn.Linear(hidden, 1, bias=False)
        self.drop = nn.Dropout(0.3)

    def forward(self, some: Examples) -> tuple[Tensor, Tensor]:
        """Return the logits of the first step and of both, (N, K) each."""
        turns, query = some.table[some.turns], some.query
        moved = query
        if self.reads:
            moved = F.normalize(query + self.map_out(self.drop(self.map_in(query).relu())), dim=-1)
        match = torch.einsum("nkd,nd->nk", turns, moved)
        columns = [some.plain, _standing_out(match)[..., None]]
        stated = turns
        if self.reads:
            asked, stated = SHARPNESS * self.query(query), SHARPNESS * self.turn(turns)
            columns += [self.drop(asked[:, None] * stated), self.drop(stated)]
            columns += [SHARPNESS * match[..., None]]
        alone = self.first_out(self.first_in(torch.cat(columns, -1)).relu())[..., 0]
        trust = alone.softmax(-1)
        told = F.normalize(torch.einsum("nk,nkd->nd", trust, turns), dim=-1)
        alike = torch.einsum("nkd,nd->nk", turns, told)
        best = alone.max(-1, keepdim=True).values
        units, kinds = torch.einsum("nk,anki->ani", trust, some.agree)
        others = [_standing_out(alike), alone / SHARPNESS, (alone - best) / SHARPNESS, units, kinds]
        columns += [torch.stack(others, -1)]
        if self.reads:
            columns += [self.drop(SHARPNESS * self.told(told)[:, None] * stated)]
            columns += [SHARPNESS * alike[..., None]]
        second = self.second_out(self.second_in(torch.cat(columns, -1)).relu())[..., 0]
        return alone, alone + second

    def weights(self) -> dict[str, npt.NDArray[np.float16]]:
        """Return the arrays of `Stating`, by name."""
        names = {"first_in": "first", "second_in": "second"}
        outs = {"first_out": "first.out", "second_out": "second.out"}
        if self.reads:
            names |= {"map_in": "map", "query": "query", "turn": "turn", "told": "told"}
            outs |= {"map_out": "map.out"}
        arrays: dict[str, Tensor] = {}
        stored = dict(self.named_parameters())
        for layer, name in names.items():
            arrays |= {
                f"{name}.in": stored[f"{layer}.weight"].T,
                f"{name}.bias": stored[f"{layer}.bias"],
            }
        arrays |= {name: stored[f"{layer}.weight"].T for layer, name in outs.items()}
        return {name: array.detach().numpy().astype(np.float16) for name, array in arrays.items()}


def _standing_out(alike: Tensor) -> Tensor:
    mean, deviation, count = USUAL
    total = alike.shape[-1] + count
    centre = (alike.sum(-1, keepdim=True) + count * mean) / total
    square = ((alike - centre) ** 2).sum(-1, keepdim=True)
    square = square + count * (deviation**2 + (mean - centre) ** 2)
    return (alike - centre) / (square / total).sqrt()


def loss(alone: Tensor, both: Tensor, some: Examples) -> Tensor:
    """Return what is minimised.

    Each candidate's cross-entropy; that of the first step's best one; and the likelihood that the
    wanted candidate states the value and none that is newer (or older) does.
    """
    total = F.binary_cross_entropy_with_logits(both, some.states) * 8
    told = some.states.sum(-1) > 0
    chosen = alone.log_softmax(-1).masked_fill(some.states == 0, -1e9).logsumexp(-1)
    total = total - 0.5 * (chosen * told).sum() / told.sum().clamp(min=1)
    sign = some.wish[:, None]
    order = (-sign * some.time).argsort(-1)
    logits, states = both.gather(-1, order), some.states.gather(-1, order)
    silent = F.logsigmoid(-logits).cumsum(-1)
    stated = F.logsigmoid(logits) + silent - F.logsigmoid(-logits)
    wanted = stated.gather(-1, states.argmax(-1, keepdim=True))[:, 0]
    likelihood = torch.where(told, wanted, silent[:, -1])
    return total - 0.5 * (likelihood * (some.wish != 0)).mean()


def fit(
    examples: Examples, width: int | None, *, steps: int, seed: int, batch: int = 64
) -> Network:
    """Train a network; the same result for the same seed."""
    torch.manual_seed(seed)
    network = Network(width)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps, pct_start=0.06)
    network.train()
    for _ in range(steps):
        rows = torch.randint(len(examples.query), (batch,))
        some = part(examples, rows)
        optimizer.zero_grad()
        alone, both = network(some)
        loss(alone, both, some).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return network.eval()


def part(examples: Examples, rows: Tensor) -> Examples:
    """Return some of the examples."""
    e = examples
    return Examples(
        e.query[rows],
        e.table,
        e.turns[rows],
        e.plain[rows],
        e.agree[:, rows],
        e.states[rows],
        e.time[rows],
        e.wish[rows],
    )


# the command ----------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Train both models and write them; return 0."""
    options = _parser().parse_args(argv)
    topics = load_topics()
    rng = Random(options.seed)
    talk = [*SMALL_TALK, *(remark for topic in topics for remark in topic.remarks)]
    histories = [tell(topics, talk, rng) for _ in range(options.histories)]
    some = examples(histories, embedded(histories))
    width = some.table.shape[1]
    arrays = {
        f"{model}/{name}": array
        for model, reads in ((READS, width), ("any", None))
        for name, array in fit(some, reads, steps=options.steps, seed=options.seed)
        .weights()
        .items()
    }
    np.savez(options.out, allow_pickle=False, **arrays)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evomem.training.stating", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--out", type=Path, default=FILE, metavar="FILE")
    parser.add_argument("--histories", type=int, default=200, metavar="N")
    parser.add_argument("--steps", type=int, default=600, metavar="N")
    parser.add_argument("--seed", type=int, default=1)
    return parser


if __name__ == "__main__":
    sys.exit(main())
