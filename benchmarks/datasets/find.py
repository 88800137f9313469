"""Where the datasets are: given on the command line, or in a folder with a known layout."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.datasets.base import Dataset, DatasetError
from benchmarks.datasets.locomo import load_locomo
from benchmarks.datasets.longmemeval import load_longmemeval
from benchmarks.datasets.realtalk import load_realtalk
from benchmarks.datasets.streams import load_stream

# name: (how it is read, its place in a data folder, where it comes from); development sets first
KNOWN: dict[str, tuple[Callable[[Path], Dataset], str, str]] = {
    "realtalk": (
        load_realtalk,
        "realtalk",
        "the folder data/ of https://github.com/danny911kr/REALTALK",
    ),
    "beam": (
        partial(load_stream, name="beam"),
        "beam_128k.jsonl.xz",
        "https://github.com/mohammadtavakoli78/BEAM, as a stream (docs/benchmarks.md)",
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
}
DEVELOPMENT = ("realtalk", "beam")
"""Datasets that choices may be made on; the others are for reporting only."""
NEIGHBOUR = Path(__file__).resolve().parents[3] / "shared" / "data"


def add_arguments(parser: ArgumentParser) -> None:
    """Add an argument for every known dataset, and one for any other in the stream layout."""
    group = parser.add_argument_group(
        "datasets", "Without any, those found in the folder $EVOMEM_DATA are used."
    )
    for name, (_, place, source) in KNOWN.items():
        group.add_argument(f"--{name}", type=Path, metavar="PATH", help=f"{place}; from {source}")
    group.add_argument(
        "--stream",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="any other .jsonl or .jsonl.xz of conversations, such as COVID-QA; may be repeated",
    )


def load_all(options: Namespace, names: tuple[str, ...] = tuple(KNOWN)) -> list[Dataset]:
    """Return the datasets that `options` name, or else those of `names` in the data folder.

    Raises:
        DatasetError: One cannot be read, or there is none; the message says where to get them.
    """
    paths = {name: getattr(options, name) for name in KNOWN if getattr(options, name)}
    if not paths and not options.stream:
        folder = Path(os.environ.get("EVOMEM_DATA") or NEIGHBOUR)
        places = [folder / "benchmarks", folder]
        found = {n: [p / KNOWN[n][1] for p in places if (p / KNOWN[n][1]).exists()] for n in names}
        paths = {name: each[0] for name, each in found.items() if each}
    loaded = [KNOWN[name][0](path) for name, path in paths.items()]
    loaded += [load_stream(path) for path in options.stream]
    if not loaded:
        raise DatasetError(
            "no dataset: give paths, or set EVOMEM_DATA to a folder that holds them\n"
            + "\n".join(f"  --{name:<12} {source}" for name, (_, _, source) in KNOWN.items())
        )
    return loaded
