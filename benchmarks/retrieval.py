"""Are the turns that hold the answer found? Turn-level evidence in real, labelled conversations.

Every utterance of a question's own conversation is a candidate, and nothing else is. A system reads
the conversation once, turn by turn, and then answers all of its questions.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.datasets import Conversation, Dataset, DatasetError, with_dates
from benchmarks.datasets.find import DEVELOPMENT, add_arguments, load_all
from benchmarks.metrics import DEPTH, score, summarise
from benchmarks.output import setting, table, write_json
from benchmarks.systems import Bm25, Evomem, Static, System
from evomem import Encoder, Turn, load_encoder
from evomem.errors import EvomemError
from evomem.plugins import DEFAULT_ENCODER

SYSTEMS = ("bm25", *Static.ROWS, "evomem")
DEFAULT_SYSTEMS = ("bm25", "static", "hybrid", "evomem")
WITHOUT = "adversarial"  # LoCoMo's category 5, which papers often leave out
COLUMNS = ("recall@1", "recall@5", "recall@10", "recall@20", "recall_all@10", "ndcg@10", "mrr")
WARM_UP = [Turn(user="I moved to Oslo."), Turn(assistant="How do you like it?")]

R = TypeVar("R")


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; return 0, or 2 after saying what is wrong."""
    options = _parser().parse_args(argv)
    result = {**setting("retrieval", argv), "dates": options.dates, "datasets": []}
    try:
        datasets = load_all(options)
        systems = list(_systems(options))
        for dataset in datasets:
            with _progress() as progress:
                entry = evaluate(dataset, systems, options.limit, options.dates, progress)
            result["datasets"].append(entry)
            print(report(entry, result), flush=True)
            if options.out:
                write_json(options.out, result)  # after each: a long run may be interrupted
    except EvomemError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.out:
        print(f"written to {options.out}")
    return 0


@dataclass
class _Tally:
    """What is measured of one row while the conversations pass by."""

    scored: list[tuple[str, dict[str, float]]] = field(default_factory=list)
    query: list[tuple[float, float]] = field(default_factory=list)


