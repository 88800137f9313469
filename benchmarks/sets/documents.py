"""Do systems find the passages that hold the answer in documents and long histories? One set per run.

The passages of a collection are added to an evomem database in the order of the file, in batches; then
its questions are searched. A resumed run does not repeat what an earlier run has stored and ranked.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from rich.progress import Progress

import evomem
from benchmarks.datasets.base import DatasetError
from benchmarks.quality.intervals import Interval, Resampling
from benchmarks.quality.metrics import DEPTH, score, set_f1
from benchmarks.reporting.log import Log
from benchmarks.reporting.output import finish, positive, progress_bar, setting, table
from benchmarks.sets.form import Collection, Passage, SetQuestion
from benchmarks.sets.table import SETS, Set
from benchmarks.systems.base import Evomem, System
from benchmarks.systems.encoders import Encoders
from benchmarks.systems.naming import NAMES, system_named
from evomem.errors import InputError

BATCH = 1024
"""Passages per write to a database."""
MAX_IN_MEMORY = 200_000
"""The maximum number of passages of a collection for a system that needs all of them in memory."""
CUTS = (1, 5, 10, 20)
F1_CUTS = (1, 5, 10)
DEFAULT_SYSTEMS = ("bm25", "evomem/hybrid")


class Index(Protocol):
    """The indexed passages of a collection."""

    def rank(self, question: str) -> list[str]:
        """Return the labels of the best passages, best first, without duplicates."""
        ...


@dataclass
class DatabaseIndex:
    """Passages in a memory of an evomem database; they are never all in RAM."""

    memory: evomem.Memory
    mode: Any

    def read(self, passages: Iterator[Passage]) -> None:
        """Add the passages after the first `len(memory)`, which the database already holds."""
        unread = islice(passages, len(self.memory), None)
        while batch := list(islice(unread, BATCH)):
            self.memory.add_many(
                replace(passage.turn, metadata={"label": passage.label}) for passage in batch
            )

    def rank(self, question: str) -> list[str]:
        """See `Index.rank`."""
        hits = self.memory.search(question, DEPTH, mode=self.mode)
        return list(dict.fromkeys(str(hit.record.turn.metadata["label"]) for hit in hits))


class InMemoryIndex:
    """Passages in RAM, for systems that read a conversation as a whole."""

    def __init__(self, system: System, passages: Iterator[Passage], name: str) -> None:
        """Read all passages; messages call the system `name`.

        Raises:
            InputError: There are more than `MAX_IN_MEMORY` passages.
        """
        all_passages = list(islice(passages, MAX_IN_MEMORY + 1))
        if len(all_passages) > MAX_IN_MEMORY:
            raise InputError(
                f"{name} needs all passages in memory, but there are more than {MAX_IN_MEMORY:,}: "
                f"use evomem/MODE, such as evomem/lexical"
            )
        self._labels = [passage.label for passage in all_passages]
        turns = [passage.turn for passage in all_passages]
        self._rank = system.index(turns) if turns else None

    def rank(self, question: str) -> list[str]:
        """See `Index.rank`."""
        places = self._rank(question, DEPTH) if self._rank else []
        return list(
            dict.fromkeys(self._labels[place] for place in places if isinstance(place, int))
        )


@dataclass
class RankedQuestions:
    """The scored questions of a set, whose rankings are in the systems' logs."""

    questions: list[tuple[str, SetQuestion]] = field(default_factory=list)
    """(collection, question)."""
    left_out: Counter[str] = field(default_factory=Counter)
    collections: int = 0

    def scores(self, log: Log) -> list[dict[str, float]]:
        """Return the metrics of every question, from a system's log."""
        return [
            {
                **score(log.results[question.id]["labels"], question.evidence, CUTS),
                **{
                    f"f1@{k}": set_f1(log.results[question.id]["labels"], question.evidence, k)
                    for k in F1_CUTS
                },
            }
            for _, question in self.questions
        ]


