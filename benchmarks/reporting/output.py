"""Output of all benchmarks: machine, versions and command of a run, tables, and result files."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from evomem.errors import EvomemError

PACKAGES = (
    "evomem-engine",
    "numpy",
    "torch",
    "transformers",
    "sentence-transformers",
    "bm25s",
    "faiss-cpu",
    "faiss-gpu-cu12",
)


def setting(name: str, argv: Sequence[str]) -> dict[str, Any]:
    """Return the command, machine, versions and date of a run, which are needed to repeat it."""
    return {
        "benchmark": name,
        "command": shlex.join(["python", "-m", "benchmarks", name, *argv]),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
    }


def machine() -> str:
    """Return processor, cores and threads in one line."""
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    return f"{_processor()}, {os.cpu_count()} cores, OMP_NUM_THREADS={threads}"


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that affect the figures."""
    result = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            result[package] = version(package)
        except PackageNotFoundError:
            continue
    return result


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table with fixed-width columns, the first one left-aligned.

    >>> print(table(["system", "mrr"], [["bm25", "0.5"]]))
    system  mrr
    bm25    0.5
    """
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def finish(result: dict[str, Any], out: Path | None, run: Callable[[], None]) -> int:
    """Run a benchmark that fills `result`, and write the result; return 0, or 2 after an error message.

    Args:
        result: The result, which is written if the run succeeds.
        out: The file to write; None to write nothing.
        run: The benchmark. An evomem error is printed, and nothing is written.
    """
    try:
        run()
    except EvomemError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if out:
        write_json(out, result)
    return 0


def write_json(path: Path, result: dict[str, Any]) -> None:
    """Write `result` atomically, replacing an older file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    partial.replace(path)


def progress_bar() -> Progress:
    """Return a transient progress bar on the error output."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def positive(text: str) -> int:
    """Return the value of an option as an integer; argparse reports one below 1 as an error."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
