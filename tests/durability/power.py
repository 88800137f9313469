"""A disk that loses power: rebuilt from a record of calls, without what was never synced.

What a file held at its last fsync is there. Of what was written since, any part may be: none, all,
some writes and not the ones before them, some sectors of a write. Names that were made, moved or
removed since their folder was last synced are there up to any point.
"""

from __future__ import annotations

import random
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

SECTOR = 512


@dataclass(frozen=True)
class Call:
    """One recorded call; see `note` in shim.c."""

    kind: str
    path: str
    offset: int
    data: bytes


@dataclass
class File:
    """What is on the disk for certain, and what was written since."""

    synced: bytearray = field(default_factory=bytearray)
    pending: list[Call] = field(default_factory=list)

    def apply(self, calls: list[Call]) -> None:
        """Do these calls on what is on the disk; nothing is pending any more."""
        for call in calls:
            end = call.offset + len(call.data)
            if call.kind == "t":
                del self.synced[call.offset :]
            self.synced.extend(bytes(max(0, end - len(self.synced))))
            self.synced[call.offset : end] = call.data
        self.pending = []


@dataclass(frozen=True)
class Change:
    """A name that was made (with the new file), moved, or removed."""

    path: str
    to: str
    made: File | None

    def apply(self, names: dict[str, File]) -> None:
        """Do it to what a folder holds."""
        if self.made:
            names[self.path] = self.made
        elif self.to:
            if self.path in names:  # else: moved again before the folder was synced
                names[self.to] = names.pop(self.path)
        else:
            names.pop(self.path, None)


def read_record(path: Path) -> Iterator[Call]:
    """Yield the recorded calls, in order."""
    data = path.read_bytes()
    place = 0
    while place < len(data):
        kind, path_size, offset, size = struct.unpack_from("<4Q", data, place)
        place += 32
        name = data[place : place + path_size].decode()
        place += path_size
        yield Call(chr(kind), name, offset, data[place : place + size])
        place += size


class Disk:
    """Files below one folder, as programs see them and as they would be found after a power loss."""

    def __init__(self, names: dict[str, File]) -> None:
        self.names = names
        self.durable = dict(names)
        self.waiting: dict[str, list[Change]] = {}
        """Changes of names since their folder was synced, by folder."""

    def do(self, call: Call) -> None:
        """Do what a program did."""
        if call.kind in "cru":
            made = File() if call.kind == "c" else None
            change = Change(call.path, call.data.decode(), made)
            change.apply(self.names)
            self.waiting.setdefault(str(Path(call.path).parent), []).append(change)
        elif call.kind in "wt":
            self.names[call.path].pending.append(call)
        elif call.kind == "s" and call.path in self.names:
            self.names[call.path].apply(self.names[call.path].pending)
        elif call.kind == "s":
            for change in self.waiting.pop(call.path, []):
                change.apply(self.durable)

    def lose_power(self, rng: random.Random) -> dict[str, bytearray]:
        """Return what the files hold when the power is back."""
        for changes in self.waiting.values():
            for change in changes[: rng.randint(0, len(changes))]:
                change.apply(self.durable)
        for file in self.durable.values():
            file.apply(list(_survivors(file.pending, rng)))
        return {path: file.synced for path, file in self.durable.items()}


def lose_power(before: Path, worked_in: Path, calls: list[Call], rng: random.Random) -> None:
    """Turn the folder `worked_in`, as it was `before` the calls, into what a power loss leaves.

    Args:
        before: What the folder held when the record began.
        worked_in: The folder that the calls name; it is replaced.
        calls: What was done until the power was lost.
        rng: Decides what of the unsynced survives.
    """
    files = [path for path in before.rglob("*") if path.is_file()]
    disk = Disk(
        {
            str(worked_in / path.relative_to(before)): File(bytearray(path.read_bytes()))
            for path in files
        }
    )
    for call in calls:
        disk.do(call)
    left = disk.lose_power(rng)
    shutil.rmtree(worked_in)
    worked_in.mkdir()
    for path, data in left.items():
        if not path.endswith("-shm"):  # shared memory, which SQLite makes anew
            Path(path).parent.mkdir(exist_ok=True)
            Path(path).write_bytes(data)


def _survivors(pending: list[Call], rng: random.Random) -> Iterator[Call]:
    """Yield what of the unsynced writes reached the disk."""
    chance = rng.choice([0.0, 0.2, 0.5, 0.8, 1.0])
    for call in pending:
        if call.kind == "t" or len(call.data) <= SECTOR or rng.random() < 0.5:
            if rng.random() < chance:
                yield call
            continue
        for place in range(0, len(call.data), SECTOR):
            if rng.random() < chance:
                part = call.data[place : place + SECTOR]
                yield replace(call, offset=call.offset + place, data=part)
