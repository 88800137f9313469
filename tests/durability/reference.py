"""What a database must hold after each step of a plan, and whether one that was hit does."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import Any

import numpy as np

import evomem
from evomem.reencode import reencode
from evomem.rows import Rows
from evomem.state import State, Vectors
from tests.durability.plans import ENCODER, PLANS, SECRET, open_database, turn
from tests.stores.helpers import bytes_of, exact, found, words

Snapshot = dict[tuple[str, ...], Any]
QUERIES = ("says 7 of the cat", "secret")


def snapshot(db: evomem.Database) -> Snapshot:
    """Return everything that the memories hold, but not when it was stored."""
    store = db._engine.store
    contents = {}
    for namespace in db.memories():
        number = store.find_memory(namespace)
        assert number is not None
        view = store.view(number)
        shown = {record.seq for record in store.history(view)}
        rows = [
            (row.seq, row.turn, row.key, row.reading.opens_chunk, row.seq in shown)
            + (row.reading.embeddings.tobytes(), row.reading.latents.tobytes())
            for row in store.rows(view, after=0)
        ]
        if rows:
            contents[namespace] = rows
    return contents


@functools.cache
def expected(plan: str) -> list[Snapshot]:
    """Return what the database holds before the first step and after each, from one in memory."""
    before, steps = PLANS[plan]
    states = []
    with open_database(":memory:") as db:
        for step in before:
            step(db)
        states.append(snapshot(db))
        for step in steps:
            step(db)
            states.append(snapshot(db))
    return states


def base(plan: str, folder: Path) -> Path:
    """Make, once, the database that the plan begins with; copy it to interrupt the plan."""
    folder = folder / plan
    if not folder.exists():
        folder.mkdir(parents=True)
        if PLANS[plan][0]:
            with open_database(folder / "a.db") as db:
                for step in PLANS[plan][0]:
                    step(db)
    return folder


def copy(source: Path, target: Path) -> Path:
    """Return a fresh copy of a folder."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target


def check(
    plan: str,
    folder: Path,
    done: int,
    *,
    lost: bool = False,
    again: bool = True,
) -> None:
    """Raise `AssertionError` unless the database is as `done` acknowledged steps leave it.

    The step that was not acknowledged may be there, in each memory as a whole. `lost` allows that
    acknowledged steps are missing at the end, as after a power loss with a faster setting. With
    `again` the steps are then run again, as a program would that was started again, and everything
    must be as if nothing had happened.
    """
    states = expected(plan)
    steps = PLANS[plan][1]
    path = folder / "a.db"
    if plan == "reencode":  # it may be of the other encoder at this moment
        reencode(str(path), ENCODER)
    with open_database(path) as db:
        contents = snapshot(db)
        there = range(done + 1) if lost else [done]
        assert any(between(states, number, contents) for number in there), (
            f"{done} steps were acknowledged: {_difference(states[done], contents)}"
        )
        assert_sound(db)
        if not again:
            return
        for step in steps[0 if lost else done :]:
            step(db)
        assert snapshot(db) == states[-1], "the steps could not be run again"
        db.memory("m").add_many([turn(1000)])
        assert db.memory("m").history()[-1].id == "t1000"
        assert db.verify() == []
    if SECRET not in repr(states[-1]):
        assert SECRET.encode() not in bytes_of(folder), "forgotten text is in a file"


def assert_sound(db: evomem.Database) -> None:
    """Everything that must hold of any database: it verifies, and its index is what the log says."""
    assert [fault for fault in db.verify() if "replaced when needed" not in fault] == []
    engine = db._engine
    for namespace in db.memories():
        number = engine.store.find_memory(namespace)
        assert number is not None
        view = engine.store.view(number)
        state = engine.store.state(view)
        fresh: State[evomem.Turn] = State.empty(ENCODER.spec)
        for row in engine.store.rows(view, after=0):
            [reading] = ENCODER.read(fresh, [row.turn])
            forms = (reading.embeddings, Rows.quantized(reading.embeddings)[:])
            assert row.reading.embeddings.tobytes() in [form.tobytes() for form in forms]
            assert reading.latents.tobytes() == row.reading.latents.tobytes()
            fresh = fresh.after(row.turn, reading)
        assert fresh.key == state.key
        assert np.array_equal(fresh.latents, state.latents)
        for query in ENCODER.embed_queries(state, QUERIES):
            hits = found(engine.index.search(view, query, 5))
            assert hits == exact(engine.store, view, query, 5)
        shown = [record for record in engine.store.history(view) if "cat" in record.turn.user]
        assert sorted(words(engine.store, view, "cat")) == [record.seq for record in shown]


def warm_up() -> None:
    """Import everything and compile all statements once, so that forks of this process need not."""
    for plan in PLANS:
        if plan != "stream":  # long, and the same statements
            expected(plan)
    with open_database(":memory:") as db:
        db.verify()


def between(states: list[Snapshot], done: int, contents: Snapshot) -> bool:
    """Say whether each memory is as after `done` steps or as after one more."""
    before, after = states[done], states[min(done + 1, len(states) - 1)]
    names = before.keys() | after.keys() | contents.keys()
    return all(contents.get(name) in (before.get(name), after.get(name)) for name in names)


def _difference(wanted: Snapshot, contents: Snapshot) -> str:
    ids = [
        {
            "/".join(name): [(row[0], row[1].id, row[4]) for row in rows]
            for name, rows in snapshot_.items()
        }
        for snapshot_ in (wanted, contents)
    ]
    return f"there should be {ids[0]} (seq, id, visible), there is {ids[1]}"


def codes(vectors: Vectors) -> bytes:
    """Return what a file holds of vectors, (n, D), that are stored in 8 bits a number."""
    return Rows.quantized(vectors).numbers.tobytes()
