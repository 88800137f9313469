"""Converts pickled lists, dictionaries and strings to JSON: `python -m benchmarks pickles FILE.pkl ...`.

Loading a pickle can call any function, so pickles are not loaded. This module reads a pickle's operations,
follows those that build the three kinds of values above, and rejects all others.
"""

from __future__ import annotations

import argparse
import json
import pickletools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from benchmarks.datasets.base import DatasetError
from evomem.errors import EvomemError

_IGNORED = frozenset(("PROTO", "FRAME", "STOP"))


def load_plain(file: IO[bytes]) -> Any:
    """Return the value of a pickle of lists, dictionaries and strings, loaded into memory.

    Raises:
        DatasetError: The file is not a pickle, contains other values, or refers to the same list or
            dictionary twice, which could turn a small file into very large JSON.
    """
    values = _Values()
    try:
        for operation, argument, place in pickletools.genops(file):
            follow = _OPERATIONS.get(operation.name)
            if follow:
                follow(values, argument)
            elif operation.name not in _IGNORED:
                raise DatasetError(
                    "only lists, dictionaries and strings are allowed, "
                    f"but at byte {place} there is {operation.name}"
                )
        [[value]] = values.frames
    except (ValueError, LookupError, AttributeError) as error:
        raise DatasetError(f"this is not a pickle: {type(error).__name__}: {error}") from error
    return value


class _Values:
    """The values that a pickle has built so far: a stack with a frame per mark, and the memo."""

    def __init__(self) -> None:
        self.frames: list[list[Any]] = [[]]
        self.memo: dict[int, Any] = {}

    def push(self, value: Any) -> None:
        self.frames[-1].append(value)

    def mark(self, _: object) -> None:
        self.frames.append([])

    def append(self, _: object) -> None:
        value = self.frames[-1].pop()
        self.frames[-1][-1].extend([value])

    def extend(self, _: object) -> None:
        values = self.frames.pop()
        self.frames[-1][-1].extend(values)

    def set_item(self, _: object) -> None:
        value, key = self.frames[-1].pop(), self.frames[-1].pop()
        self.frames[-1][-1].update(_pairs([key, value]))

    def set_items(self, _: object) -> None:
        values = self.frames.pop()
        self.frames[-1][-1].update(_pairs(values))

    def remember(self, place: int | None) -> None:
        self.memo[len(self.memo) if place is None else place] = self.frames[-1][-1]

    def recall(self, place: int) -> None:
        value = self.memo[place]
        if not isinstance(value, str):
            raise DatasetError(f"the same {type(value).__name__} occurs in two places")
        self.push(value)


_OPERATIONS: dict[str, Callable[[_Values, Any], None]] = {
    **dict.fromkeys(("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"), _Values.push),
    "EMPTY_LIST": lambda values, _: values.push([]),
    "EMPTY_DICT": lambda values, _: values.push({}),
    "LIST": lambda values, _: values.push(values.frames.pop()),
    "DICT": lambda values, _: values.push(_pairs(values.frames.pop())),
    "MARK": _Values.mark,
    "APPEND": _Values.append,
    "APPENDS": _Values.extend,
    "SETITEM": _Values.set_item,
    "SETITEMS": _Values.set_items,
    **dict.fromkeys(("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"), _Values.remember),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Values.recall),
}


def _pairs(values: list[Any]) -> dict[str, Any]:
    """Return the dictionary of alternating keys and values."""
    keys = values[::2]
    if not all(isinstance(key, str) for key in keys):
        raise DatasetError("a dictionary has a key that is not a string")
    return dict(zip(keys, values[1::2], strict=True))


def main(argv: Sequence[str]) -> int:
    """Write FILE.json next to every FILE.pkl; return 0, or 2 after an error message."""
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
    """Write a pickle as JSON next to it; return the new file.

    Raises:
        DatasetError: It cannot be read, or contains values that are not allowed; nothing is written.
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
    with partial.open("w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False)
    partial.replace(target)
    return target
