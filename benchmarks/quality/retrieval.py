"""Do systems find the turns that hold the answer? Turn-level evidence in real, labelled conversations.

The candidates are all utterances of a question's own conversation. A system reads the conversation once,
turn by turn, and then answers all of its questions. A question that is a message of the conversation
itself is answered from the turns before it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from rich.progress import Progress

from benchmarks.datasets import (
    Conversation,
    Dataset,
    DatasetError,
    Question,
    shortened,
    with_dates,
)
from benchmarks.datasets.find import DEVELOPMENT, MESSAGES, add_arguments, load_all
from benchmarks.datasets.locomo import corrected
from benchmarks.quality.intervals import Interval, Resampling
from benchmarks.quality.metrics import CUTS, DEPTH, DETAILED_TABLE_METRICS, MAIN_METRIC, score
from benchmarks.reporting.log import Log
from benchmarks.reporting.output import positive, progress_bar, setting, table, write_json
from benchmarks.spreading import add_ray_arguments, pool_of, results_of
from benchmarks.systems.base import Hit, System
from benchmarks.systems.encoders import Encoders
from benchmarks.systems.naming import NAMES, system_named
from evomem.errors import EvomemError, InputError
from evomem.fleet.pool import Pool

DEFAULT_SYSTEMS = ("bm25", "static", "static+bm25", "evomem/evolvable", "evomem/hybrid")
ADVERSARIAL = "adversarial"  # LoCoMo's category 5, which papers often leave out


R = TypeVar("R")


@dataclass(frozen=True)
class Rankings:
    """The rankings of every system for every question with evidence."""

    dataset: Dataset
    dates: bool
    results: Mapping[str, Mapping[str, Any]]
    """System → conversation → `rankings` of its questions with evidence, and times."""

    @cached_property
    def questions(self) -> list[tuple[Conversation, Question]]:
        """Every question with evidence and its conversation, in the order of all values."""
        return [
            (conversation, q)
            for conversation in self.dataset.conversations
            for q in conversation.questions
            if q.evidence
        ]

    @cached_property
    def resampling(self) -> Resampling:
        """The resamples of these questions."""
        return Resampling([c.id for c, _ in self.questions], [q.type for _, q in self.questions])

    def scores(self, system: str, cuts: Sequence[int] = CUTS) -> list[dict[str, float]]:
        """Return the metrics of every question."""
        rankings = [
            ranking
            for conversation in self.dataset.conversations
            if conversation.id in self.results[system]
            for ranking in self.results[system][conversation.id]["rankings"]
        ]
        return [
            score(ranking, question.evidence, cuts)
            for ranking, (_, question) in zip(rankings, self.questions, strict=True)
        ]

    def times(self, system: str) -> dict[str, float | None]:
        """Return ms per turn, None if all turns came from a cache, and the median ms per query."""
        costs = list(self.results[system].values())
        uncached = [cost for cost in costs if not cost["reused"]]
        turns = sum(cost["turns"] for cost in uncached)
        seconds = sum(cost["read_s"] for cost in uncached)
        return {
            "ms_per_turn": 1000 * seconds / turns if turns else None,
            "ms_per_query": 1000 * median(s for cost in costs for s in cost["query_s"]),
        }

    def summary(self, cuts: Sequence[int] = CUTS) -> dict[str, Any]:
        """Return all figures of the tables as JSON."""
        return {
            "dataset": self.dataset.name,
            "file": self.dataset.path.name,
            "sha256": self.dataset.sha256,
            "use": "development" if self.dataset.name in (*DEVELOPMENT, *MESSAGES) else "reporting",
            "dates": self.dates,
            "counts": self.dataset.counts(),
            "resampled": self.resampling.unit,
            "rows": [
                {"system": name, **self._groups(name, cuts), **self.times(name)}
                for name in self.results
            ],
        }

    def relabelled(self, dataset: Dataset) -> Rankings:
        """Return the same rankings with the labels of `dataset`, which has the same questions."""
        return Rankings(dataset, self.dates, self.results)

    def difference(self, system: str, other: str, metric: str) -> Interval:
        """Return the mean difference of `system` and `other` over question types, paired by question."""
        values = ([row[metric] for row in self.scores(name)] for name in (system, other))
        return self.resampling.difference(*values, macro=True)

    def _groups(self, system: str, cuts: Sequence[int]) -> dict[str, Any]:
        rows = self.scores(system, cuts)
        kinds = [question.type for _, question in self.questions]
        groups = {"all": self._intervals(rows), "macro": self._intervals(rows, macro=True)}
        if ADVERSARIAL in kinds and set(kinds) != {ADVERSARIAL}:
            keep = [n for n, kind in enumerate(kinds) if kind != ADVERSARIAL]
            groups[f"no {ADVERSARIAL}"] = self._subset_intervals(rows, keep)
        types = {
            kind: self._subset_intervals(
                rows, [n for n, other in enumerate(kinds) if other == kind]
            )
            for kind in sorted(set(kinds))
        }
        return {"overall": groups, "types": types}

    def _subset_intervals(self, rows: list[dict[str, float]], keep: list[int]) -> dict[str, Any]:
        questions = [self.questions[n] for n in keep]
        resampling = Resampling([c.id for c, _ in questions], [q.type for _, q in questions])
        return _with_intervals(resampling, [rows[n] for n in keep])

    def _intervals(self, rows: list[dict[str, float]], *, macro: bool = False) -> dict[str, Any]:
        return _with_intervals(self.resampling, rows, macro=macro)


def _with_intervals(
    resampling: Resampling, rows: list[dict[str, float]], *, macro: bool = False
) -> dict[str, Any]:
    """Return every metric's interval as [mean, low, high]."""
    intervals = {}
    for metric in rows[0]:
        interval = resampling.interval([row[metric] for row in rows], macro=macro)
        intervals[metric] = [interval.mean, interval.low, interval.high]
    return intervals