def evaluate(
    dataset: Dataset,
    systems: Sequence[System],
    limit: int | None = None,
    dates: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Return counts and, for every row of every system, metrics and times.

    Args:
        dataset: What is asked.
        systems: What is compared.
        limit: Only the first so many conversations.
        dates: Put the date in front of every turn.
        progress: Where to draw a bar.

    Raises:
        DatasetError: No question of these conversations can be scored.
    """
    dataset = replace(dataset, conversations=dataset.conversations[:limit])
    counts = dataset.counts()
    if not counts["scored"]:
        raise DatasetError(
            f"{dataset.path}: no question has evidence; left out: {counts['left_out']}"
        )
    chosen = [each for each in dataset.conversations if any(q.evidence for q in each.questions)]
    turns = sum(len(each.turns) for each in chosen)
    task = progress.add_task(dataset.name, total=len(systems) * len(chosen)) if progress else None
    rows: list[dict[str, Any]] = []
    for system in systems:
        system.index(WARM_UP)
        tallies = {name: _Tally() for name in system.rows}
        write = [0.0, 0.0]
        for conversation in chosen:
            spent = _ask(system, with_dates(conversation) if dates else conversation, tallies)
            write = [total + part for total, part in zip(write, spent, strict=True)]
            if progress and task is not None:
                progress.advance(task)
        for name, tally in tallies.items():
            rows.append(
                {
                    "system": name,
                    **summarise(tally.scored, WITHOUT),
                    "ms_per_turn": 1000 * write[0] / turns,
                    "ms_per_query": 1000 * median(wall for wall, _ in tally.query),
                    "write_cpu_s": write[1],
                    "query_cpu_s": sum(cpu for _, cpu in tally.query),
                }
            )
    return {
        "dataset": dataset.name,
        "file": dataset.path.name,
        "sha256": dataset.sha256,
        "use": "development" if dataset.name in DEVELOPMENT else "reporting",
        "counts": counts,
        "rows": rows,
    }


def _ask(
    system: System, conversation: Conversation, tallies: dict[str, _Tally]
) -> tuple[float, float]:
    """Read a conversation and ask its questions; return wall and CPU seconds of the reading."""
    ranks, *write = _timed(partial(system.index, conversation.turns))
    for question in conversation.questions:
        if not question.evidence:
            continue
        for name, rank in ranks.items():
            ranking, *query = _timed(partial(rank, question.text, DEPTH))
            tallies[name].scored.append((question.type, score(ranking, question.evidence)))
            tallies[name].query.append((query[0], query[1]))
    return write[0], write[1]


def _timed(call: Callable[[], R]) -> tuple[R, float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    value = call()
    return value, time.perf_counter() - wall, time.process_time() - cpu


def report(entry: dict[str, Any], run: dict[str, Any]) -> str:
    """Return what a person reads about one dataset: what it is, then a table."""
    counts, rows = entry["counts"], entry["rows"]
    left_out = ", ".join(f"{n} left out ({why})" for why, n in counts["left_out"].items())
    overall = list(rows[0]["overall"])
    others = [name for name in overall if name != "all"]
    kinds = list(rows[0]["types"])
    lines = [
        "",
        f"{entry['dataset']} ({entry['use']}) · {counts['conversations']} conversations, "
        f"{counts['turns']:,} turns · {counts['scored']:,} questions scored"
        + (f", {left_out}" if left_out else ""),
        f"{run['machine']} · " + " ".join(f"{k} {v}" for k, v in run["versions"].items()),
        "",
        table(
            ["system", *COLUMNS, *(f"{name} r@10" for name in others), "ms/turn", "ms/query"],
            [
                [
                    row["system"],
                    *(f"{row['overall']['all'][column]:.3f}" for column in COLUMNS),
                    *(f"{row['overall'][name]['recall@10']:.3f}" for name in others),
                    f"{row['ms_per_turn']:.2f}",
                    f"{row['ms_per_query']:.2f}",
                ]
                for row in rows
            ],
        ),
        "",
        table(
            ["recall@10 by type", *kinds],
            [
                [row["system"], *(f"{row['types'][kind]['recall@10']:.3f}" for kind in kinds)]
                for row in rows
            ],
        ),
    ]
    return "\n".join(lines)


def _systems(options: argparse.Namespace) -> Iterator[System]:
    chosen = options.system or list(DEFAULT_SYSTEMS)
    loaded: dict[str, Encoder] = {}

    def encoder(name: str) -> Encoder:
        if name not in loaded:
            loaded[name] = load_encoder(name, device=options.device)
        return loaded[name]

    if "bm25" in chosen:
        yield Bm25()
    vectors = tuple(name for name in Static.ROWS if name in chosen)
    if vectors:
        yield Static(encoder(DEFAULT_ENCODER), vectors)
    if "evomem" in chosen:
        for number, name in enumerate(options.encoder or [DEFAULT_ENCODER]):
            yield Evomem(encoder(name), Evomem.MODES if number == 0 else Evomem.VECTOR_MODES)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks retrieval", description=(__doc__ or "").partition("\n")[0]
    )
    add_arguments(parser)
    parser.add_argument(
        "--system",
        action="append",
        choices=SYSTEMS,
        help=f"what to compare; may be repeated; {', '.join(DEFAULT_SYSTEMS)} if not given",
    )
    parser.add_argument(
        "--encoder",
        action="append",
        metavar="NAME",
        help="encoder of the evomem rows, such as evoembedding:/path or hash; may be repeated; "
        f"{DEFAULT_ENCODER} if not given",
    )
    parser.add_argument("--device", help="where encoders run, such as cuda")
    parser.add_argument("--dates", action="store_true", help="put the date in front of every turn")
    parser.add_argument("--limit", type=_positive, metavar="N", help="only N conversations of each")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write everything here as JSON")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number
