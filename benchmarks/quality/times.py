"""Do searches find what was said at a given time? Questions that name days or sessions.

There are two kinds of questions: generated from REALTALK (a word and a day, a day alone, and so on), and
the datasets' own, which rarely name a time and must not get worse. Each is searched with several weights
of the signal "time" (`evomem.search.ranking.WEIGHTS`, `evomem.times.when.BROAD`).

With `--tmd`, the questions of the Temporal Memory Dataset are searched instead, with the weights in use;
this dataset is for reporting only.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any, TypeVar
from unittest.mock import patch

import evomem
from benchmarks.datasets import Conversation, DatasetError, Question
from benchmarks.datasets.find import DEVELOPMENT, add_arguments, load_all
from benchmarks.datasets.tmd import load_tmd
from benchmarks.quality.intervals import Resampling
from benchmarks.reporting.output import finish, positive, progress_bar, setting, table
from benchmarks.systems.encoders import Encoders, Memo
from evomem.plugins import DEFAULT_ENCODER
from evomem.search import ranking, searching
from evomem.times import when

T = TypeVar("T")

SEED = 20_261_129
DEPTH = 10
MAX_PER_KIND = 15  # generated questions of each kind and conversation
MADE = "made: "
"""The prefix of the types of generated questions."""
METRIC = "share of the possible"
"""Recall@10 divided by its maximum, which is below 1 if the evidence is a whole day or session."""


@dataclass(frozen=True)
class Strength:
    """The weights of times that a question names."""

    short: float = ranking.WEIGHTS["time"]
    """The weight of a day, a few days or a session."""
    broad: float = ranking.WEIGHTS["time"] * when.BROAD
    """The weight of a longer span."""
    read: bool = True
    """Whether times in questions are read at all."""

    def __str__(self) -> str:
        """Return the name in tables."""
        return (
            f"{self.short:g} short, {self.broad:.2g} broad" if self.read else "times are not read"
        )

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let searches use these weights."""
        weights = {**ranking.WEIGHTS, "time": self.short}
        with (
            patch.object(ranking, "WEIGHTS", weights),
            patch.object(when, "BROAD", self.broad / self.short),
            patch.object(searching, "names_time", when.names_time if self.read else _never),
        ):
            yield


IN_USE = Strength()
STRENGTHS = (Strength(read=False), Strength(0.31, 0.31), Strength(1, 1), Strength(2, 0.31), IN_USE)
BASE = STRENGTHS[1]
"""The baseline of differences: one weight for every span, as learned on real questions."""


def _never(query: str) -> bool:
    return False


# questions -------------------------------------------------------------------------------------


def generated(conversation: Conversation) -> list[Question]:
    """Return generated questions about a conversation whose turns have times and sessions."""
    rng = Random(f"{SEED} {conversation.id}")
    days: dict[datetime, list[int]] = defaultdict(list)
    sessions: dict[str, list[int]] = defaultdict(list)
    words: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, turn in enumerate(conversation.turns):
        days[_day(conversation, place)].append(place)
        sessions[turn.session or ""].append(place)
        for word in set(re.findall(r"[a-z]{5,}", turn.text.lower())):
            words[turn.speaker or "", word].append(place)
    last = _day(conversation, len(conversation.turns) - 1)
    numbers = {session: number for number, session in enumerate(sessions, 1)}
    questions: list[Question] = []

    def ask(kind: str, text: str, evidence: Sequence[int]) -> None:
        id = f"{conversation.id}#{kind}{len(questions)}"
        questions.append(Question(text, MADE + kind, tuple(evidence), id=id))

    for day, places in _sampled(rng, days.items()):
        ask("day", f"What did we talk about {_on_day(day, rng)}?", places)
        if ago := (last - day).days:
            ask("days ago", f"What did we discuss {ago} days ago?", places)
    for session, places in _sampled(rng, sessions.items()):
        ask("session", f"What did we discuss in session {numbers[session]}?", places)
    spread = [
        key
        for key, places in sorted(words.items())
        if len({_day(conversation, place) for place in places}) >= 3 and len(places) <= 20
    ]
    for speaker, word in _sampled(rng, spread):
        place = rng.choice(words[speaker, word])
        day, session = _day(conversation, place), conversation.turns[place].session or ""
        about = f"What did {speaker} say about {word}"
        same_day = [other for other in words[speaker, word] if _day(conversation, other) == day]
        ask("word and day", f"{about} {_on_day(day, rng)}?", same_day)
        same_session = [other for other in words[speaker, word] if other in sessions[session]]
        ordinal = _ordinal(numbers[session])
        ask("word and session", f"{about} in our {ordinal} session?", same_session)
        ask("word alone", f"{about}?", words[speaker, word])
    return questions


