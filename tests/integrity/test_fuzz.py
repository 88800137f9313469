"""Random damage to tables and to bytes: only errors of ours, and nothing is silently wrong.

`EVOMEM_MUTATIONS=1000` tries so many edits of each kind, not 30.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

import evomem
from evomem.doctor import examine
from evomem.errors import EvomemError
from evomem.reencode import reencode
from tests.durability.plans import ENCODER, OTHER, turn

KEY = bytes(range(32))
COUNT = int(os.environ.get("EVOMEM_MUTATIONS", "30"))


def open_at(path: Path | str, **options: Any) -> evomem.Database:
    return evomem.open(str(path), ENCODER, integrity_key=KEY, **options)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A database with everything: forks, gaps, tombstones, a nameless trunk, two encoders."""
    path = tmp_path_factory.mktemp("base") / "a.db"
    with evomem.open(str(path), OTHER, integrity_key=KEY) as db:
        alice = db.memory("t", "alice")
        alice.add_many([turn(n, metadata={"n": n}, session="s") for n in range(1, 9)])
        alice.purge("t3")
        alice.delete("t5")
        alice.add("the cat is gone", id="cat", supersedes="t6")
        fork = alice.fork("f")
        fork.add_many([turn(n, source="web") for n in range(20, 23)])
        fork.delete("t20")
        db.memory("bob").add_many([turn(n) for n in range(30, 36)])
        db.memory("bob").annotate("t31", {"n": "é"})
        db.memory("gone").add_many([turn(40), turn(41)])
        db.memory("gone").fork("h").add("left", id="left")
        db.memory("gone").drop()
    reencode(str(path), ENCODER, integrity_key=KEY)
    with open_at(path) as db:
        assert db.verify() == []
        return path, readable(db)


def readable(db: evomem.Database) -> dict[str, Any]:
    """Return what can be read through the interface."""
    read: dict[str, Any] = {"memories": db.memories()}
    for name in db.memories():
        memory = db.memory(*name)
        read[repr(name)] = [
            [record.to_json() for record in memory.history()],
            len(memory),
            *(
                [(hit.to_json()) for hit in memory.search("says 7 of the cat", 4, mode=mode)]
                for mode in ("hybrid", "evolvable", "lexical")
            ),
            memory.at(seq=2).search("says 7", 2)[0].to_json(),
            [record.to_json() for record in memory.history(session="s")],
        ]
    stats = db.stats()
    read["stats"] = {name: stats[name] for name in stats if "bytes" not in name}
    return read


def check(path: Path, before: dict[str, Any], tmp_path: Path, seed: int) -> None:
    """Raise unless an edited database raises errors of ours alone, and is reported or unchanged."""
    faults: list[str] | None = None
    after = None
    with suppress(EvomemError), open_at(path) as db:
        faults = db.verify()
        after = before if faults else readable(db)
    if faults == []:
        assert after == before
    with suppress(EvomemError), open_at(path) as db:
        with suppress(EvomemError):
            db.repair()
        if faults and not db.verify():  # then what was repaired follows from the turns
            assert readable(db) == before
        for call in calls(db, tmp_path) if seed % 3 == 0 else ():
            with suppress(EvomemError):
                call()
    if seed % 10 == 0:
        list(examine(str(path)))


def calls(db: evomem.Database, tmp_path: Path) -> Iterator[Any]:
    for name in [("t", "alice", "f"), ("bob",)]:
        memory = db.memory(*name)
        yield memory.history
        yield lambda memory=memory: memory.search("says 7 of the cat")
        yield lambda memory=memory: memory.search("says 7 of the cat", where={"n": {"$gt": 2}})
        yield lambda memory=memory: memory.search(
            "cat", mode="lexical", since="2024-01-01T03:00:00Z"
        )
        yield lambda memory=memory: memory.at(time="2024-01-02T00:00:00Z").search("cat")
        yield lambda memory=memory: memory.get("t31")
        yield lambda memory=memory: len(memory)
        yield lambda memory=memory: memory.annotate("t32", {"x": 1})
        yield lambda memory=memory: memory.delete("t33")
        yield lambda memory=memory: memory.fork("new")
        yield lambda memory=memory: memory.add("more")
        yield lambda memory=memory: memory.purge("t2", forks=True)
    yield db.stats
    yield db.memories
    yield db.anchor
    yield lambda: db.export(tmp_path / "dump")
    yield lambda: load(tmp_path / "dump")
    yield lambda: db.backup(tmp_path / "copy.db")
    yield lambda: db.drop("gone")
    yield db.drop_generations
    yield db.compact


def load(folder: Path) -> None:
    with open_at(":memory:") as copy:
        copy.load(folder)


