"""Forgetting: what purge, expire and drop leave behind, in the log and in every byte on disk."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import evomem
from evomem.errors import NamespaceError, NotFound, QueryError, SharedTurns
from tests.durability.machine import Job
from tests.durability.plans import ENCODER, PLANS, SECRET, START, open_database, turn
from tests.durability.reference import assert_sound, codes, expected, snapshot
from tests.durability.trials import Bench
from tests.stores.helpers import bytes_held, bytes_of


@pytest.fixture
def db(location):
    with open_database(location) as opened:
        yield opened


def left_on_disk(db, location):
    """Every byte; PostgreSQL overwrites nothing by itself."""
    if location.startswith("postgresql"):
        db.compact()
    return bytes_held(location)


def told(memory, numbers, **fields):
    memory.add_many([turn(number, **fields) for number in numbers])


def held(memory):
    return [record.id for record in memory.history()]


# receipts ------------------------------------------------------------------------------------


def test_a_receipt_says_what_was_forgotten_when_and_what_it_took_and_holds_no_text(db):
    memory = db.memory("a", "b")
    told(memory, range(1, 6), session=SECRET)
    memory.fork("f")
    receipt = memory.purge("t2", forks=True)
    assert receipt.memories == (("a", "b"), ("a", "b", "f"))
    assert (receipt.ids, receipt.turns, receipt.reread) == (("t2",), 2, 6)
    assert abs((receipt.time - memory.history()[0].added).total_seconds()) < 60
    written = json.dumps(receipt.to_json())
    assert "says" not in written
    assert SECRET not in written


def test_a_receipt_says_where_text_stays_because_another_process_reads(tmp_path):
    with (
        open_database(tmp_path / "a.db") as db,
        open_database(tmp_path / "a.db", busy_timeout=0.05) as purging,
    ):
        told(db.memory("a"), range(1, 4))
        store: Any = db._engine.store
        with store._connections.reading() as connection:
            connection.exec_driver_sql("SELECT count(*) FROM turns").all()
            with pytest.warns(UserWarning, match="write-ahead log"):
                assert not purging.memory("a").purge("t2").clean
        assert db.memory("a").purge("t3").clean


def test_a_receipt_says_that_a_server_s_files_keep_the_text_until_they_are_compacted(new_schema):
    place = new_schema()
    with open_database(place) as db:
        told(db.memory("a"), range(1, 4), text=SECRET + "{}")
        assert not db.memory("a").purge("t2").clean
        assert not db.drop("a").clean
        assert SECRET.encode() in bytes_held(place)
        db.compact()
        assert SECRET.encode() not in bytes_held(place)


# expiring ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conditions", "left"),
    [
        ({"before": START + timedelta(hours=4)}, ["t4", "t5", "t6"]),
        ({"session": "s"}, ["t1", "t2", "t3"]),
        ({"before": START + timedelta(hours=5), "session": "s"}, ["t1", "t2", "t3", "t5", "t6"]),
        ({"session": "no such"}, ["t1", "t2", "t3", "t4", "t5", "t6"]),
    ],
)
def test_expired_turns_are_forgotten_as_if_never_said(db, conditions, left):
    memory = db.memory("a")
    told(memory, range(1, 4))
    told(memory, range(4, 7), session="s")
    memory.delete("t2")  # a deleted turn expires as well
    receipt = memory.expire(**conditions)
    assert held(memory) == [id for id in left if id != "t2"]
    assert receipt.turns == 6 - len(left)
    assert_sound(db)


def test_expiring_without_a_condition_is_refused(db):
    with pytest.raises(QueryError, match="before"):
        db.memory("a").expire()


def test_expiring_stops_at_turns_that_forks_share_unless_told(db):
    memory = db.memory("a")
    told(memory, range(1, 5), session="s")
    fork = memory.fork("f")
    told(fork, range(5, 7))
    with pytest.raises(SharedTurns):
        memory.expire(session="s")
    assert len(memory) == 4
    assert memory.expire(session="s", forks=True).turns == 8
    assert held(fork) == ["t5", "t6"]
    assert_sound(db)


def test_a_fork_that_has_its_own_copy_of_a_turn_forgets_it_too(db):
    """A purge in a fork copies what comes later; the copies were forgotten by `forks=True`."""
    memory = db.memory("a")
    told(memory, range(1, 5))
    fork = memory.fork("f")
    fork.purge("t1")
    memory.purge("t3", forks=True)
    assert held(fork) == ["t2", "t4"]


def test_a_stranger_s_turn_of_the_same_id_below_the_name_is_kept(db):
    told(db.memory("a"), range(1, 4))
    told(db.memory("a", "b"), range(1, 4), text="{} of somebody else")
    told(db.memory("a", "c"), range(1, 4))  # the same words, said again: not a copy
    db.memory("a").purge("t2", forks=True)
    assert held(db.memory("a", "b")) == held(db.memory("a", "c")) == ["t1", "t2", "t3"]


# dropping ------------------------------------------------------------------------------------


def test_a_dropped_tenant_is_in_no_byte_and_the_others_do_not_notice(location, db):
    for name in (("a", "x"), ("a", "y"), ("a",)):
        told(db.memory(*name), range(1, 8), text=SECRET + "{}", session=SECRET)
    db.memory("a", "x").fork(SECRET)
    told(db.memory("ab"), range(1, 8))
    db.memory("a", "x").search("zyxw1")
    assert SECRET.encode() in bytes_held(location)
    receipt = db.drop("a")
    names = (("a",), ("a", "x"), ("a", "x", SECRET), ("a", "y"))
    assert (receipt.memories, receipt.turns, receipt.kept) == (names, 21, 0)
    assert SECRET.encode() not in left_on_disk(db, location)
    assert db.memories() == [("ab",)]
    assert len(db.memory("ab")) == 7
    assert_sound(db)
    with pytest.raises(NotFound):
        db.drop("a")
    with pytest.raises(NamespaceError):
        db.drop()


def test_a_dropped_memory_is_empty_and_can_be_used_again(db):
    memory = db.memory("a")
    told(memory, range(1, 4))
    past = memory.at(seq=2)
    memory.drop()
    assert held(memory) == memory.search("the cat") == held(past) == []
    told(memory, range(3, 5))
    assert [record.seq for record in memory.history()] == [1, 2]
    assert_sound(db)


def test_a_drop_leaves_deleted_turns_of_other_memories_hidden(db):
    memory = db.memory("a")
    told(memory, range(1, 4))
    memory.delete("t2")
    told(db.memory("b"), range(11, 14))
    db.drop("b")
    assert held(memory) == ["t1", "t3"]
    assert_sound(db)


def test_a_memory_with_purged_turns_can_be_dropped_and_used_again(db):
    memory = db.memory("a")
    told(memory, range(1, 4))
    memory.purge("t2")
    memory.drop()
    assert_sound(db)
    told(memory, range(3, 5))
    assert_sound(db)


def test_no_number_of_a_dropped_memory_is_given_to_another(location, db):
    """Numbers were reused, so that a process that knew the old one wrote into a stranger's memory."""
    with evomem.open(location, ENCODER) as other:
        mine = other.memory("a")
        told(mine, range(1, 4))
        mine.search("the cat")
        db.drop("a")
        told(db.memory("b"), range(11, 14))
        assert held(mine) == mine.search("the cat") == []
        told(mine, range(21, 23))
        assert held(db.memory("b")) == ["t11", "t12", "t13"]
        assert held(db.memory("a")) == ["t21", "t22"]
        numbers = [db._engine.store.find_memory((name,)) for name in "ab"]
        assert 1 not in numbers