def _sampled(rng: Random, values: Collection[T]) -> list[T]:
    return rng.sample(list(values), min(MAX_PER_KIND, len(values)))


def _day(conversation: Conversation, place: int) -> datetime:
    moment = conversation.turns[place].time
    if moment is None:
        raise DatasetError(f"{conversation.id}: turn {place} has no time")
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def _on_day(day: datetime, rng: Random) -> str:
    """Return "on" followed by a day, in one of the ways people write it."""
    layouts = ("{0.day} {0:%B}", "{0:%B} {1}", "{1} {0:%b} {0.year}", "{0:%Y-%m-%d}", "{0:%A}, {0.day} {0:%B %Y}")  # fmt: skip
    return "on " + rng.choice(layouts).format(day, _ordinal(day.day))


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 in (11, 12, 13) else ending}"


# asking ----------------------------------------------------------------------------------------


def ask_all(
    conversations: Sequence[Conversation], encoder: Memo, strengths: Sequence[Strength]
) -> dict[Strength, list[list[int]]]:
    """Return the best `DEPTH` turns for every question, asked after the last turn of its conversation.

    A question that names no time is searched once, since the weights do not affect it.
    """
    rankings: dict[Strength, list[list[int]]] = {strength: [] for strength in strengths}
    with progress_bar() as progress:
        for conversation in progress.track(list(conversations)):
            with evomem.open(":memory:", encoder=encoder) as db:
                memory = db.memory("times")
                records = memory.add_many(conversation.turns)
                now = max(record.time for record in records)
                for question in conversation.questions:
                    turns: list[int] | None = None
                    for strength in strengths:
                        if turns is None or when.names_time(question.text):
                            with strength.applied():
                                hits = memory.search(question.text, DEPTH, now=now)
                            turns = [hit.seq - 1 for hit in hits]
                        rankings[strength].append(turns)
    return rankings


def score(ranking: Sequence[int], evidence: Sequence[int]) -> float:
    """Return the number of evidence turns in the ranking, divided by the maximum that fits into it."""
    return len({*ranking} & {*evidence}) / min(DEPTH, len(evidence))


def sessions_found(turns: Sequence[Any], ranking: Sequence[int], evidence: Sequence[int]) -> float:
    """Return the number of evidence sessions in the ranking, divided by the maximum that fits into it."""
    expected = {turns[place].session for place in evidence}
    return len(expected & {turns[place].session for place in ranking}) / min(DEPTH, len(expected))


def compare(conversations: Sequence[Conversation], encoder: Memo) -> dict[str, Any]:
    """Return the mean of every type and strength, and its difference from `BASE`, with intervals."""
    rankings = ask_all(conversations, encoder, STRENGTHS)
    questions = [
        (conversation.id, question)
        for conversation in conversations
        for question in conversation.questions
    ]
    values = {
        strength: [score(r, q.evidence) for r, (_, q) in zip(rankings_of, questions, strict=True)]
        for strength, rankings_of in rankings.items()
    }
    result: dict[str, Any] = {}
    groups: dict[str, list[int]] = defaultdict(list)
    for place, (_, question) in enumerate(questions):
        is_generated = question.type.startswith(MADE)
        groups[question.type].append(place)
        groups["all that were made" if is_generated else "all of the dataset"].append(place)
        if when.names_time(question.text) and not is_generated:
            groups["those of the dataset that name a time"].append(place)
    for kind, places in sorted(groups.items()):
        resampling = Resampling([questions[n][0] for n in places], [kind] * len(places))
        result[kind] = {"questions": len(places), "resampled": resampling.unit, "rows": {}}
        base = [values[BASE][n] for n in places]
        for strength in STRENGTHS:
            scores = [values[strength][n] for n in places]
            mean, difference = resampling.interval(scores), resampling.difference(scores, base)
            result[kind]["rows"][str(strength)] = {
                "mean": [mean.mean, mean.low, mean.high],
                "difference": [difference.mean, difference.low, difference.high],
            }
    return result


