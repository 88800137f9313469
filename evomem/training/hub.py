"""Records from a data set of the `datasets` package: from the hub, or saved to a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from evomem._extras import require
from evomem.errors import InputError

PREFIX = "dataset:"


def dataset_records(name: str) -> Iterator[tuple[str, Any]]:
    """Yield each record with its location.

    Args:
        name: `dataset:` and a hub id or a folder that `save_to_disk` wrote; `?split=dev` after it
            chooses another split than `train`.

    Raises:
        InputError: The data set cannot be loaded or has no such split.
        MissingExtra: `datasets` is not installed.
    """
    datasets = require("datasets", extra="train")
    source, _, written = name.removeprefix(PREFIX).partition("?")
    split = dict(parse_qsl(written)).get("split", "train")
    folder = Path(source).expanduser()
    try:
        rows = (
            datasets.load_from_disk(str(folder))
            if folder.is_dir()
            else datasets.load_dataset(source)
        )
    except Exception as error:  # the package does not wrap errors of file systems and of the hub
        raise InputError(
            f"the data set {source!r} cannot be loaded: {error}; give the hub id of one, or a "
            "folder that save_to_disk wrote"
        ) from error
    if isinstance(rows, dict):  # several splits
        if split not in rows:
            raise InputError(
                f"the data set {source!r} has no split {split!r}, only {', '.join(rows)}; choose "
                f"one with {PREFIX}{source}?split=..."
            )
        rows = rows[split]
    for number, row in enumerate(rows):
        yield f"{name} row {number}", row
