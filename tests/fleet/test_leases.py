"""Leases: one worker at a time writes to a memory, and one that lost its lease writes nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import evomem
from evomem import Turn
from evomem.encoder import HashEncoder
from evomem.errors import DatabaseBusy, FingerprintMismatch, HeadMoved, LeaseLost, StoreError
from evomem.reencode import reencode
from tests.stores.helpers import DAY, ENCODER, downgrade, log, raw, read_rows, running, turn

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
    with pytest.raises(LeaseLost, match="fencing token 2, this worker's is 1"):
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


def test_a_worker_that_waits_for_a_lease_gets_it_after_the_next_write_or_a_close(workers, location):
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
    assert left.stats()["read_in_vain"] == 0


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
    assert first.stats()["read_in_vain"] == 40
    store = store_of(first)
    rows = log(store, store.view(("m",)))
    assert rows[-1][3] == running([turn("between", 100), *own]).key


def test_a_database_without_leases_is_written_to_as_before(workers, location):
    workers(lease=None).memory("m").add("one")
    assert lease(location) == (0, 0, 0)


@pytest.mark.parametrize("value", [0, -1, True, "10", float("nan"), float("inf")])
def test_a_lease_that_is_not_a_number_of_seconds_is_refused(value, location):
    with pytest.raises(StoreError, match="lease must be a number of seconds greater than 0"):
        evomem.open(location, encoder=ENCODER, lease=value)


def test_a_memory_that_is_new_gets_its_lease_with_its_first_turn(workers, location):
    db = workers()
    db.memory("m").add_many([Turn(user="one"), Turn(user="two")])
    assert lease(location)[0] == 1
    assert db.stats()["read_in_vain"] == 0


@pytest.mark.parametrize("change", ["delete", "annotate"])
def test_a_turn_that_another_worker_moved_meanwhile_is_still_the_one_that_is_changed(
    workers, location, monkeypatch, change
):
    left, right = workers(), workers()
    left.memory("m").add("later", id="later", time=DAY[5])
    left.memory("m").add("earlier", id="earlier", time=DAY[1])
    store = store_of(left)
    name = {"delete": "hide", "annotate": "annotate"}[change]
    write = getattr(store, name)

    def write_late(*arguments: Any) -> Any:
        monkeypatch.setattr(store, name, write)
        end_leases(location)
        right.memory("m").reread()  # "earlier" is turn 1 now
        end_leases(location)
        return write(*arguments)

    monkeypatch.setattr(store, name, write_late)
    getattr(left.memory("m"), change)("later", *[{"a": 1}][: change == "annotate"])
    history = {record.id: dict(record.turn.metadata) for record in right.memory("m").history()}
    after = {"earlier": {}} if change == "delete" else {"earlier": {}, "later": {"a": 1}}
    assert history == after


# what needs no lease ---------------------------------------------------------------------------


def ready_to_write(db: evomem.Database) -> Callable[[], None]:
    """Read a turn behind the only one of a memory; the result writes it, however late."""
    store = store_of(db)
    view = store.view(("m",))
    rows = read_rows(store.state(view), 2, [turn("two", 2)])
    return lambda: store.append(view, rows)


@pytest.mark.parametrize("forked", [False, True])
def test_a_memory_that_was_dropped_takes_nothing_that_the_holder_of_its_lease_has_read(
    workers, forked
):
    left, right = workers(), workers()
    left.memory("m").add("one", id="t1")
    if forked:  # then the dropped memory keeps its rows, and its end
        right.memory("m").fork("fork")
    write = ready_to_write(left)
    right.memory("m").drop()  # waits for nobody
    with pytest.raises(HeadMoved, match="dropped"):
        write()
    left.memory("m").add("two", id="t2")  # into a new memory of that name
    assert [record.id for record in right.memory("m").history()] == ["t2"]
    assert right.verify() == []


def test_a_fork_takes_no_lease_and_leaves_that_of_the_memory_to_its_holder(workers, location):
    left, right = workers(), workers()
    left.memory("m").add("one", id="t1")
    write = ready_to_write(left)
    fork = right.memory("m").fork("fork")
    write()
    fork.add("another two", id="t2")  # under the fork's own lease
    assert [record.id for record in left.memory("m").history()] == ["t1", "t2"]
    assert [record.turn.user for record in fork.history()] == ["one", "another two"]
    with raw(location) as execute:
        assert execute("SELECT fence FROM memories ORDER BY memory").fetchall() == [(1,), (1,)]


def test_a_reading_by_an_encoder_that_was_replaced_meanwhile_is_refused(workers, location):
    left = workers()
    left.memory("m").add("one", id="t1")
    write = ready_to_write(left)
    reencode(location, HashEncoder(24))
    with pytest.raises(FingerprintMismatch, match="open it again"):
        write()
    left.close()  # with a lease that cannot be given back
    with evomem.open(location) as db:
        assert [record.id for record in db.memory("m").history()] == ["t1"]
        assert db.verify() == []


def test_a_turn_is_read_again_if_embeddings_were_rewritten_meanwhile(workers):
    left, right = workers(embeddings="float32"), workers()
    left.memory("m").add("one", id="t1")
    write = ready_to_write(left)
    right.compact(embeddings="int8")
    with pytest.raises(HeadMoved):
        write()
    left.memory("m").add("two", id="t2")
    assert [record.id for record in right.memory("m").history()] == ["t1", "t2"]
    assert right.verify() == []


def test_workers_that_open_a_database_of_an_older_version_at_once_migrate_it_once(location):
    with evomem.open(location, encoder=ENCODER) as db:
        db.memory("m").add("one", id="t1")
    downgrade(location, 8)  # before leases
    gate = threading.Barrier(3)

    def work(number: int) -> None:
        gate.wait()
        with evomem.open(location, lease=0.2) as db:
            db.memory("m").add(f"by {number}", id=f"by {number}")

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))
    with evomem.open(location) as db:
        ids = [record.id for record in db.memory("m").history()]
        assert ids[0] == "t1"
        assert sorted(ids[1:]) == ["by 0", "by 1", "by 2"]
        assert db.verify() == []


def test_a_worker_of_an_older_version_is_refused(workers, location):
    workers().memory("m").add("one")
    with raw(location) as execute:
        execute("INSERT INTO migrations VALUES (1000, 'later', 0)")
    with pytest.raises(StoreError, match="written by a newer version"):
        workers()