def rank_all(
    dataset: Dataset,
    systems: Sequence[str],
    encoders: Encoders,
    *,
    folder: Path | None = None,
    limit: int | None = None,
    turns: int | None = None,
    dates: bool = False,
    progress: Progress | None = None,
    pool: Pool | None = None,
) -> Rankings:
    """Rank the turns for every question with every system; rankings in `folder` are reused.

    Args:
        dataset: The conversations and questions.
        systems: The names of the systems (`benchmarks.systems.naming`).
        encoders: The encoders of the systems.
        folder: Where rankings are stored, one file per dataset and system; None stores nothing.
        limit: Use only the first `limit` conversations.
        turns: Use only the first `turns` turns of each, and the questions about them.
        dates: Put the date before every turn.
        progress: Where to draw a progress bar.
        pool: The workers that read conversations; None reads them in this process.

    Raises:
        DatasetError: No question of these conversations has evidence.
        EvomemError: A system cannot be created, or fails.
    """
    conversations = dataset.conversations[:limit]
    if turns is not None:
        conversations = [shortened(conversation, turns) for conversation in conversations]
    dataset = replace(dataset, conversations=conversations)
    if not dataset.counts()["scored"]:
        raise DatasetError(
            f"{dataset.path}: no question has evidence; left out: {dataset.counts()['left_out']}"
        )
    by_name = {name: system_named(name, encoders) for name in systems}
    logs = {
        name: Log(
            folder and folder / dataset.name, name, _header(dataset, name, system, dates, turns)
        )
        for name, system in by_name.items()
    }
    # Sorted by text, neighbours share their first turns, which an encoder then reads once.
    conversations = sorted(
        (talk for talk in dataset.conversations if any(q.evidence for q in talk.questions)),
        key=lambda talk: [turn.text for turn in talk.turns],
    )
    task = (
        progress.add_task(dataset.name, total=len(by_name) * len(conversations))
        if progress
        else None
    )
    jobs = {
        f"{conversation.id} {name}": (name, conversation)
        for conversation in (map(with_dates, conversations) if dates else conversations)
        for name in by_name
        if conversation.id not in logs[name]
    }
    if progress and task is not None:
        progress.advance(task, len(by_name) * len(conversations) - len(jobs))
    for key, result in results_of(Ranker(encoders, by_name), pool, jobs):
        name, conversation = jobs[key]
        logs[name].add(conversation.id, result)
        if progress and task is not None:
            progress.advance(task)
    ids = {talk.id for talk in conversations}
    results = {
        name: {id: result for id, result in log.results.items() if id in ids}
        for name, log in logs.items()
    }
    return Rankings(dataset, dates, results)


def with_audit(rankings: Rankings, audit: Path | None) -> list[Rankings]:
    """Return the rankings, and for LoCoMo with an audit also the rankings with its labels."""
    if audit is None or rankings.dataset.name != "locomo":
        return [rankings]
    return [rankings, rankings.relabelled(corrected(rankings.dataset, audit))]


def _header(
    dataset: Dataset, name: str, system: System, dates: bool, turns: int | None
) -> dict[str, Any]:
    return {
        "rankings": 2,  # the version of the format; increase it when the meaning of a line changes
        "dataset": dataset.name,
        "sha256": dataset.sha256,
        "system": name,
        "fingerprint": system.fingerprint,
        "dates": dates,
        "turns": turns,
        "depth": DEPTH,
    }


class Ranker:
    """Reads conversations and asks their questions with evidence."""

    def __init__(self, encoders: Encoders, systems: Mapping[str, System]) -> None:
        self._encoders, self._systems = encoders, systems

    def run(self, job: tuple[str, Conversation]) -> dict[str, Any]:
        """Let a system read a conversation, and ask its questions."""
        name, conversation = job
        return _ask(self._systems[name], conversation, self._encoders)


class RemoteRanker(Ranker):
    """A `Ranker` for a separate process."""

    def __init__(self, systems: Sequence[str], device: str | None) -> None:
        encoders = Encoders(device)
        super().__init__(encoders, {name: system_named(name, encoders) for name in systems})