@settings(max_examples=20)
@given(order=st.permutations(["a", "a/f", "a/f/g", "a/h", "a/f/i"]), data=st.data())
def test_forks_and_what_they_were_forked_from_can_be_dropped_in_any_order(order, data):
    with open_database(":memory:") as db:
        told(db.memory("a"), range(1, 6))
        for count, name in enumerate(["a/f", "a/f/g", "a/h", "a/f/i"], start=1):
            *parent, label = name.split("/")
            source = db.memory(*parent)
            end = data.draw(st.integers(0, len(source)))
            source.at(seq=end).fork(label)
            told(db.memory(*name.split("/")), range(10 * count, 10 * count + count % 3))
        expected = snapshot(db)
        for name in order:
            db.memory(*name.split("/")).drop()
            expected.pop(tuple(name.split("/")), None)
            assert snapshot(db) == expected
        assert db.verify() == []
        assert db.stats()["turns"] == 0


def test_rows_shared_by_forks_are_erased_with_the_last_fork(location, db):
    told(db.memory("a"), range(1, 4), text=SECRET + "{}")
    fork = db.memory("a").fork("f")
    told(fork, range(4, 6))
    assert db.memory("a").drop().kept == 3
    assert held(fork) == ["t1", "t2", "t3", "t4", "t5"]
    fork.purge("t1")  # it has its own copies now
    assert_sound(db)
    assert SECRET.encode() in bytes_held(location)
    fork.drop()
    assert SECRET.encode() not in left_on_disk(db, location)


# being interrupted ---------------------------------------------------------------------------


@pytest.mark.parametrize("plan", ["forget", "drop"])
def test_forgetting_that_was_interrupted_is_finished_when_done_again(bench: Bench, plan):
    for number in range(7, bench.calls(plan), 12):
        folder = bench.killed_at(plan, number)
        with open_database(folder / "a.db") as db:
            for step in PLANS[plan][1]:
                step(db)
            assert snapshot(db) == expected(plan)[-1]
        assert SECRET.encode() not in bytes_of(folder)


def test_text_that_a_killed_purge_left_in_the_write_ahead_log_is_gone_with_the_next_opening(bench):
    secret, folder = SECRET.encode(), bench.folder / "hit"
    steps = len(PLANS["forget"][1])
    left = 0
    for number in range(bench.calls("forget"), 0, -4):
        outcome = bench.run(Job("forget", bench.fresh("forget"), "kill", number))
        if outcome.done < steps - 1:
            break
        left += secret in bytes_of(folder)
        with open_database(folder / "a.db") as db:
            purged = SECRET not in repr(snapshot(db))
            assert not (purged and secret in bytes_of(folder))
    assert left


def test_no_vectors_of_a_purged_turn_stay_in_a_file_when_the_purge_is_killed(bench):
    """Looks for the vectors of turns whose purge was finished before the kill."""
    with open_database(Path(bench.fresh("forget"), "a.db")) as db:
        rows = db._engine.store.rows(db.memory("m")._view(), after=0)
        vectors = {row.turn.id: codes(row.reading.embeddings) for row in rows}
        assert vectors["t6"] in bytes_of(
            bench.folder / "hit"
        )  # so this finds vectors where they are
    purged = 0
    calls = bench.calls("forget")
    for number in range(calls // 3, calls * 2 // 3, 2):  # a leak lasts two calls or more
        bench.run(Job("forget", bench.fresh("forget"), "kill", number))
        with open_database(bench.folder / "hit" / "a.db") as db:
            memories = [db.memory(*namespace) for namespace in db.memories()]
            left = {id for memory in memories for id in held(memory)}
            gone = {"t6", "t8"} - left
        purged += len(gone)
        assert not [id for id in gone if vectors[id] in bytes_of(bench.folder / "hit")]
    assert purged
