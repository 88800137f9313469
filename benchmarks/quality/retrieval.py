"""Are the turns that hold the answer found? Turn-level evidence in real, labelled conversations.

Every utterance of a question's own conversation is a candidate, and nothing else is. A system reads
the conversation once, turn by turn, and then answers all of its questions.
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

from benchmarks.datasets import Conversation, Dataset, DatasetError, Question, with_dates
from benchmarks.datasets.find import DEVELOPMENT, MESSAGES, add_arguments, load_all
from benchmarks.datasets.locomo import corrected
from benchmarks.quality.intervals import Interval, Resampling
from benchmarks.quality.metrics import CUTS, DEPTH, score
from benchmarks.reporting.log import Log
from benchmarks.reporting.output import positive, progress_bar, setting, table, write_json
from benchmarks.spreading import add_ray_arguments, pool_of, results_of
from benchmarks.systems.base import Hit, System
from benchmarks.systems.encoders import Encoders
from benchmarks.systems.naming import NAMES, system_named
from evomem.errors import EvomemError, InputError
from evomem.fleet.pool import Pool

DEFAULT_SYSTEMS = ("bm25", "static", "static+bm25", "evomem/evolvable", "evomem/hybrid")
WITHOUT = "adversarial"  # LoCoMo's category 5, which papers often leave out
COLUMNS = ("recall@1", "recall@5", "recall@10", "recall_all@10", "ndcg@10", "mrr")

R = TypeVar("R")


@dataclass(frozen=True)
class Rankings:
    """What every system ranked first, for every question that can be scored."""

    dataset: Dataset
    dates: bool
    results: Mapping[str, Mapping[str, Any]]
    """System → conversation → `rankings` of its scored questions, and times."""

    @cached_property
    def questions(self) -> list[tuple[Conversation, Question]]:
        """Every scored question with its conversation, in the order of all values."""
        return [
            (conversation, q)
            for conversation in self.dataset.conversations
            for q in conversation.questions
            if q.evidence
        ]

    @cached_property
    def resampling(self) -> Resampling:
        """Draws of these questions."""
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
        """Return ms per turn, None where turns were known already, and the median ms per query."""
        spent = list(self.results[system].values())
        fresh = [cost for cost in spent if not cost["reused"]]
        turns = sum(cost["turns"] for cost in fresh)
        return {
            "ms_per_turn": 1000 * sum(cost["read_s"] for cost in fresh) / turns if turns else None,
            "ms_per_query": 1000 * median(s for cost in spent for s in cost["query_s"]),
        }

    def summary(self, cuts: Sequence[int] = CUTS) -> dict[str, Any]:
        """Return everything that a table needs, as JSON values."""
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
        """Return the same rankings with the labels of `dataset`, whose scored questions are the same."""
        return Rankings(dataset, self.dates, self.results)

    def difference(self, system: str, other: str, metric: str) -> Interval:
        """Return how much better `system` is than `other`, mean over types, question by question."""
        values = ([row[metric] for row in self.scores(name)] for name in (system, other))
        return self.resampling.difference(*values, macro=True)

    def _groups(self, system: str, cuts: Sequence[int]) -> dict[str, Any]:
        rows = self.scores(system, cuts)
        kinds = [question.type for _, question in self.questions]
        groups = {"all": self._intervals(rows), "macro": self._intervals(rows, macro=True)}
        if WITHOUT in kinds and set(kinds) != {WITHOUT}:
            keep = [n for n, kind in enumerate(kinds) if kind != WITHOUT]
            groups[f"no {WITHOUT}"] = self._part(rows, keep)
        types = {
            kind: self._part(rows, [n for n, other in enumerate(kinds) if other == kind])
            for kind in sorted(set(kinds))
        }
        return {"overall": groups, "types": types}

    def _part(self, rows: list[dict[str, float]], keep: list[int]) -> dict[str, Any]:
        questions = [self.questions[n] for n in keep]
        resampling = Resampling([c.id for c, _ in questions], [q.type for _, q in questions])
        return _with_intervals(resampling, [rows[n] for n in keep])

    def _intervals(self, rows: list[dict[str, float]], *, macro: bool = False) -> dict[str, Any]:
        return _with_intervals(self.resampling, rows, macro=macro)


def _with_intervals(
    resampling: Resampling, rows: list[dict[str, float]], *, macro: bool = False
) -> dict[str, Any]:
    """Return [mean, low, high] of every metric."""
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
    dates: bool = False,
    progress: Progress | None = None,
    pool: Pool | None = None,
) -> Rankings:
    """Let every system rank the turns for every question; what `folder` holds is not done again.

    Args:
        dataset: What is asked.
        systems: Names (`benchmarks.systems.naming`).
        encoders: Where their encoders come from.
        folder: Where rankings are kept, a file for each dataset and system; None keeps nothing.
        limit: Only the first so many conversations.
        dates: Put the date in front of every turn.
        progress: Where to draw a bar.
        pool: Where conversations are read; None for here, one after another.

    Raises:
        DatasetError: No question of these conversations can be scored.
        EvomemError: A system cannot be made, or fails.
    """
    dataset = replace(dataset, conversations=dataset.conversations[:limit])
    if not dataset.counts()["scored"]:
        raise DatasetError(
            f"{dataset.path}: no question has evidence; left out: {dataset.counts()['left_out']}"
        )
    made = {name: system_named(name, encoders) for name in systems}
    logs = {
        name: Log(folder and folder / dataset.name, name, _header(dataset, name, system, dates))
        for name, system in made.items()
    }
    # neighbours share their beginnings, which an encoder then reads once
    chosen = sorted(
        (talk for talk in dataset.conversations if any(q.evidence for q in talk.questions)),
        key=lambda talk: [turn.text for turn in talk.turns],
    )
    task = progress.add_task(dataset.name, total=len(made) * len(chosen)) if progress else None
    jobs = {
        f"{conversation.id} {name}": (name, conversation)
        for conversation in (map(with_dates, chosen) if dates else chosen)
        for name in made
        if conversation.id not in logs[name]
    }
    if progress and task is not None:
        progress.advance(task, len(made) * len(chosen) - len(jobs))
    for key, result in results_of(Ranker(encoders, made), pool, jobs):
        name, conversation = jobs[key]
        logs[name].add(conversation.id, result)
        if progress and task is not None:
            progress.advance(task)
    ids = {talk.id for talk in chosen}
    results = {
        name: {id: result for id, result in log.results.items() if id in ids}
        for name, log in logs.items()
    }
    return Rankings(dataset, dates, results)


def with_audit(rankings: Rankings, audit: Path | None) -> list[Rankings]:
    """Return the rankings, and for LoCoMo the same ones with an audit's labels, if there is one."""
    if audit is None or rankings.dataset.name != "locomo":
        return [rankings]
    return [rankings, rankings.relabelled(corrected(rankings.dataset, audit))]


