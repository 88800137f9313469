"""What do the choices of a protocol change? BM25 under ours, and under those of LMEB and MTEB.

The words of a turn, the collection over which they are weighed, where the list is cut, and how recall
is counted: one at a time, and together.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.datasets import Conversation, Dataset, with_dates
from benchmarks.datasets.find import add_arguments, load_all
from benchmarks.quality.intervals import Resampling
from benchmarks.quality.metrics import recall
from benchmarks.reporting.output import finish, setting, table
from benchmarks.systems.base import Bm25, Scores, best

K = 10
PADDING = "qqa qqb qqc qqd qqe qqf"
_CAPTION = re.compile(r"\s*\[image: [^\]]*\]$")
CUT = 1000
"""How many documents MTEB's BM25 takes from the whole corpus before it keeps a query's candidates."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A protocol, as it differs from ours."""

    name: str
    shown: Callable[[Conversation], Conversation] = lambda conversation: conversation
    """How turns are written."""
    pooled: bool = False
    """Whether words are weighed over the turns of all conversations."""
    cut: int | None = None
    """How many turns of all conversations are kept, before those of the question's own."""


def with_hours(conversation: Conversation) -> Conversation:
    """Return the conversation with date and hour in front: "1:56 PM on 8 May, 2023 Ann: ..."."""
    turns = [
        replace(turn, speaker=f"{turn.time:%I:%M %p on %d %B, %Y} {turn.speaker or 'User'}")
        if turn.time
        else turn
        for turn in conversation.turns
    ]
    return replace(conversation, turns=turns)


def with_padding(conversation: Conversation) -> Conversation:
    """Return the conversation with as many words in front as a date has, which no question has."""
    turns = [
        replace(turn, speaker=f"{PADDING} {turn.speaker or 'User'}") for turn in conversation.turns
    ]
    return replace(conversation, turns=turns)


def without_captions(conversation: Conversation) -> Conversation:
    """Return the conversation without the machine captions of shared pictures."""
    turns = [
        replace(turn, user=_CAPTION.sub("", turn.user) or turn.user) for turn in conversation.turns
    ]
    return replace(conversation, turns=turns)


def hours_without_captions(conversation: Conversation) -> Conversation:
    """Return the conversation with date and hour in front and without captions."""
    return with_hours(without_captions(conversation))


VARIANTS = (
    Variant("ours: Speaker: text, words weighed in the question's own conversation"),
    Variant("date in front", with_dates),
    Variant("date and hour in front", with_hours),
    Variant("six words that no question has in front", with_padding),
    Variant("without the captions of pictures", without_captions),
    Variant("words weighed over all conversations", pooled=True),
    Variant(f"the same, cut at {CUT:,} of all turns", pooled=True, cut=CUT),
    Variant("date and hour, no captions, over all, cut", hours_without_captions, True, CUT),
)


def rankings(dataset: Dataset, variant: Variant) -> Iterator[list[int]]:
    """Yield the ranking of turns for every scored question, in the order of the dataset."""
    bm25 = Bm25()
    talks = [variant.shown(conversation) for conversation in dataset.conversations]
    pool = bm25.scorer([turn for talk in talks for turn in talk.turns]) if variant.pooled else None
    start = 0
    for talk in talks:
        own = slice(start, start + len(talk.turns))
        score = pool or bm25.scorer(talk.turns)
        for question in talk.questions:
            if question.evidence:
                yield best(_own(score(question.text), own if pool else None, variant.cut), K)
        start = own.stop


def _own(scores: Scores, own: slice | None, cut: int | None) -> Scores:
    """Return the scores of a conversation's turns, of which those below a cut count nothing."""
    if own is None:
        return scores
    if cut is not None and cut < len(scores):
        least = np.partition(scores, -cut)[-cut]
        scores = np.where(scores >= least, scores, -np.inf)
    return scores[own]


def measure(dataset: Dataset, variant: Variant) -> dict[str, list[float]]:
    """Return recall@10 per type, per question, and as LMEB caps it, with intervals."""
    asked = [
        (talk.id, question)
        for talk in dataset.conversations
        for question in talk.questions
        if question.evidence
    ]
    resampling = Resampling([id for id, _ in asked], [question.type for _, question in asked])
    ranked = list(zip(rankings(dataset, variant), asked, strict=True))
    shares = [recall(ranking, question.evidence, K) for ranking, (_, question) in ranked]
    most = [max(1.0, len(question.evidence) / K) for _, (_, question) in ranked]
    capped = [share * limit for share, limit in zip(shares, most, strict=True)]
    figures = {
        "per type": resampling.interval(shares, macro=True),
        "per question": resampling.interval(shares),
        "per type, capped": resampling.interval(capped, macro=True),
    }
    return {name: [each.mean, each.low, each.high] for name, each in figures.items()}


def main(argv: Sequence[str]) -> int:
    """Run the comparison; return 0, or 2 after saying what is wrong."""
    options = _parser().parse_args(argv)
    result: dict[str, Any] = {**setting("protocol", argv), "datasets": {}}

    def run() -> None:
        for dataset in load_all(options, ("realtalk", "locomo")):
            measured = {variant.name: measure(dataset, variant) for variant in VARIANTS}
            result["datasets"][dataset.name] = measured
            columns = list(next(iter(measured.values())))
            rows = [
                [name, *(f"{100 * figures[column][0]:.1f}" for column in columns)]
                for name, figures in measured.items()
            ]
            print(table([f"{dataset.name}, BM25 recall@{K}, %", *columns], rows), flush=True)

    return finish(result, options.out, run)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks protocol", description=(__doc__ or "").partition("\n")[0]
    )
    add_arguments(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the result here as JSON")
    return parser
