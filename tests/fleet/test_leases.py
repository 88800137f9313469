"""Leases: one worker at a time writes to a memory, and one that lost its lease writes nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import evomem
from evomem import Turn
from evomem.encoder import HashEncoder
from evomem.errors import DatabaseBusy, LeaseLost, StoreError
from tests.stores.helpers import ENCODER, log, raw, read_rows, running, turn

LONG = 600.0


@pytest.fixture
def workers(location):
    """Opens the database as another worker does, each time with leases of its own."""
    opened: list[evomem.Database] = []

    def open_worker(lease: float | None = LONG, encoder: Any = ENCODER, **options: Any) -> Any:
        opened.append(evomem.open(location, encoder=encoder, lease=lease, **options))
        return opened[-1]

    yield open_worker
    for db in opened:
        db.close()


def store_of(db: evomem.Database) -> Any:
    return db._engine.store


def end_leases(location: str) -> None:
    with raw(location) as execute:
        execute("UPDATE memories SET leased = 0")


def lease(location: str) -> tuple[int, int, int]:
    """The fencing number of the only memory, when its lease ends, and whether it is wanted."""
    with raw(location) as execute:
        return tuple(execute("SELECT fence, leased, wanted FROM memories").fetchone())


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never came")


def test_a_write_with_an_old_number_is_refused_in_its_transaction(workers, location):
    left, right = workers(), workers()
    left.memory("m").add("one", id="t1")
    store = store_of(left)
    view = store.view(("m",))
    rows = read_rows(store.state(view), 2, [turn("two", 2)])
    end_leases(location)
    with store_of(right).write_slot(view.memory):  # takes the lease and writes nothing
        pass
    with pytest.raises(LeaseLost, match="number 2 now, and this worker's has 1"):
        store.append(view, rows)
    assert [record.id for record in right.memory("m").history()] == ["t1"]
    for refused in (
        lambda: store.hide(view, [1]),
        lambda: store.annotate(view, 1, {"a": 1}),
        lambda: store.rewrite(view, 1, []),
    ):
        store._leases._held[view.memory] = store._leases._held.get(view.memory) or _old(view.memory)
        with pytest.raises(LeaseLost):
            refused()
    [record] = right.memory("m").history()
    assert (record.id, dict(record.turn.metadata)) == ("t1", {})


def _old(memory: int) -> Any:
    from evomem_stores.log.leases import Lease

    return Lease(memory, 1, LONG, time.monotonic())


def test_the_number_only_grows_and_a_worker_that_lost_its_lease_continues_after_the_other(
    workers, location
):
    left, right = workers(), workers()
    for n, db in enumerate([left, right, left, left, right], 1):
        db.memory("m").add(f"text {n}", id=f"t{n}")
        if n != 3:  # the fourth call has its lease from the third
            end_leases(location)
            store_of(db)._leases._held.clear()
    assert lease(location)[0] == 4
    assert [record.id for record in left.memory("m").history()] == [f"t{n}" for n in range(1, 6)]


def test_a_lease_that_somebody_holds_is_not_given_away_whatever_a_worker_takes_the_time_for(
    workers, monkeypatch
):
    workers().memory("m").add("one")
    later = time.time_ns() + 10**18
    monkeypatch.setattr(time, "time_ns", lambda: later)
    monkeypatch.setattr(time, "time", lambda: later / 1e9)
    with pytest.raises(DatabaseBusy, match="held the lease of memory 1 for longer than 0 seconds"):
        workers(busy_timeout=0).memory("m").add("two")


def test_a_lease_ends_by_itself_after_the_last_write(workers):
    workers(lease=0.05).memory("m").add("one")
    workers().memory("m").add("two")  # waits for it


def test_every_write_renews_the_lease(workers, location):
    db = workers()
    db.memory("m").add("one", id="t1")
    ends = [lease(location)[1]]
    for write in (
        lambda: db.memory("m").add("two", id="t2"),
        lambda: db.memory("m").annotate("t2", {"a": 1}),
        lambda: db.memory("m").delete("t2"),
        lambda: db.memory("m").purge("t1"),
    ):
        time.sleep(0.002)  # SQLite's clock has milliseconds
        write()
        ends.append(lease(location)[1])
    assert ends == sorted(set(ends))
    assert lease(location)[0] == 1


def test_who_waits_for_a_lease_gets_it_at_the_end_of_the_next_write_or_at_a_close(
    workers, location
):
    left, right = workers(), workers()
    left.memory("m").add("one", id="t1")
    waiting = threading.Thread(target=lambda: right.memory("m").add("three", id="t3"))
    waiting.start()
    wait_for(lambda: lease(location)[2] == 1)
    left.memory("m").add("two", id="t2")
    waiting.join()
    waiting = threading.Thread(target=lambda: left.memory("m").add("four", id="t4"))
    waiting.start()
    wait_for(lambda: lease(location)[2] == 1)
    right.close()
    waiting.join()
    assert [record.id for record in left.memory("m").history()] == ["t1", "t2", "t3", "t4"]
    assert left._engine.read_in_vain == right._engine.read_in_vain == 0


class Interrupted(HashEncoder):
    """An encoder in whose second pass something happens."""

    def __init__(self, call: Callable[[], None]) -> None:
        super().__init__(32)
        self._call, self._passes = call, 0

    def read(self, state: Any, turns: Any) -> Any:
        self._passes += 1
        if self._passes == 2:
            self._call()
        return super().read(state, turns)


def test_a_lease_that_is_lost_in_the_middle_of_a_batch_loses_and_doubles_nothing(workers, location):
    def take_over() -> None:
        end_leases(location)
        other.memory("m").add_many([turn("between", 100)])
        other.close()

    first = workers(encoder=Interrupted(take_over))
    other = workers()
    own = [turn(f"text {n}", n) for n in range(40)]
    first.memory("m").add_many(own)
    ids = [record.id for record in first.memory("m").history()]
    assert ids == ["t100", *(record.id for record in own)]
    assert first._engine.read_in_vain == 40
    store = store_of(first)
    rows = log(store, store.view(("m",)))
    assert rows[-1][3] == running([turn("between", 100), *own]).key


def test_a_database_without_leases_is_written_to_as_before(workers, location):
    workers(lease=None).memory("m").add("one")
    assert lease(location) == (0, 0, 0)


@pytest.mark.parametrize("value", [0, -1, True, "10", float("nan"), float("inf")])
def test_a_lease_that_is_no_time_is_refused(value, location):
    with pytest.raises(StoreError, match="lease must be a number of seconds greater than 0"):
        evomem.open(location, encoder=ENCODER, lease=value)


def test_a_memory_that_is_new_gets_its_lease_with_its_first_turn(workers, location):
    db = workers()
    db.memory("m").add_many([Turn(user="one"), Turn(user="two")])
    assert lease(location)[0] == 1
    assert db._engine.read_in_vain == 0
