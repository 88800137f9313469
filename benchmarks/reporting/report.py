"""Writes one page of all results: `python -m benchmarks report FOLDER --out FOLDER`.

It reads every result of this package in the folders (JSON with the key "benchmark") and writes report.md
and report.html, with tables, intervals, plots, hardware, versions, data and commands.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.quality.intervals import Interval
from benchmarks.quality.metrics import MAIN_METRIC, TABLE_METRICS
from benchmarks.reporting.pages import (
    Block,
    Code,
    Heading,
    Image,
    Table,
    Text,
    as_html,
    as_markdown,
)
from evomem.errors import EvomemError, InputError

PLOTS = {
    "temporal": ("temporal.svg", "temporal_map_*.png"),
    "qa": ("qa_*.svg",),
}


def main(argv: Sequence[str]) -> int:
    """Write the report; return 0, or 2 after an error message."""
    options = _parser().parse_args(argv)
    try:
        blocks = report(results_in(options.folder), options.out)
    except EvomemError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "report.md").write_text(as_markdown(blocks), "utf-8")
    (options.out / "report.html").write_text(as_html("evomem benchmarks", blocks), "utf-8")
    print(f"written to {options.out}/report.md and report.html")
    return 0


def results_in(folders: Sequence[Path]) -> dict[Path, dict[str, Any]]:
    """Return every result file below `folders`.

    Raises:
        InputError: There is no result, or a file cannot be read.
    """
    results = {}
    for path in sorted(path for folder in folders for path in folder.rglob("*.json")):
        try:
            value = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read as JSON: {error}") from error
        if isinstance(value, dict) and "benchmark" in value:
            results[path] = value
    if not results:
        raise InputError(
            f"no results in {', '.join(map(str, folders))}: run a benchmark with --out"
        )
    return results


def report(results: dict[Path, dict[str, Any]], out: Path) -> list[Block]:
    """Return the page; its links are relative to the folder `out`."""
    blocks: list[Block] = [
        Heading(1, "evomem benchmarks"),
        Text("Generated from result files by `python -m benchmarks report`."),
    ]
    for path, result in results.items():
        blocks.append(Heading(2, f"{result['benchmark']}: {path.stem}"))
        blocks += _about(result)
        blocks += SECTIONS.get(result["benchmark"], _no_table)(result)
        blocks += [
            Image(figure, Path(os.path.relpath(figure, out)).as_posix())
            for pattern in PLOTS.get(result["benchmark"], ())
            for figure in sorted(path.parent.glob(pattern))
        ]
    return blocks


def _about(result: dict[str, Any]) -> list[Block]:
    """Return what is needed to repeat a run: command, machine, versions, data."""
    versions = " ".join(f"{name} {number}" for name, number in result.get("versions", {}).items())
    lines = [result.get("command", ""), f"{result.get('date', '')} · {result.get('machine', '')}"]
    blocks: list[Block] = [Code("\n".join([*lines, versions]))]
    data = [entry for entry in result.get("datasets", ()) if isinstance(entry, dict)]
    if data:
        head = ["data", "use", "file", "conversations", "turns", "questions scored", "SHA-256"]
        blocks.append(Table(head, [_data(entry) for entry in data]))
    return blocks


def _data(entry: dict[str, Any]) -> list[str]:
    counts = entry["counts"]
    return [
        entry["dataset"],
        entry["use"],
        entry["file"],
        f"{counts['conversations']:,}",
        f"{counts['turns']:,}",
        f"{counts['scored']:,} of {counts['questions']:,}",
        entry["sha256"][:16],
    ]


def _retrieval(result: dict[str, Any]) -> list[Block]:
    blocks: list[Block] = []
    for entry in result["datasets"]:
        differences = entry.get("differences", {})
        kinds = list(entry["rows"][0]["types"])
        head = ["%", *TABLE_METRICS, *(f"macro {metric}" for metric in TABLE_METRICS)]
        head += [f"Δ to {entry['against']}"] if differences else []
        rows, by_type = [], []
        for row in entry["rows"]:
            overall = row["overall"]
            cells = [interval(overall["all"][metric]) for metric in TABLE_METRICS]
            cells += [interval(overall["macro"][metric]) for metric in TABLE_METRICS]
            if differences:
                cells.append(_difference(differences.get(row["system"])))
            rows.append([row["system"], *cells])
            recalls = [interval(row["types"][kind][MAIN_METRIC]) for kind in kinds]
            by_type.append([row["system"], *recalls])
        unit = entry.get("resampled", "")
        blocks += [
            Heading(3, entry["dataset"]),
            Text(f"95 % intervals over {unit}; Δ: macro recall@10, paired, * beyond chance.")
            if unit
            else Text("An older result, without intervals."),
            Table(head, rows),
            Table(["recall@10, %", *kinds], by_type),
        ]
    if result.get("published"):
        blocks.append(_published(result))
    return blocks


def _published(result: dict[str, Any]) -> Table:
    names = [entry["dataset"] for entry in result["datasets"]]
    rows = [
        [
            system["system"],
            *(str(system["macro"].get(name, "")) for name in names),
            system["source"],
        ]
        for system in result["published"]
    ]
    return Table(["published macro recall@10, not measured here", *names, "source"], rows)


def _temporal(result: dict[str, Any]) -> list[Block]:
    kinds = ("first", "middle", "last", "order")
    rows = [
        [name, *(interval(figures["auc"][kind]) for kind in kinds)]
        for name, figures in result["encoders"].items()
    ]
    return [Table(["AUC, %", *kinds], rows)]


def _order(result: dict[str, Any]) -> list[Block]:
    blocks: list[Block] = []
    for name, figures in result["sets"].items():
        columns = list(next(iter(figures.values())))
        rows = [
            [row, *(f"{100 * figure[c]:.1f}" for c in columns)] for row, figure in figures.items()
        ]
        blocks.append(Table([f"{name}, %", *columns], rows))
    return blocks


def _qa(result: dict[str, Any]) -> list[Block]:
    blocks: list[Block] = []
    for entry in result["datasets"]:
        retrieval_rows, answer_rows = [], []
        for system, stages in entry["systems"].items():
            retrieval = stages["retrieval"]
            figures = [interval(value) for value in retrieval["figures"].values()]
            costs = [f"{retrieval['ingest_tokens']:,}", f"{retrieval['retrieve_tokens']:,}"]
            retrieval_rows.append([system, *figures, *costs])
            answer_rows += [
                [system, context, *_answer_cells(answers)]
                for context, answers in stages["contexts"].items()
            ]
        names = list(next(iter(entry["systems"].values()))["retrieval"]["figures"])
        blocks.append(Heading(3, entry["dataset"]))
        blocks.append(Table(["%", *names, "ingest tokens", "question tokens"], retrieval_rows))
        if answer_rows:
            head = ["system", "context", "questions", "judged, %", "macro", "F1", "exact"]
            blocks.append(Table([*head, "tokens a prompt", "read", "judge"], answer_rows))
    return blocks


def _answer_cells(answers: dict[str, Any]) -> list[str]:
    scores = [("judged", "all"), ("judged", "macro"), ("f1", "all"), ("exact", "all")]
    return [
        f"{answers['questions']:,}",
        *(interval(answers[name][group]) if name in answers else "" for name, group in scores),
        *(f"{answers[name]:,.0f}" for name in ("prompt_tokens", "read_tokens", "judge_tokens")),
    ]


def _streaming(result: dict[str, Any]) -> list[Block]:
    columns = list(result["rows"][0])
    rows = [[_number(row[column]) for column in columns] for row in result["rows"]]
    return [Text(result["model"]), Table(columns, rows)]


def _scale(result: dict[str, Any]) -> list[Block]:
    blocks: list[Block] = []
    for part in ("index", "large", "small", "others", "texts", "text-memories"):
        rows = [row for row in result.get(part, ()) if "skipped" not in row]
        if rows:
            first, *names = dict.fromkeys(name for row in rows for name in row)
            head = [first, *(_cell(row[first]) for row in rows)]
            lines = [[name, *(_cell(row.get(name)) for row in rows)] for name in names]
            blocks += [Heading(3, part), Table(head, lines)]
    return blocks


def _speed(result: dict[str, Any]) -> list[Block]:
    blocks: list[Block] = [
        Text(f"{result['device']}, peak {result['peak_flops'] / 1e9:,.0f} GFLOP/s")
    ]
    for part in dict.fromkeys(row["part"] for row in result["rows"]):
        rows = [row for row in result["rows"] if row["part"] == part]
        columns = list(dict.fromkeys(name for row in rows for name in row if name != "part"))
        cells = [[_cell(row.get(name)) for name in columns] for row in rows]
        blocks += [Heading(3, part), Table(columns, cells)]
    return blocks


def _no_table(result: dict[str, Any]) -> list[Block]:
    return [Text("There is no table for this benchmark: see the result file.")]


def interval(value: float | Sequence[float]) -> str:
    """Return [mean, low, high], or a mean without an interval, in percent."""
    return f"{100 * value:.1f}" if isinstance(value, int | float) else str(Interval(*value))


def _difference(value: Sequence[float] | None) -> str:
    if value is None:
        return ""
    difference = Interval(*value)
    return f"{difference} *" if difference.excludes_zero else str(difference)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.4g}"


SECTIONS: dict[str, Callable[[dict[str, Any]], list[Block]]] = {
    "retrieval": _retrieval,
    "ablation": _retrieval,
    "temporal": _temporal,
    "order": _order,
    "qa": _qa,
    "streaming": _streaming,
    "scale": _scale,
    "speed": _speed,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks report", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "folder", type=Path, nargs="+", help="a folder with results, searched recursively"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    return parser