@pytest.mark.parametrize("seed", range(COUNT))
def test_an_edited_table_is_reported_or_reads_as_before(base, tmp_path, seed):
    path = tmp_path / "a.db"
    shutil.copy(base[0], path)
    edit_table(path, random.Random(seed))
    check(path, base[1], tmp_path, seed)


@pytest.mark.parametrize("seed", range(COUNT))
def test_an_edited_file_is_reported_or_reads_as_before(base, tmp_path, seed):
    path = tmp_path / "a.db"
    shutil.copy(base[0], path)
    path.write_bytes(edit_bytes(bytearray(path.read_bytes()), random.Random(seed)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # purged text in a log that cannot be emptied
        check(path, base[1], tmp_path, seed)


def edit_table(path: Path, chance: random.Random) -> None:
    """Change something in a table that SQLite lets be changed."""
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.execute("PRAGMA ignore_check_constraints = ON")
        file.execute("PRAGMA foreign_keys = OFF")
        for _ in range(100):
            with suppress(sqlite3.Error):
                if _edited(file, chance):
                    return
    raise AssertionError("no edit was possible")


def _edited(file: sqlite3.Connection, chance: random.Random) -> bool:
    table = chance.choice(["turns", "turns", "turns", "memories", "memories", "hidden", "forgotten", "encoder", "integrity", "runs", "postings", "readings", "generations", "lexicon", "migrations"])  # fmt: skip
    columns = [row[1] for row in file.execute(f"PRAGMA table_info({table})")]
    keys = [row[1] for row in file.execute(f"PRAGMA table_info({table})") if row[5]]
    rows = file.execute(f"SELECT * FROM {table}").fetchall()
    if not rows:
        return False
    one, other = (dict(zip(columns, chance.choice(rows), strict=True)) for _ in range(2))
    where = " AND ".join(f'"{name}" = ?' for name in keys)
    here = [one[name] for name in keys]
    kind = chance.choice(["value", "value", "value", "other", "row", "delete", "copy", "swap"])
    column = chance.choice(columns)
    if kind == "delete":
        return file.execute(f"DELETE FROM {table} WHERE {where}", here).rowcount > 0
    if kind == "copy":
        changed = {**one, **{name: _value(one[name], chance) for name in keys}}
        marks = ", ".join("?" * len(columns))
        file.execute(f"INSERT INTO {table} VALUES ({marks})", [changed[name] for name in columns])
        return True
    if kind == "swap":
        names = [name for name in columns if name not in (*keys, "memory", "seq", "id")]
        there = [other[name] for name in keys]
        for values, place in ((other, here), (one, there)):
            changes = ", ".join(f'"{name}" = ?' for name in names)
            given = [values[name] for name in names]
            file.execute(f"UPDATE {table} SET {changes} WHERE {where}", [*given, *place])
        return one != other
    new: Any = other[column] if kind in ("other", "row") else _value(one[column], chance)
    if type(new) is type(one[column]) and new == one[column]:
        return False
    return (
        file.execute(f'UPDATE {table} SET "{column}" = ? WHERE {where}', [new, *here]).rowcount > 0
    )


def _value(old: Any, chance: random.Random) -> Any:
    """Return another value: near the old one, or of any type."""
    if isinstance(old, int) and chance.random() < 0.5:
        return old + chance.choice([-2, -1, 1, 2, 100])
    if isinstance(old, bytes) and old and chance.random() < 0.7:
        changed = bytearray(old)
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        return bytes(changed)
    if isinstance(old, str) and old and chance.random() < 0.6:
        place = chance.randrange(len(old))
        return old[:place] + chance.choice('x"0[') + old[place + 1 :]
    return chance.choice(
        [None, 0, -1, 5, 2**62, -(2**63), 1.5, "", "x", "[]", '["bob"]', b"", b"\xff\x00"]
    )


def edit_bytes(data: bytearray, chance: random.Random) -> bytes:
    """Change bytes of a file, behind SQLite's header."""
    page = int.from_bytes(data[16:18], "big")
    pages = len(data) // page
    kind = chance.choice(["bit", "bit", "byte", "run", "page", "cut"])
    if kind == "page":
        source, target = chance.randrange(1, pages), chance.randrange(1, pages)
        data[target * page : (target + 1) * page] = data[source * page : (source + 1) * page]
    elif kind == "cut":
        del data[chance.randrange(page, len(data)) :]
    else:
        start = chance.randrange(100, len(data))
        for place in range(start, min(len(data), start + (40 if kind == "run" else 1))):
            data[place] ^= 1 << chance.randrange(8) if kind == "bit" else chance.randrange(1, 256)
    return bytes(data)