def _ask(system: System, conversation: Conversation, encoders: Encoders) -> dict[str, Any]:
    """Let a system read a conversation and answer its questions with evidence; return rankings and times."""
    reused = encoders.reused
    rank, read_s = _timed(partial(system.index, conversation.turns))
    timed_rankings = [
        _timed(partial(rank, question.text, DEPTH, question.place))
        for question in conversation.questions
        if question.evidence
    ]
    return {
        "rankings": [_indices(ranking) for ranking, _ in timed_rankings],
        "turns": len(conversation.turns),
        "reused": encoders.reused - reused,
        "read_s": round(read_s, 4),
        "query_s": [round(seconds, 5) for _, seconds in timed_rankings],
    }


def _indices(ranking: Sequence[Hit]) -> list[int]:
    """Return a ranking of turns; raise `InputError` if the system returned texts instead."""
    if any(isinstance(hit, str) for hit in ranking):
        raise InputError(
            "this system returns rewritten texts, which have no evidence: use the benchmark qa"
        )
    return [int(hit) for hit in ranking]


def _timed(call: Callable[[], R]) -> tuple[R, float]:
    start = time.perf_counter()
    value = call()
    return value, time.perf_counter() - start


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; return 0, or 2 after an error message."""
    options = _parser().parse_args(argv)
    result = {**setting("retrieval", argv), "datasets": []}
    try:
        encoders, systems = Encoders(options.device), options.system or DEFAULT_SYSTEMS
        with pool_of(options, RemoteRanker, systems, options.device) as pool:
            for dataset in load_all(options):
                with progress_bar() as progress:
                    rankings = rank_all(
                        dataset,
                        systems,
                        encoders,
                        folder=options.out,
                        limit=options.limit,
                        turns=options.turns,
                        dates=options.dates,
                        progress=progress,
                        pool=pool,
                    )
                for labelled in with_audit(rankings, options.audit):
                    result["datasets"].append(labelled.summary())
                    print(report(result["datasets"][-1], result), flush=True)
                if options.out:
                    write_json(options.out / "retrieval.json", result)
    except EvomemError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def report(entry: dict[str, Any], run: dict[str, Any]) -> str:
    """Return the report on one dataset: a description, followed by tables."""
    counts, rows = entry["counts"], entry["rows"]
    left_out = ", ".join(f"{n} left out ({why})" for why, n in counts["left_out"].items())
    others = [name for name in rows[0]["overall"] if name != "all"]
    kinds = list(rows[0]["types"])
    lines = [
        "",
        f"{entry['dataset']} ({entry['use']}) · {counts['conversations']} conversations, "
        f"{counts['turns']:,} turns · {counts['scored']:,} questions scored"
        + (f", {left_out}" if left_out else ""),
        f"{run['machine']} · " + " ".join(f"{k} {v}" for k, v in run["versions"].items()),
        f"95 % intervals: bootstrap over {entry['resampled']}",
        "",
        table(
            [
                "system",
                *DETAILED_TABLE_METRICS,
                *(f"{name} r@10" for name in others),
                "ms/turn",
                "ms/query",
            ],
            [
                [
                    row["system"],
                    *(_percent(row["overall"]["all"][column]) for column in DETAILED_TABLE_METRICS),
                    *(str(Interval(*row["overall"][name][MAIN_METRIC])) for name in others),
                    f"{row['ms_per_turn']:.2f}" if row["ms_per_turn"] is not None else "–",
                    f"{row['ms_per_query']:.2f}",
                ]
                for row in rows
            ],
        ),
        "",
        table(
            ["recall@10 by type", *kinds],
            [
                [row["system"], *(_percent(row["types"][kind][MAIN_METRIC]) for kind in kinds)]
                for row in rows
            ],
        ),
    ]
    return "\n".join(lines)


def _percent(interval: Sequence[float]) -> str:
    return f"{100 * interval[0]:.1f}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks retrieval",
        description=f"{(__doc__ or '').partition(chr(10))[0]}\n\nSYSTEM is one of\n{NAMES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    add_run_arguments(parser)
    add_ray_arguments(parser)
    parser.add_argument(
        "--system",
        action="append",
        metavar="SYSTEM",
        help=f"a system; may be repeated (default: {', '.join(DEFAULT_SYSTEMS)})",
    )
    return parser


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a retrieval run."""
    parser.add_argument("--device", help="where encoders run, such as cuda")
    parser.add_argument("--dates", action="store_true", help="put the date before every turn")
    parser.add_argument(
        "--audit",
        type=Path,
        metavar="FILE",
        help="corrected labels of LoCoMo, to score in addition to its own: errors.json of "
        "https://github.com/dial481/locomo-audit",
    )
    parser.add_argument(
        "--limit", type=positive, metavar="N", help="only the first N conversations"
    )
    parser.add_argument(
        "--turns",
        type=positive,
        metavar="N",
        help="only the first N turns of each conversation, and the questions about them",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="store rankings and results here, and resume from them",
    )