def rank_set(
    dataset: Set,
    path: Path,
    logs: dict[str, Log],
    encoders: Encoders,
    folder: Path | None,
    *,
    limit: int | None = None,
    questions: int | None = None,
    progress: Progress | None = None,
) -> RankedQuestions:
    """Rank the passages with every system for every question that is not in its log yet.

    Args:
        dataset: The set.
        path: The set's files.
        logs: System → its rankings.
        encoders: The encoders of the systems.
        folder: Where to put databases while they are in use; None keeps them in memory.
        limit: Use only the first `limit` collections.
        questions: Use only the first `questions` questions of each collection.
        progress: Where to draw a progress bar.

    Raises:
        DatasetError: A file is not in the published layout, or no question has evidence.
        EvomemError: A system cannot be created, or fails.
    """
    ranked = RankedQuestions()
    task = progress.add_task(path.name, total=limit) if progress else None
    for collection in islice(dataset.read(path), limit):
        ranked.collections += 1
        selected = list(islice(collection.questions, questions))
        ranked.left_out.update(
            question.why_left_out for question in selected if not question.evidence
        )
        scored = [question for question in selected if question.evidence]
        ranked.questions += [(collection.id, question) for question in scored]
        files: set[Path] = set()
        for name, log in logs.items():
            open_questions = [question for question in scored if question.id not in log]
            if open_questions:
                with _index(name, collection, encoders, folder, files) as index:
                    for question in open_questions:
                        start = time.perf_counter()
                        labels = index.rank(question.text)
                        seconds = round(time.perf_counter() - start, 5)
                        log.add(question.id, {"labels": labels, "query_s": seconds})
        for file in files:  # the rankings are complete, so the databases are no longer needed
            for part in file.parent.glob(f"{file.name}*"):
                part.unlink()
        if progress and task is not None:
            progress.advance(task)
    if not ranked.questions:
        raise DatasetError(
            f"{path}: no question has evidence; left out: {dict(ranked.left_out) or 'there is none'}"
        )
    counts = Counter(question.id for _, question in ranked.questions)
    duplicates = [id for id, count in counts.items() if count > 1]
    if duplicates:
        raise DatasetError(f"{path}: two questions have the id {duplicates[0]!r}")
    return ranked


@contextmanager
def _index(
    name: str, collection: Collection, encoders: Encoders, folder: Path | None, files: set[Path]
) -> Iterator[Index]:
    """Yield the index of a collection for the system `name`; add the databases it creates to `files`."""
    system = system_named(name, encoders)
    if not isinstance(system, Evomem):
        yield InMemoryIndex(system, collection.passages(), name)
        return
    location: str | Path = ":memory:"
    if folder:
        # Systems with the same encoder share a database; one of another encoder cannot be opened.
        key = hashlib.sha256(f"{collection.id}\n{system.fingerprint}".encode()).hexdigest()[:16]
        plain = re.sub(r"[^\w.-]+", "_", collection.id)[-40:]
        location = folder / f"{plain}-{key}.db"
        folder.mkdir(parents=True, exist_ok=True)
        files.add(location)
    with evomem.open(location, encoder=system.encoder) as db:
        stored = DatabaseIndex(db.memory("bench"), system.mode)
        stored.read(collection.passages())
        yield stored


def summary(ranked: RankedQuestions, logs: dict[str, Log]) -> dict[str, Any]:
    """Return counts, and the metrics of every system, overall and by question type."""
    kinds = [question.type for _, question in ranked.questions]
    overall_resampling = Resampling([id for id, _ in ranked.questions], kinds)
    rows = []
    for name, log in logs.items():
        scores = ranked.scores(log)
        metrics = list(scores[0])
        overall = {
            group: {
                m: _values(overall_resampling.interval([s[m] for s in scores], macro=macro))
                for m in metrics
            }
            for group, macro in (("all", False), ("macro", True))
        }
        types = {}
        for kind in sorted(set(kinds)):
            part = [n for n, other in enumerate(kinds) if other == kind]
            ids = [ranked.questions[n][0] for n in part]
            resampling = Resampling(ids, [kind] * len(part))
            types[kind] = {
                m: _values(resampling.interval([scores[n][m] for n in part])) for m in metrics
            }
        rows.append({"system": name, "overall": overall, "types": types})
    return {
        "counts": {
            "collections": ranked.collections,
            "questions": len(kinds) + sum(ranked.left_out.values()),
            "scored": len(kinds),
            "left_out": dict(ranked.left_out),
        },
        "resampled": overall_resampling.unit,
        "rows": rows,
    }


def _values(interval: Interval) -> list[float]:
    return [interval.mean, interval.low, interval.high]


