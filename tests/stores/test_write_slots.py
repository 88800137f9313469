"""Writers of one memory take turns: nothing is read in vain, and nobody has to wait for long."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import evomem
from evomem import Turn
from evomem.encoder import HashEncoder
from evomem.errors import HeadMoved
from evomem.reading import MAX_PASS_SECONDS, MAX_PASS_TURNS, MIN_PASS_TURNS, Pace
from evomem.state import Reading, State
from tests.processes import Forked


class Slow(HashEncoder):
    """The hashing encoder; takes a while for every turn, and counts the turns."""

    count = 0

    def read(self, state: State[Turn], turns: Any) -> list[Reading]:
        self.count += len(turns)
        time.sleep(0.002 * len(turns))
        return super().read(state, turns)


@pytest.fixture
def stores(location: str) -> Iterator[tuple[Any, Any]]:
    """The stores of two who have one database open."""
    with evomem.open(location, "hash") as one, evomem.open(location, "hash") as other:
        one.memory("a").add("first")
        yield one._engine.store, other._engine.store


def _is_taken(store: Any, memory: int = 1) -> bool:
    with store.snapshot():
        return bool(store.slot_is_taken(memory))


def test_a_slot_is_taken_while_it_is_held_and_each_memory_has_its_own(stores):
    one, other = stores
    assert not _is_taken(other)
    with one.write_slot(1) as is_wanted:
        assert _is_taken(other)
        assert not _is_taken(other, memory=2)
        with other.write_slot(2):
            assert not is_wanted()
    assert not _is_taken(other)


def test_a_waiting_store_is_noticed_and_gets_the_slot_before_its_last_holder(stores):
    one, other = stores
    order = []

    def wait() -> None:
        with other.write_slot(1):
            order.append("other")

    with one.write_slot(1) as is_wanted:
        thread = threading.Thread(target=wait)
        thread.start()
        while not is_wanted():
            time.sleep(0.001)
    with one.write_slot(1):
        order.append("one")
    thread.join()
    assert order == ["other", "one"]


def test_a_writer_that_waits_too_long_continues_without_a_slot(stores, monkeypatch):
    for module in ("write_slots", "postgresql"):
        monkeypatch.setattr(f"evomem_stores.database.{module}.WAIT", 0.02)
    one, other = stores
    with one.write_slot(1), other.write_slot(1) as is_wanted:
        assert not is_wanted()
    assert not _is_taken(one)


def _hold(location: str) -> None:
    with evomem.open(location) as db, db._engine.store.write_slot(1):
        print("held", flush=True)  # noqa: T201  # to the test
        signal.pause()


def test_the_slot_of_a_process_that_is_killed_is_free(stores, location):
    one, _ = stores
    process = Forked(_hold, location)
    assert process.stdout.readline() == "held\n"
    assert _is_taken(one)
    process.kill()
    while _is_taken(one):  # a server may take a moment to notice
        time.sleep(0.01)


def test_closing_one_of_two_databases_frees_no_slot_of_the_other(location):
    with evomem.open(location, "hash") as db, evomem.open(location, "hash") as watching:
        db.memory("a").add("first")
        with db._engine.store.write_slot(1):
            third = evomem.open(location, "hash")
            third.memory("b").add_many([Turn(user=f"turn {n}") for n in range(MAX_PASS_TURNS + 1)])
            third.close()
            assert _is_taken(watching._engine.store)


def test_a_bulk_import_yields_to_a_live_writer_and_rereads_few_turns(location):
    bulk, live = Slow(), Slow()
    with evomem.open(location, bulk) as db, evomem.open(location, live) as other:
        db.memory("a").add("first", id="first")
        bulk.count, done = 0, threading.Event()
        talk = other.memory("a")
        added: list[int] = []

        def speak() -> None:
            while not done.is_set():
                added.append(talk.add(f"live {len(added)}", id=f"live{len(added)}").seq)
                time.sleep(0.005)

        thread = threading.Thread(target=speak)
        thread.start()
        turns = [Turn(user=f"bulk {n}", id=f"b{n}") for n in range(200)]
        records = db.memory("a").add_many(turns)
        done.set()
        thread.join()
        assert bulk.count <= 1.5 * len(turns)  # once, the first batch may have been read in vain
        assert live.count <= 1.5 * len(added) + 5
        assert len([seq for seq in added if seq < records[-1].seq]) >= 3
        assert [record.id for record in records] == [turn.id for turn in turns]
        seqs = [record.seq for record in records]
        assert seqs == sorted(seqs)
        history = db.memory("a").history()
        assert len(history) == len({record.id for record in history}) == 201 + len(added)
        with evomem.open(":memory:", "hash") as fresh:  # as if they had been added by one
            again = fresh.memory("a")
            again.add_many([record.turn for record in history])
            assert again._view().key == db.memory("a")._view().key
        assert db.verify() == []


def test_a_writer_without_a_slot_gets_an_error_from_the_log_if_another_was_quicker(stores):
    one, _ = stores
    view = one.view(1)
    with one.write_slot(1):
        rows = one.rows(view, after=0)
        with pytest.raises(HeadMoved):
            one.append(one.view(1, seq=0), rows)


def test_passes_are_short_while_another_caller_waits_and_long_otherwise():
    pace = Pace()
    pace.fit(2 * MAX_PASS_SECONDS)
    assert pace.size == MAX_PASS_TURNS // 2
    pace.fit(1000 * MAX_PASS_SECONDS)
    assert pace.size == MIN_PASS_TURNS
    for _ in range(5):
        pace.slower()
    assert pace.size == 1
    pace.fit(1000 * MAX_PASS_SECONDS)
    assert pace.size == 1
    pace.fit(MAX_PASS_SECONDS / 4)
    assert pace.size == 4
    for _ in range(10):
        pace.faster()
    assert pace.size == MAX_PASS_TURNS
