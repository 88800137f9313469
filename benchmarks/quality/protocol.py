"""What do the choices of an evaluation protocol change? BM25 under our protocol, and LMEB's and MTEB's.

The choices are the text of a turn, the collection that defines word weights, the cut of the ranking, and
the definition of recall; each is changed alone, and all together.
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
"""The number of documents that MTEB's BM25 takes from the corpus before it selects a query's candidates."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A protocol, described by its differences from ours."""

    name: str
    rewrite: Callable[[Conversation], Conversation] = lambda conversation: conversation
    """Changes the texts of turns."""
    pooled: bool = False
    """Whether word weights come from the turns of all conversations."""
    cut: int | None = None
    """How many turns of all conversations are kept before those of the question's own are selected."""


def with_hours(conversation: Conversation) -> Conversation:
    """Return the conversation with date and time before each turn: "1:56 PM on 8 May, 2023 Ann: ..."."""
    turns = [
        replace(turn, speaker=f"{turn.time:%I:%M %p on %d %B, %Y} {turn.speaker or 'User'}")
        if turn.time
        else turn
        for turn in conversation.turns
    ]
    return replace(conversation, turns=turns)


def with_padding(conversation: Conversation) -> Conversation:
    """Return the conversation with words that no question has before each turn, as many as a date has."""
    turns = [
        replace(turn, speaker=f"{PADDING} {turn.speaker or 'User'}") for turn in conversation.turns
    ]
    return replace(conversation, turns=turns)


def without_captions(conversation: Conversation) -> Conversation:
    """Return the conversation without the generated captions of shared images."""
    turns = [
        replace(turn, user=_CAPTION.sub("", turn.user) or turn.user) for turn in conversation.turns
    ]
    return replace(conversation, turns=turns)


def hours_without_captions(conversation: Conversation) -> Conversation:
    """Return the conversation with date and time before each turn and without captions."""
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
    talks = [variant.rewrite(conversation) for conversation in dataset.conversations]
    pool = bm25.scorer([turn for talk in talks for turn in talk.turns]) if variant.pooled else None
    start = 0
    for talk in talks:
        span = slice(start, start + len(talk.turns))
        score = pool or bm25.scorer(talk.turns)
        for question in talk.questions:
            if question.evidence:
                scores = score(question.text)
                yield best(_selected(scores, span, variant.cut) if pool else scores, K)
        start = span.stop


def _selected(scores: Scores, span: slice, cut: int | None) -> Scores:
    """Return the scores of a conversation's turns, with -inf for turns below the cut of all scores."""
    if cut is not None and cut < len(scores):
        threshold = np.partition(scores, -cut)[-cut]
        scores = np.where(scores >= threshold, scores, -np.inf)
    return scores[span]


def measure(dataset: Dataset, variant: Variant) -> dict[str, list[float]]:
    """Return recall@10 by type, by question, and with LMEB's cap, each with its interval."""
    questions = [
        (talk.id, question)
        for talk in dataset.conversations
        for question in talk.questions
        if question.evidence
    ]
    resampling = Resampling(
        [id for id, _ in questions], [question.type for _, question in questions]
    )
    ranked = list(zip(rankings(dataset, variant), questions, strict=True))
    shares = [recall(ranking, question.evidence, K) for ranking, (_, question) in ranked]
    caps = [max(1.0, len(question.evidence) / K) for _, (_, question) in ranked]
    capped = [share * cap for share, cap in zip(shares, caps, strict=True)]
    figures = {
        "per type": resampling.interval(shares, macro=True),
        "per question": resampling.interval(shares),
        "per type, capped": resampling.interval(capped, macro=True),
    }
    return {name: [i.mean, i.low, i.high] for name, i in figures.items()}


def main(argv: Sequence[str]) -> int:
    """Run the comparison; return 0, or 2 after an error message."""
    options = _parser().parse_args(argv)
    result: dict[str, Any] = {**setting("protocol", argv), "datasets": {}}

    def run() -> None:
        for dataset in load_all(options, ("realtalk", "locomo")):
            by_variant = {variant.name: measure(dataset, variant) for variant in VARIANTS}
            result["datasets"][dataset.name] = by_variant
            columns = list(next(iter(by_variant.values())))
            rows = [
                [name, *(f"{100 * figures[column][0]:.1f}" for column in columns)]
                for name, figures in by_variant.items()
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