def report(name: str, dataset: Set, result: dict[str, Any]) -> str:
    """Return the report: what was scored, our figures, and published figures."""
    counts = result["counts"]
    left_out = ", ".join(f"{n} left out ({why})" for why, n in counts["left_out"].items())
    kinds = list(result["rows"][0]["types"])
    groups = ["all", *(kinds if len(kinds) > 1 else [])]
    rows = []
    for group in groups:
        for row in result["rows"]:
            scores = row["overall"]["all"] if group == "all" else row["types"][group]
            label = row["system"] if len(groups) == 1 else f"{group} · {row['system']}"
            rows.append(
                [label, *(str(Interval(*scores[metric])) for metric in dataset.table_metrics)]
            )
    lines = [
        f"\n{name} · {counts['collections']:,} collections · {counts['scored']:,} questions scored"
        + (f", {left_out}" if left_out else ""),
        f"95 % intervals: bootstrap over {result['resampled']}",
        "",
        table(["%", *dataset.table_metrics], rows),
    ]
    if dataset.published:
        lines += ["", "as published, not measured here:"]
        lines += [
            f"  {row.system}: {', '.join(f'{m} {v:g}' for m, v in row.scores.items())}"
            for row in dataset.published
        ]
        lines += [
            f"  source: {source}" for source in sorted({row.source for row in dataset.published})
        ]
    return "\n".join(lines)


def digest_of(dataset: Set, path: Path) -> str:
    """Return the SHA-256 of the files of a set.

    Raises:
        DatasetError: A file is missing; the message names its source.
    """
    files = sorted({file for pattern in dataset.files for file in path.glob(pattern)}) or [path]
    missing = [
        pattern for pattern in dataset.files if not any(path.glob(pattern)) and "**" not in pattern
    ]
    if missing or not files[0].is_file():
        if missing and path.is_dir() and any(path.glob(missing[0].replace(".json", ".pkl"))):
            return ""  # the reader raises an error with the remedy
        if not path.exists():
            problem = f"{path} does not exist"
        elif dataset.files and path.is_dir():
            problem = f"{path} has no {(missing or dataset.files)[0]}"
        else:
            problem = f"{path} is not a {'folder' if dataset.files else 'file'}"
        raise DatasetError(f"{problem}: get the set from {dataset.where}")
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while piece := stream.read(1 << 20):
                digest.update(piece)
    return digest.hexdigest()


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; return 0, or 2 after an error message."""
    options = _parser().parse_args(argv)
    dataset = SETS[options.set]
    result: dict[str, Any] = {**setting("documents", argv), "dataset": options.set}
    folder = options.out / "documents" / options.set if options.out else None

    def run() -> None:
        sha256 = digest_of(dataset, options.path)
        encoders = Encoders(options.device)
        names = options.system or DEFAULT_SYSTEMS
        logs = {
            name: Log(
                folder, name, _header(options.set, sha256, name, system_named(name, encoders))
            )
            for name in names
        }
        with progress_bar() as progress:
            ranked = rank_set(
                dataset,
                options.path,
                logs,
                encoders,
                folder,
                limit=options.limit,
                questions=options.questions,
                progress=progress,
            )
        published = [
            {"system": row.system, "scores": dict(row.scores), "source": row.source}
            for row in dataset.published
        ]
        result.update(summary(ranked, logs), sha256=sha256, published=published)
        print(report(options.set, dataset, result))

    out = options.out / f"documents_{options.set}.json" if options.out else None
    return finish(result, out, run)


def _header(name: str, sha256: str, system_name: str, system: System) -> dict[str, Any]:
    return {
        "documents": 1,  # the version of the format; increase it when the meaning of a line changes
        "dataset": name,
        "sha256": sha256,
        "system": system_name,
        "fingerprint": system.fingerprint,
        "depth": DEPTH,
    }


def _parser() -> argparse.ArgumentParser:
    sets = "\n".join(
        f"  {name:<17} {dataset.what}\n{'':<20}{dataset.where} · {dataset.licence}"
        for name, dataset in SETS.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks documents",
        description=f"{(__doc__ or '').partition(chr(10))[0]}\n\nSET is one of\n{sets}\n\nSYSTEM is one of\n{NAMES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("path", type=Path, metavar="PATH", help="the set's file or folder")
    parser.add_argument("--set", choices=SETS, required=True, metavar="SET")
    parser.add_argument(
        "--system",
        action="append",
        metavar="SYSTEM",
        help=f"a system; may be repeated (default: {', '.join(DEFAULT_SYSTEMS)})",
    )
    parser.add_argument("--device", help="where encoders run, such as cuda")
    parser.add_argument("--limit", type=positive, metavar="N", help="only the first N collections")
    parser.add_argument(
        "--questions", type=positive, metavar="N", help="only the first N questions per collection"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="store rankings and results here, and resume from them",
    )
    return parser