def report_tmd(conversations: Sequence[Conversation], encoder: Memo) -> dict[str, Any]:
    """Return, by type, the share of the possible for turns and for sessions."""
    rankings = ask_all(conversations, encoder, [IN_USE])[IN_USE]
    questions = [
        (conversation, question)
        for conversation in conversations
        for question in conversation.questions
    ]
    rows: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for ranked, (talk, question) in zip(rankings, questions, strict=True):
        pair = (
            score(ranked, question.evidence),
            sessions_found(talk.turns, ranked, question.evidence),
        )
        rows[question.type].append(pair)
        if question.type != "content_time":
            rows["all but content_time"].append(pair)
    return {
        kind: {
            "questions": len(pairs),
            "turns": sum(pair[0] for pair in pairs) / len(pairs),
            "sessions": sum(pair[1] for pair in pairs) / len(pairs),
        }
        for kind, pairs in sorted(rows.items())
    }


# the command -----------------------------------------------------------------------------------


def main(argv: Sequence[str]) -> int:
    """Search and print the tables; return 0, or 2 after an error message."""
    options = _parser().parse_args(argv)
    result: dict[str, Any] = {**setting("times", argv), "encoder": options.encoder}

    def run() -> None:
        encoder = Encoders()[options.encoder]
        if options.tmd:
            dataset = load_tmd(options.tmd)
            result["tmd"] = entry = report_tmd(
                dataset.conversations[options.skip :][: options.limit], encoder
            )
            print(f"\ntmd · {options.encoder}\n\n{_tmd_table(entry)}")
        else:
            _compare_all(options, encoder, result)

    return finish(result, options.out, run)


def _compare_all(options: argparse.Namespace, encoder: Memo, result: dict[str, Any]) -> None:
    for dataset in load_all(options, DEVELOPMENT):
        if dataset.name not in DEVELOPMENT:
            raise DatasetError(
                f"{dataset.name} is for reporting only: use {', '.join(DEVELOPMENT)}"
            )
        conversations = [
            replace(conversation, questions=[q for q in conversation.questions if q.evidence])
            for conversation in dataset.conversations[options.skip :][: options.limit]
        ]
        if dataset.name == "realtalk":
            conversations = [
                replace(talk, questions=[*talk.questions, *generated(talk)])
                for talk in conversations
            ]
        result[dataset.name] = entry = compare(conversations, encoder)
        print(f"\n{dataset.name} · {options.encoder} · {METRIC}\n\n{_table(entry)}")


def _table(entry: dict[str, Any]) -> str:
    rows = [
        [f"{kind} ({entry[kind]['questions']})", name, *(_interval(row[key]) for key in ("mean", "difference"))]
        for kind in entry
        for name, row in entry[kind]["rows"].items()
    ]  # fmt: skip
    return table(["questions", "time counts", "%", f"more than {BASE}"], rows)


def _interval(values: Sequence[float]) -> str:
    mean, low, high = (100 * value for value in values)
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]"


def _tmd_table(entry: dict[str, Any]) -> str:
    rows = [
        [kind, str(row["questions"]), f"{100 * row['turns']:.1f}", f"{100 * row['sessions']:.1f}"]
        for kind, row in entry.items()
    ]
    return table(["type", "questions", f"turns, {METRIC}", "sessions"], rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks times", description=(__doc__ or "").partition("\n")[0]
    )
    add_arguments(parser)
    parser.add_argument("--tmd", type=Path, metavar="PATH", help="tmd.jsonl.xz, for reporting only")
    parser.add_argument("--encoder", default=DEFAULT_ENCODER, metavar="NAME")
    parser.add_argument(
        "--skip", type=int, default=0, metavar="N", help="skip the first N conversations"
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="only N conversations")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write all results here as JSON")
    return parser
