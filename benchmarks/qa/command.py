"""`python -m benchmarks qa`: question answering from memory, for every dataset and system."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.datasets import Dataset
from benchmarks.datasets.find import DEVELOPMENT, add_arguments, load_all
from benchmarks.qa import official, summary
from benchmarks.qa.contexts import Context
from benchmarks.qa.endpoint import (
    RETRIES,
    TIMEOUT,
    Endpoint,
    add_endpoint_arguments,
    endpoint_of,
)
from benchmarks.qa.stages import RemoteRetriever, RunSettings, Task, judge, read, retrieve
from benchmarks.quality.intervals import Interval
from benchmarks.quality.metrics import QA_TABLE_METRICS
from benchmarks.reporting.log import Log
from benchmarks.reporting.output import positive, progress_bar, setting, table, write_json
from benchmarks.reporting.plots import draw_accuracy
from benchmarks.spreading import add_ray_arguments, pool_of
from benchmarks.systems.encoders import Encoders
from benchmarks.systems.naming import NAMES
from evomem.errors import EvomemError

DEFAULT_SYSTEMS = ("recency", "bm25", "static", "evomem/hybrid")


@dataclass(frozen=True, slots=True)
class Models:
    """The language models that read and judge; None skips the stage."""

    reader: Endpoint | None
    judge: Endpoint | None


def main(argv: Sequence[str]) -> int:
    """Run the stages; return 0, or 2 after an error message."""
    options = _parser().parse_args(argv)
    models = Models(endpoint_of(options, "reader"), endpoint_of(options, "judge"))
    contexts = [*(Context(k=k) for k in options.k), *(Context(tokens=n) for n in options.budget)]
    result: dict[str, Any] = {
        **setting("qa", argv),
        "reader": models.reader and models.reader.model,
        "judge": models.judge and models.judge.model,
        "datasets": [],
    }
    encoders = Encoders(options.device)
    try:
        for dataset in load_all(options):
            dataset = replace(dataset, conversations=dataset.conversations[: options.limit])
            entry = _dataset_entry(dataset)
            result["datasets"].append(entry)
            for system in options.system or DEFAULT_SYSTEMS:
                task = Task(dataset, system, options.dates)
                system_contexts = [Context()] if system == "full" else contexts
                remote = pool_of(options, RemoteRetriever, system, options.device, options.dates)
                with progress_bar() as progress, remote as pool:
                    folder = options.out / dataset.name
                    settings = RunSettings(
                        folder, options.parallel, options.workers, progress, pool
                    )
                    entry["systems"][system] = _run_stages(
                        task, encoders, system_contexts, models, settings, options
                    )
                write_json(options.out / "qa.json", result)
            print(report(entry), flush=True)
            _plot(entry, options.out)
    except EvomemError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _dataset_entry(dataset: Dataset) -> dict[str, Any]:
    return {
        "dataset": dataset.name,
        "file": dataset.path.name,
        "sha256": dataset.sha256,
        "use": "development" if dataset.name in DEVELOPMENT else "reporting",
        "counts": dataset.counts(),
        "systems": {},
    }


def _run_stages(
    task: Task,
    encoders: Encoders,
    contexts: Sequence[Context],
    models: Models,
    settings: RunSettings,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Run all stages of one system on one dataset; return their figures."""
    retrieved = retrieve(task, encoders, settings)
    entry: dict[str, Any] = {
        "retrieval": summary.retrieval(task, retrieved.results),
        "contexts": {},
    }
    for context in contexts if models.reader else ():
        assert models.reader
        answers = read(task, retrieved, context, models.reader, settings)
        verdicts = judge(task, answers, context, models.judge, settings) if models.judge else None
        entry["contexts"][context.name] = summary.answers(
            task, answers.results, verdicts.results if verdicts else None
        )
        if task.dataset.name == "longmemeval":
            path = _path_next_to(answers, "hypotheses")
            official.write_hypotheses(answers.results, path)
            if options.official_repo and options.official_judge:
                arguments = (options.official_judge, str(path), str(task.dataset.path))
                script = "evaluate_qa.py"
                output = official.run_script(options.official_repo, script, *arguments)
                entry["contexts"][context.name]["official_script"] = _accuracy(output)
    if task.dataset.name == "longmemeval":
        path = _path_next_to(retrieved, "retrievallog_turn")
        entry["official"] = official.write_retrieval_log(task.dataset, retrieved.results, path)
        if options.official_repo:
            script = "print_retrieval_metrics.py"
            entry["official_script"] = official.run_script(options.official_repo, script, str(path))
    return entry


def _accuracy(output: str) -> str:
    """Return the part of the official judge's output after its list of answers."""
    return output[output.rfind("Accuracy:") :].strip()