def _header(dataset: Dataset, name: str, system: System, dates: bool) -> dict[str, Any]:
    return {
        "rankings": 1,  # grows when a change of code changes what a line means
        "dataset": dataset.name,
        "sha256": dataset.sha256,
        "system": name,
        "fingerprint": system.fingerprint,
        "dates": dates,
        "depth": DEPTH,
    }


class Ranker:
    """Reads conversations, and asks those of their questions that can be scored."""

    def __init__(self, encoders: Encoders, systems: Mapping[str, System]) -> None:
        self._encoders, self._systems = encoders, systems

    def run(self, job: tuple[str, Conversation]) -> dict[str, Any]:
        """Let a system read a conversation, and ask behind its last turn."""
        name, conversation = job
        return _ask(self._systems[name], conversation, self._encoders)


class RemoteRanker(Ranker):
    """One in a process of its own."""

    def __init__(self, systems: Sequence[str], device: str | None) -> None:
        encoders = Encoders(device)
        super().__init__(encoders, {name: system_named(name, encoders) for name in systems})


def _ask(system: System, conversation: Conversation, encoders: Encoders) -> dict[str, Any]:
    """Read a conversation and ask those of its questions that can be scored, after its last turn."""
    reused = encoders.reused
    rank, read_s = _timed(partial(system.index, conversation.turns))
    count = len(conversation.turns)
    questions = [question for question in conversation.questions if question.evidence]
    asked = [
        _timed(partial(rank, question.text, DEPTH if question.place is None else count))
        for question in questions
    ]
    rankings = [
        [hit for hit in _indices(ranking) if question.place is None or hit < question.place]
        for question, (ranking, _) in zip(questions, asked, strict=True)
    ]
    return {
        "rankings": [ranking[:DEPTH] for ranking in rankings],
        "turns": len(conversation.turns),
        "reused": encoders.reused - reused,
        "read_s": round(read_s, 4),
        "query_s": [round(seconds, 5) for _, seconds in asked],
    }


def _indices(ranking: Sequence[Hit]) -> list[int]:
    """Return a ranking of turns; texts of a system's own cannot be compared with evidence."""
    if any(isinstance(hit, str) for hit in ranking):
        raise InputError("this system returns texts of its own: measure its answers, with qa")
    return [int(hit) for hit in ranking]


def _timed(call: Callable[[], R]) -> tuple[R, float]:
    start = time.perf_counter()
    value = call()
    return value, time.perf_counter() - start


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; return 0, or 2 after saying what is wrong."""
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
    """Return the readable report on one dataset: what it is, then a table."""
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
            ["system", *COLUMNS, *(f"{name} r@10" for name in others), "ms/turn", "ms/query"],
            [
                [
                    row["system"],
                    *(_percent(row["overall"]["all"][column]) for column in COLUMNS),
                    *(str(Interval(*row["overall"][name]["recall@10"])) for name in others),
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
                [row["system"], *(_percent(row["types"][kind]["recall@10"]) for kind in kinds)]
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
        help=f"what to compare; may be repeated; {', '.join(DEFAULT_SYSTEMS)} if not given",
    )
    return parser


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add how a retrieval run is done."""
    parser.add_argument("--device", help="where encoders run, such as cuda")
    parser.add_argument("--dates", action="store_true", help="put the date in front of every turn")
    parser.add_argument(
        "--audit",
        type=Path,
        metavar="FILE",
        help="corrected labels of LoCoMo, scored beside its own: errors.json of "
        "https://github.com/dial481/locomo-audit",
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="only N conversations of each")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="keep rankings and results here, and resume"
    )
