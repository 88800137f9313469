"""Pickled lists, dictionaries and strings as JSON: `python -m benchmarks pickles FILE.pkl ...`.

A pickle can name any function to be called when it is loaded. Here nothing but the three kinds of
value above is accepted; a file that names a class or a function is refused before it is looked up.
"""

from __future__ import annotations

import argparse
import json
import pickle
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

from benchmarks.datasets.base import DatasetError
from evomem.errors import EvomemError


class _Plain(pickle.Unpickler):
    """An unpickler that can make values of built-in kinds only."""

    def find_class(self, module: str, name: str) -> NoReturn:
        """Refuse what a pickle wants to look up."""
        raise DatasetError(
            f"it names {module}.{name}: only lists, dictionaries and strings are read"
        )

    def persistent_load(self, pid: Any) -> NoReturn:
        """Refuse what stands outside of the pickle."""
        raise DatasetError("it refers to something outside of itself")


def load_plain(file: IO[bytes]) -> Any:
    """Return the value in a pickle of lists, dictionaries and strings. It is held in memory.

    Raises:
        DatasetError: The file is no pickle, or holds anything else.
    """
    try:
        value = _Plain(file).load()
    except DatasetError:
        raise
    except Exception as error:  # whatever a malformed pickle makes of the unpickler
        raise DatasetError(f"it is no pickle: {type(error).__name__}: {error}") from error
    check_plain(value)
    return value


def check_plain(value: Any) -> None:
    """Raise unless `value` consists of lists, dictionaries and strings, each list in one place.

    Raises:
        DatasetError: It holds something else, or one list or dictionary twice: written out, a small
            file could then become a very large one.
    """
    waiting, seen = [value], set[int]()
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            continue
        if type(item) not in (list, dict):
            raise DatasetError(
                f"it holds {type(item).__name__} {item!r:.60}: only lists, dictionaries and strings "
                "are read"
            )
        if id(item) in seen:
            raise DatasetError(f"it holds the same {type(item).__name__} in two places")
        seen.add(id(item))
        waiting += [*item, *item.values()] if isinstance(item, dict) else item


def main(argv: Sequence[str]) -> int:
    """Write FILE.json beside every FILE.pkl; return 0, or 2 after saying what is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks pickles",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, nargs="+", metavar="FILE.pkl")
    try:
        for path in parser.parse_args(argv).file:
            print(convert(path))
    except EvomemError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def convert(path: Path) -> Path:
    """Write a pickle as JSON beside it, and return the new file.

    Raises:
        DatasetError: It cannot be read, or holds what is not accepted; nothing is written.
    """
    try:
        with path.open("rb") as file:
            value = load_plain(file)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}") from error
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from error
    target = path.with_suffix(".json")
    partial = target.with_name(target.name + ".partial")
    with partial.open("w", encoding="utf-8") as written:
        json.dump(value, written, ensure_ascii=False)
    partial.replace(target)
    return target
