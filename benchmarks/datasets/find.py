"""Finds the datasets, from command-line options or in a folder with a known layout."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.datasets.base import Dataset, DatasetError
from benchmarks.datasets.evotrain import load_evotrain
from benchmarks.datasets.locomo import load_locomo
from benchmarks.datasets.longmemeval import load_longmemeval
from benchmarks.datasets.personamem import load_personamem
from benchmarks.datasets.planted import load_planted
from benchmarks.datasets.realtalk import load_realtalk
from benchmarks.datasets.streams import load_stream

# name: (reader, path in the data folder, source); development sets first
KNOWN: dict[str, tuple[Callable[[Path], Dataset], str, str]] = {
    "realtalk": (
        load_realtalk,
        "realtalk",
        "the folder data/ of https://github.com/danny911kr/REALTALK",
    ),
    "beam": (
        partial(load_stream, name="beam"),
        "beam_128k.jsonl.xz",
        "https://github.com/mohammadtavakoli78/BEAM, as a stream (docs/measurements/benchmarks.md)",
    ),
    "realmem": (
        partial(load_stream, name="realmem"),
        "realmem_dev.jsonl.xz",
        "https://github.com/zhiyuan5986/RealMemBench, five of its users as a stream",
    ),
    "locomo": (
        load_locomo,
        "locomo10.json",
        "https://github.com/snap-research/locomo/raw/main/data/locomo10.json",
    ),
    "longmemeval": (
        load_longmemeval,
        "longmemeval_haystacks.json.xz",
        "https://huggingface.co/datasets/xiaowu0162/longmemeval-cleaned",
    ),
    "planted": (
        load_planted,
        "longmemeval_evidence.jsonl.xz",
        "LongMemEval's questions and evidence turns, next to histories (docs/measurements/benchmarks.md)",
    ),
    "personamem": (
        load_personamem,
        "questions_32k.csv",
        "https://huggingface.co/datasets/bowen-upenn/PersonaMem, next to its contexts; for qa only",
    ),
    "covidqa": (
        partial(load_stream, name="covidqa"),
        "covidqa_98docs.jsonl.xz",
        "https://github.com/deepset-ai/COVID-QA, as a stream",
    ),
}
DEVELOPMENT = ("realtalk", "beam")
"""Datasets for development; the others are for reporting only."""
MESSAGES = ("realmem",)
"""Datasets for development whose questions are messages of the conversation, answered by earlier turns."""
SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def add_arguments(parser: ArgumentParser) -> None:
    """Add an option for every known dataset, and options for other datasets in a known layout."""
    group = parser.add_argument_group(
        "datasets", "Without a path, the datasets in the folder $EVOMEM_DATA are used."
    )
    group.add_argument(
        "--data", nargs="+", choices=KNOWN, metavar="NAME", help=f"only these: {', '.join(KNOWN)}"
    )
    for name, (_, place, source) in KNOWN.items():
        group.add_argument(f"--{name}", type=Path, metavar="PATH", help=f"{place}; from {source}")
    for layout, what in (
        (
            "stream",
            "another .jsonl or .jsonl.xz of conversations (docs/measurements/benchmarks.md)",
        ),
        ("evotrain", "questions in the EvoTrain format"),
    ):
        group.add_argument(
            f"--{layout}",
            type=Path,
            action="append",
            default=[],
            metavar="PATH",
            help=f"{what}; may be repeated",
        )


def names_dataset(options: Namespace) -> bool:
    """Return whether `options` name a dataset."""
    paths = any(getattr(options, name) for name in KNOWN)
    return bool(paths or options.data or options.stream or options.evotrain)


def load_all(options: Namespace, names: tuple[str, ...] = tuple(KNOWN)) -> list[Dataset]:
    """Return the datasets that `options` name, otherwise those of `names` in the data folder.

    Raises:
        DatasetError: A dataset cannot be read, or there is none; the message names their sources.
    """
    paths = {name: getattr(options, name) for name in KNOWN if getattr(options, name)}
    if options.data or not names_dataset(options):
        selected = tuple(options.data or names)
        default_paths = {
            name: _default_path(name) for name in selected if options.data or _exists(name)
        }
        paths = default_paths | paths
    loaded = [KNOWN[name][0](path) for name, path in paths.items()]
    loaded += [load_stream(path) for path in options.stream]
    loaded += [load_evotrain(path) for path in options.evotrain]
    if not loaded:
        raise DatasetError(
            "no dataset: give paths, or set EVOMEM_DATA to a folder with datasets\n"
            + "\n".join(f"  --{name:<12} {source}" for name, (_, _, source) in KNOWN.items())
        )
    return loaded


def _exists(name: str) -> bool:
    return _default_path(name).exists()


def _default_path(name: str) -> Path:
    """Return the path of a known dataset in the data folder, whether or not it exists."""
    folder = Path(os.environ.get("EVOMEM_DATA") or SHARED_DATA)
    place = folder / "benchmarks" / KNOWN[name][1]
    return place if place.exists() else folder / KNOWN[name][1]
