"""Writes figures from result files into documents: `python -m benchmarks figures README.md [--write]`.

There are two kinds of marked blocks, with file names relative to the working directory:

    <!-- figures benchmarks/results/ablation.json recall@10 macro
    bm25 = BM25
    mini = `mini` alone
    -->
    (a table of these systems, with a column per dataset of the file)
    <!-- /figures -->

    <!-- value benchmarks/results/temporal.json ["encoders", "mini", "auc", "order", 0] % -->93.3<!-- /value -->

Words after the metric: `macro` (the mean over question types), `all` (over questions) or `both`;
`intervals`; `published` adds published rows. In a path, a name selects the entry of a list by its
`dataset` or `system`. `%` multiplies by 100 and rounds to one decimal.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.reporting.pages import Table
from benchmarks.reporting.published import PUBLISHED
from benchmarks.reporting.report import interval
from evomem.errors import EvomemError, InputError

_TABLE = re.compile(
    r"(?P<start><!-- figures (?P<file>\S+) (?P<metric>\S+)(?P<words>[^\n]*)\n(?P<rows>.*?)-->\n)"
    r".*?(?P<end><!-- /figures -->)",
    re.DOTALL,
)
_VALUE = re.compile(
    r"(?P<start><!-- value (?P<file>\S+) (?P<path>\[.*?\]) ?(?P<unit>%?) ?-->)"
    r".*?(?P<end><!-- /value -->)"
)

NAMES = {"all": "question", "macro": "type"}
_FENCED = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)


def main(argv: Sequence[str]) -> int:
    """Check or rewrite documents; return 0, 1 if a document is out of date, or 2 after an error message."""
    options = _parser().parse_args(argv)
    outdated = []
    try:
        for path in options.document:
            text = path.read_text("utf-8")
            updated = with_current_figures(text, Path())
            if updated != text:
                outdated.append(path)
                if options.write:
                    path.write_text(updated, "utf-8")
    except EvomemError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path in outdated:
        print(f"{path}: {'rewritten' if options.write else 'out of date; --write rewrites it'}")
    return 1 if outdated and not options.write else 0


def with_current_figures(text: str, root: Path) -> str:
    """Return a document with every marked block regenerated from results below `root`.

    Raises:
        InputError: A block names a file, system or path that does not exist.
    """
    parts = _FENCED.split(text)  # blocks in fenced code are examples
    for number in range(0, len(parts), 2):
        part = _TABLE.sub(lambda mark: _table(mark, root), parts[number])
        parts[number] = _VALUE.sub(lambda mark: _value(mark, root), part)
    return "".join(parts)


def _table(mark: re.Match[str], root: Path) -> str:
    result = _load(root / mark["file"])
    words = mark["words"].split()
    groups = ("all", "macro") if "both" in words else ("all",) if "all" in words else ("macro",)
    columns = [(entry, group) for entry in result["datasets"] for group in groups]
    labelled = [line.split(" = ", 1) for line in mark["rows"].splitlines() if " = " in line]
    rows = []
    for system, label in labelled:
        cells = []
        for entry, group in columns:
            mean = _pick(entry["rows"], system.strip(), mark["file"])["overall"][group][
                mark["metric"]
            ]
            plain = mean[0] if isinstance(mean, list) and "intervals" not in words else mean
            cells.append(interval(plain))
        rows.append([label.strip(), *cells])
    for published in PUBLISHED if "published" in words else ():
        scores = {"all": published.all, "macro": published.macro}
        texts = [str(scores[group].get(entry["dataset"], "")) for entry, group in columns]
        if any(texts):
            cells = [f"*{text}*" if text else "" for text in texts]
            rows.append([f"*{published.system}, as published*", *cells])
    heads = [
        f"{entry['dataset']}, per {NAMES[group]}" if len(groups) > 1 else entry["dataset"]
        for entry, group in columns
    ]
    table = Table([f"{mark['metric']}, %", *heads], rows)
    return f"{mark['start']}{table.markdown()}\n{mark['end']}"


def _value(mark: re.Match[str], root: Path) -> str:
    value: Any = _load(root / mark["file"])
    for step in json.loads(mark["path"]):
        if isinstance(value, list) and isinstance(step, str):
            value = _pick(value, step, mark["file"])
            continue
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError) as error:
            raise InputError(f"{mark['file']} has nothing at {mark['path']}: {error!r}") from error
    text = f"{100 * value:.1f}" if mark["unit"] else f"{value}"
    return f"{mark['start']}{text}{mark['end']}"


def _pick(entries: list[dict[str, Any]], name: str, file: str) -> dict[str, Any]:
    for entry in entries:
        if name in (entry.get("dataset"), entry.get("system")):
            return entry
    raise InputError(f"{file} has no {name!r}")


def _load(path: Path) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from error
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks figures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("document", type=Path, nargs="+")
    parser.add_argument("--write", action="store_true", help="rewrite outdated documents")
    return parser
