"""What a process sees of databases that it cannot write, as JSON.

python -m tests.stores.reader WAY FOLDER, where WAY is `mount` (in a mount namespace of its own: the
folder is mounted a second time, read-only) or `permissions` (as a user who may only read it).
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import evomem
from evomem.database import restore
from evomem.doctor import examine
from evomem.errors import EvomemError
from evomem.reencode import reencode
from tests.stores.other_process import OtherProcess

NOBODY = 65534
TEXTS = ["I live in Bergen.", "I adopted a cat.", "I moved to Oslo."]


def prepare(folder: Path, target: Path) -> None:
    """Make databases in every state that one can be found in."""
    for name in ("clean", "live", "old", "interrupted"):
        with evomem.open(str(folder / f"{name}.db"), "hash") as db:
            db.memory("m").add_many([evomem.Turn(user=text, id=text[:8]) for text in TEXTS])
    with closing(sqlite3.connect(folder / "old.db")) as old:
        old.execute("DELETE FROM migrations WHERE number = (SELECT max(number) FROM migrations)")
        old.commit()
    # Everything is imported while this process may still read its installation.
    reading(folder / "clean.db", target)
    shutil.copy(folder / "clean.db", folder / "killed.db")
    other = OtherProcess()
    other.add(str(folder / "killed.db"), ("m",), [{"user": "I moved to Rome."}])
    for ending in ("", "-wal"):
        shutil.copy(folder / f"killed.db{ending}", folder / f"copied.db{ending}")
    other.kill()
    (folder / "empty.db").touch()
    (folder / "interrupted.db-journal").write_bytes(bytes.fromhex("d9d505f920a163d7") + bytes(504))


def lock(way: str, folder: Path) -> Path:
    """Give up writing; return where the databases are to be read."""
    if way == "mount":
        mount = folder.with_name("read_only")
        mount.mkdir()
        subprocess.run(["mount", "--bind", folder, mount], check=True)
        subprocess.run(["mount", "-o", "remount,ro,bind", mount], check=True)
        return mount
    root = os.geteuid() == 0
    folder.chmod(0o755 if root else 0o555)
    for path in folder.iterdir():
        path.chmod(0o644 if root else 0o444)
    if root:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    return folder


def said(call: Callable[[], object]) -> str:
    """Return the error that a call raises."""
    try:
        call()
    except EvomemError as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def texts(path: Path) -> list[str]:
    with evomem.open(str(path)) as db:
        return [record.turn.user for record in db.memory("m").history()]


def reading(path: Path, target: Path) -> dict[str, Any]:
    """Use everything that reads."""
    before = contents(path.parent)
    with evomem.open(str(path)) as db:
        memory = db.memory("m")
        db.backup(target / "backup.db")
        results = {
            "found": {
                mode: memory.search("Oslo", 1, mode=mode)[0].record.turn.user
                for mode in ("evolvable", "lexical", "hybrid")
            },
            "history": len(memory.history()),
            "past": len(memory.at(seq=1)),
            "stats": db.stats()["turns"],
            "faults": db.verify(),
            "exported": db.export(target / "export"),
            "backup": texts(target / "backup.db"),
        }
    restore(path, target / "restored.db")
    results["restored"] = texts(target / "restored.db")
    results["unchanged"] = contents(path.parent) == before
    results["doctor"] = {
        finding.what: finding.says
        for finding in examine(str(path))
        if finding.what in ("disk", "writing")
    }
    return results


def writing(path: Path, export: Path) -> dict[str, str]:
    """Use everything that writes."""
    with evomem.open(str(path)) as db:
        memory = db.memory("m")
        calls: dict[str, Callable[[], object]] = {
            "add": lambda: memory.add("x"),
            "add to a new memory": lambda: db.memory("new").add("x"),
            "add_many": lambda: db.add_many([(("m",), [evomem.Turn(user="x")])]),
            "annotate": lambda: memory.annotate(TEXTS[0][:8], {}),
            "delete": lambda: memory.delete(TEXTS[0][:8]),
            "purge": lambda: memory.purge(TEXTS[0][:8]),
            "expire": lambda: memory.expire(before="2020-01-01T00:00:00Z"),
            "fork": lambda: memory.fork("x"),
            "drop": lambda: db.drop("m"),
            "load": lambda: db.load(export),
            "repair": db.repair,
            "compact": db.compact,
            "drop_generations": db.drop_generations,
            "reencode": lambda: reencode(str(path), "hash:16"),
        }
        results = {name: said(call) for name, call in calls.items()}
        results["encoder"] = repr(db._engine._encoder)
    return results


def live(written: Path, path: Path, other: OtherProcess) -> dict[str, Any]:
    """Read while another process writes."""
    results: dict[str, Any] = {}
    with evomem.open(str(path)) as db:
        memory = db.memory("m")
        results["before"] = len(memory.history())

        def write_meanwhile() -> None:
            with db._engine.store._connections.reading():  # type: ignore[attr-defined]
                other.add(str(written), ("m",), [{"user": "I moved to Rome."}])

        results["meanwhile"] = said(write_meanwhile)
        results["while it is open"] = memory.search("Rome", 1)[0].record.turn.user
        other.add(str(written), ("m",), [{"user": "I moved to Bonn."}])
        results["newer"] = memory.search("Bonn", 1)[0].record.turn.user
        other.close()
        results["when it was closed"] = len(memory.history())
    results["reopened"] = len(texts(path))
    return results


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def main(way: str, folder: Path) -> dict[str, Any]:
    """Return what is seen."""
    written, prepared, target = (folder / name for name in ("written", "prepared", "target"))
    for item in (written, prepared, target):
        item.mkdir()
    target.chmod(0o777)
    prepare(written, prepared)
    other = OtherProcess()
    path = lock(way, written)
    alone = way == "permissions" and os.geteuid() != NOBODY  # nobody is there who could write
    return {
        "clean": reading(path / "clean.db", target),
        "refused": writing(path / "clean.db", target / "export"),
        "live": None if alone else live(written / "live.db", path / "live.db", other),
        "killed": texts(path / "killed.db"),
        "copied": said(lambda: texts(path / "copied.db")),
        "interrupted": said(lambda: texts(path / "interrupted.db")),
        "old": said(lambda: texts(path / "old.db")),
        "empty": said(lambda: evomem.open(str(path / "empty.db"), "hash")),
        "new": said(lambda: evomem.open(str(path / "new.db"), "hash")),
    }


if __name__ == "__main__":
    json.dump(main(sys.argv[1], Path(sys.argv[2])), sys.stdout)