def _path_next_to(log: Log, what: str) -> Path:
    assert log.path
    return log.path.with_name(f"{what}-{log.name}.jsonl")


def report(entry: dict[str, Any]) -> str:
    """Return the report on one dataset."""
    counts = entry["counts"]
    lines = [
        f"\n{entry['dataset']} ({entry['use']}) · {counts['conversations']} conversations, "
        f"{counts['questions']:,} questions\n",
        _retrieval_table(entry["systems"]),
    ]
    rows = [
        [system, context, *_answer_cells(figures)]
        for system, entry_of_system in entry["systems"].items()
        for context, figures in entry_of_system["contexts"].items()
    ]
    if rows:
        head = ["system", "context", "questions", "judged, %", "macro", "f1", "exact"]
        head += ["tokens/prompt", "read tokens", "judge tokens"]
        lines += ["", table(head, rows)]
    for system, entry_of_system in entry["systems"].items():
        for name, figures in [("retrieval", entry_of_system), *entry_of_system["contexts"].items()]:
            if "official_script" in figures:
                output = figures["official_script"]
                lines.append(f"\n{system}, {name}, by LongMemEval's own script:\n{output}")
    return "\n".join(lines)


def _retrieval_table(systems: dict[str, Any]) -> str:
    rows = []
    for system, stages in systems.items():
        retrieval = stages["retrieval"]
        cells = [
            str(Interval(*retrieval["figures"][f"all {metric}"])) if retrieval["figures"] else "–"
            for metric in QA_TABLE_METRICS
        ]
        cells += [f"{retrieval['ingest_tokens']:,}", f"{retrieval['ingest_s']:.1f}"]
        rows.append(
            [system, *cells, f"{retrieval['retrieve_tokens']:,}", f"{retrieval['retrieve_s']:.1f}"]
        )
    head = ["retrieval, %", *QA_TABLE_METRICS, "ingest tokens", "s", "question tokens", "s"]
    return table(head, rows)


def _answer_cells(figures: dict[str, Any]) -> list[str]:
    def interval(name: str, group: str) -> str:
        return str(Interval(*figures[name][group])) if name in figures else "–"

    return [
        str(figures["questions"]),
        interval("judged", "all"),
        interval("judged", "macro"),
        interval("f1", "all"),
        interval("exact", "all"),
        f"{figures['prompt_tokens']:.0f}",
        f"{figures['read_tokens']:,}",
        f"{figures['judge_tokens']:,}",
    ]


def _plot(entry: dict[str, Any], folder: Path) -> None:
    """Plot accuracy (F1 without a judge) against the tokens per prompt."""
    for measure in ("judged", "f1"):
        lines = {
            system: [
                (figures["prompt_tokens"], figures[measure]["all"][0])
                for figures in stages["contexts"].values()
                if measure in figures
            ]
            for system, stages in entry["systems"].items()
        }
        lines = {system: points for system, points in lines.items() if points}
        if lines:
            draw_accuracy(lines, measure, folder / f"qa_{entry['dataset']}.svg")
            return


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks qa",
        description=f"Are questions answered from memory?\n\nSYSTEM is one of\n{NAMES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", required=True, help="also resumed from"
    )
    parser.add_argument("--system", action="append", metavar="SYSTEM", help="may be repeated")
    parser.add_argument("--device", help="where encoders run, such as cuda")
    parser.add_argument("--dates", action="store_true", help="put dates before turns and questions")
    parser.add_argument(
        "--limit", type=positive, metavar="N", help="only the first N conversations"
    )
    parser.add_argument(
        "--k", type=positive, nargs="*", default=[8], help="turns per prompt, one run per value"
    )
    parser.add_argument(
        "--budget",
        type=positive,
        nargs="*",
        default=[],
        help="tokens per prompt, one run per value",
    )
    add_endpoint_arguments(parser, "reader", max_tokens=256)
    add_endpoint_arguments(parser, "judge", max_tokens=16)
    parser.add_argument("--timeout", type=float, default=TIMEOUT, help="seconds per request")
    parser.add_argument("--retries", type=int, default=RETRIES, help="retries of a failed request")
    parser.add_argument("--parallel", type=positive, default=8, help="questions read concurrently")
    parser.add_argument(
        "--workers", type=positive, default=1, help="histories ingested concurrently"
    )
    add_ray_arguments(parser)
    parser.add_argument(
        "--official-repo", type=Path, metavar="PATH", help="a checkout of xiaowu0162/LongMemEval"
    )
    parser.add_argument(
        "--official-judge", metavar="NAME", help="a model with which its script judges as well"
    )
    return parser
