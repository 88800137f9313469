"""Does a search rank the current value above older ones? The stale answer rate, on changing histories.

For a question about the current value, an answer is stale if a turn with an older value ranks above
the newest one, or if the newest is not found. For a question about the past, the wanted turn is the
older one, and the same rate says how often the newest ranks above it.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from rich.progress import track

import evomem
from benchmarks.datasets.base import read_lines
from benchmarks.datasets.evotrain import as_turn
from benchmarks.datasets.streams import load_stream
from benchmarks.quality.intervals import Interval, Resampling
from benchmarks.quality.metrics import recall
from benchmarks.quality.stale_histories import (
    KINDS,
    TOPICS,
    StateHistory,
    StateQuestion,
    make_histories,
)
from benchmarks.reporting.output import finish, positive, setting, table
from benchmarks.systems.encoders import Encoders
from evomem import Encoder
from evomem.plugins import DEFAULT_ENCODER
from evomem.records import Hit
from evomem.training.corpora import streams
from evomem.training.dialogues import multiwoz, sgd
from evomem.training.histories import History

DEPTH = 50
SEED = 20_261_129
TRAINED_ON = 12_000  # number of SGD's streams that may be in the training data
COLUMNS = ("stale", "first", "recall@10")
Result = dict[str, dict[str, dict[str, list[float]]]]
"""Kind → "plain" or "preferred" → column → mean, low, high."""


def measure(encoder: Encoder, histories: Sequence[StateHistory], name: str) -> Result:
    """Search for every question in its history, in hybrid mode.

    "preferred" is the order of the hits, "plain" their order without the score part `current`.
    """
    rows: dict[tuple[str, str], list[tuple[str, dict[str, float]]]] = defaultdict(list)
    for number, story in enumerate(track(histories, name, transient=True)):
        with evomem.open(":memory:", encoder=encoder) as database:
            memory = database.memory("stale")
            memory.add_many(story.turns)
            for question in story.questions:
                hits = memory.search(question.text, DEPTH)
                plain = sorted(hits, key=lambda hit: -(hit.score - hit.parts.get("current", 0.0)))
                for order, ranked in (("plain", plain), ("preferred", hits)):
                    rows[question.kind, order].append((str(number), _scores(question, ranked)))
    result: Result = defaultdict(dict)
    for (kind, order), scored in rows.items():
        resampling = Resampling([history for history, _ in scored], [kind] * len(scored))
        intervals = {
            column: resampling.interval([scores[column] for _, scores in scored])
            for column in scored[0][1]
        }
        result[kind][order] = {c: [i.mean, i.low, i.high] for c, i in intervals.items()}
        result[kind][order]["questions"] = [float(len(scored))]
    return dict(result)


def _scores(question: StateQuestion, hits: Sequence[Hit]) -> dict[str, float]:
    ranking = [hit.seq - 1 for hit in hits]
    scores = {"recall@10": recall(ranking, question.wanted, 10)}
    if len(question.wanted) == 1:
        [wanted] = question.wanted
        above = ranking[: ranking.index(wanted)] if wanted in ranking else ranking
        missed = wanted not in ranking
        scores["stale"] = float(missed or not set(question.rivals).isdisjoint(above))
        scores["first"] = float(ranking[:1] == [wanted])
    return scores


# histories -----------------------------------------------------------------------------------


def updates(path: Path, limit: int | None) -> list[StateHistory]:
    """Return BEAM's chats with the questions whose answer was updated, as kind `update`."""
    stories: list[StateHistory] = []
    conversations = load_stream(path, name="beam").conversations[:limit]
    for conversation, (_, raw) in zip(conversations, read_lines(path), strict=False):
        questions = []
        for query in raw["queries"]:
            roles = query.get("evidence_roles") or {}
            old, new = roles.get("original_info") or (), roles.get("updated_info") or ()
            if query["type"] == "knowledge_update" and new and not set(old) & set(new):
                wanted = min(new)
                questions.append(StateQuestion(query["question"], "update", (wanted,), tuple(old)))
        stories.append(StateHistory(list(conversation.turns), questions))
    return stories


def states(histories: Iterable[History], count: int) -> list[StateHistory]:
    """Return histories of task dialogues in which the user asks for "my" values, as in `make_histories`."""
    stories: list[StateHistory] = []
    for history in histories:
        questions = [
            StateQuestion(q.text, q.kind, (q.evidence[-1],), tuple(q.rivals))
            for q in history.questions
            if q.kind in ("first", "latest", "before") and q.rivals
        ]
        if questions and any(text.startswith("User: ") for text in history.turns):
            stories.append(StateHistory([as_turn(text) for text in history.turns], questions))
        if len(stories) == count:
            break
    return stories


def _sets(options: argparse.Namespace) -> dict[str, list[StateHistory]]:
    sets = {
        half: make_histories(half, options.histories, options.turns, options.seed)
        for half in options.half
    }
    if options.beam:
        sets["BEAM, knowledge updates"] = updates(options.beam, options.limit)
    if options.corpora:
        unseen = list(islice(streams(options.corpora / "sgd.jsonl.xz"), TRAINED_ON, None))
        sets["SGD"] = states(sgd(unseen, Random(SEED)), options.histories)
        valtest = list(streams(options.corpora / "multiwoz21_valtest.jsonl.xz"))
        sets["MultiWOZ"] = states(multiwoz(valtest, Random(SEED)), options.histories)
    return sets


# the command ---------------------------------------------------------------------------------


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; return 0, or 2 after saying what is wrong."""
    options = _parser().parse_args(argv)
    result: dict[str, Any] = {**setting("stale", argv), "sets": {}}
    encoders = Encoders(options.device)

    def run() -> None:
        for name, histories in _sets(options).items():
            figures = measure(encoders[options.encoder], histories, name)
            result["sets"][name] = figures
            print(f"\n{name}\n{_table(figures)}", flush=True)

    return finish(result, options.out, run)


def _table(result: Result) -> str:
    rows = []
    for kind in [*KINDS, *(set(result) - set(KINDS))]:
        if kind in result:
            columns = (result[kind]["plain"], result[kind]["preferred"])
            cells = [
                str(Interval(*(values[column]))) if column in values else "–"
                for column in COLUMNS
                for values in columns
            ]
            rows.append([kind, str(int(columns[0]["questions"][0])), *cells])
    head = ["%", "questions", *(f"{c}, {o}" for c in COLUMNS for o in ("plain", "preferred"))]
    return table(head, rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks stale", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--encoder", default=DEFAULT_ENCODER, metavar="NAME")
    parser.add_argument("--device", help="where the encoder runs, such as cuda")
    parser.add_argument(
        "--half",
        nargs="*",
        choices=tuple(TOPICS),
        default=["held out", "held out 2"],
        help="of the topics and wordings; choose on the development ones, report the others (default)",
    )
    parser.add_argument("--histories", type=positive, default=40, metavar="N")
    parser.add_argument("--turns", type=positive, default=80, metavar="N", help="of each history")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--beam", type=Path, metavar="FILE", help="BEAM's stream")
    parser.add_argument("--limit", type=positive, metavar="N", help="only N chats of BEAM")
    parser.add_argument(
        "--corpora",
        type=Path,
        metavar="FOLDER",
        help="with sgd.jsonl.xz, multiwoz21_valtest.jsonl.xz",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write everything here as JSON")
    return parser
