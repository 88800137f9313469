"""`evomem fleet` on the real Ray, with two CPUs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

import evomem
from tests.conftest import ROOT
from tests.fleet.workers import MEMORIES, TURNS, text
from tests.stores.helpers import running, turn

pytest.importorskip("ray", reason="needs the extra [ray]")
pytestmark = pytest.mark.slow


def run(module: str, location: str) -> dict[str, Any]:
    """Run a process that uses Ray; return what it prints."""
    # Ray gives its workers niceness 15: where tests keep a machine busy, Serve's proxy would not
    # start in the 5 s that it has.
    slow = {"RAY_worker_niceness": "0", "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "50"}
    environment = {**os.environ, **slow, "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(
        [sys.executable, "-m", module, location],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.fixture(scope="module")
def fleet(new_schema):
    """Where the database is, and what a process that used Ray on one machine says."""
    location = new_schema()
    return location, run("tests.fleet.on_ray", location)


@pytest.fixture(scope="module")
def nodes(new_schema):
    """The same of a process that used a cluster of several nodes."""
    location = new_schema()
    return location, run("tests.fleet.on_nodes", location)


def test_a_file_that_cannot_be_imported_is_set_aside_and_the_others_continue(fleet):
    location, done = fleet
    assert done["imports"]["turns"] == 2
    assert list(done["imports"]["failed"]) == ["poisoned"]
    assert done["imports"]["failed"]["poisoned"].startswith("InputError")
    with evomem.open(location) as db:
        assert db.memories("imported") == [("imported", "ann"), ("imported", "bob")]


def test_a_job_that_kills_its_worker_or_always_fails_is_set_aside_with_its_own_error(fleet):
    _, done = fleet
    assert done["deaths"]["turns"] == 3  # the one that failed twice as well
    assert sorted(done["deaths"]["failed"]) == ["hopeless", "poisoned"]
    assert "its worker died" in done["deaths"]["failed"]["poisoned"]
    assert done["deaths"]["failed"]["hopeless"].startswith("DatabaseBusy: tried")


def test_a_worker_that_cannot_start_is_an_error(fleet):
    _, done = fleet
    assert "a worker does not start" in done["deaths"]["refused"]
    assert "no such device" in done["deaths"]["refused"]


def test_an_evaluation_that_is_spread_over_workers_gives_what_one_process_gives(fleet):
    _, done = fleet
    assert done["evaluations"] == {"equal": [True, True], "questions": 40}


def test_a_replica_with_another_encoder_is_refused_before_it_serves(fleet):
    _, done = fleet
    assert "lifespan startup failed" in done["refused"]["error"]  # its log has the cause
    assert done["refused"]["running"] == 0


def test_replicas_are_added_under_load_and_taken_away_after_it(fleet):
    location, done = fleet
    assert done["scales"]["rose"]
    assert done["scales"]["fell"]
    with evomem.open(location) as db:
        for client, acknowledged in enumerate(done["scales"]["acknowledged"]):
            ids = [record.id for record in db.memory(f"scaled{client}").history()]
            assert ids == [f"t{number}" for number in range(acknowledged)]


def test_clients_that_find_the_queue_full_are_told_when_to_retry(fleet):
    _, done = fleet
    assert done["scales"]["waits"] == ["1"]


def test_each_memory_is_served_by_one_replica(fleet):
    _, done = fleet
    first, second, *_, last = done["serves"]["holders"]
    assert len(first) == MEMORIES
    assert first == second
    assert len(set(first.values())) == 2
    killed = first['["fleet","0"]']
    assert killed not in last.values()
    kept = [memory for memory, holder in first.items() if holder != killed]
    assert {last[memory] for memory in kept} == {first[memory] for memory in kept}


def test_a_replica_that_is_killed_loses_doubles_and_reorders_nothing(fleet):
    location, done = fleet
    assert done["serves"]["found"]
    with evomem.open(location) as db:
        for memory in range(MEMORIES):
            history = db.memory("fleet", str(memory)).history()
            assert [record.id for record in history] == [f"t{n}" for n in range(1, TURNS + 1)]


def test_a_memory_that_cannot_be_read_is_set_aside_and_the_encoder_changed_when_it_is_mended(fleet):
    location, done = fleet
    damaged, mended = done["reencodes"]
    [error] = damaged["failed"].values()
    assert error.startswith("IntegrityError")
    assert mended == {"turns": TURNS, "failed": {}}
    with evomem.open(location) as db:
        assert db.spec.name == "hash:24"
        assert damaged["turns"] + mended["turns"] == db.stats()["turns"]
        encoder = evomem.HashEncoder(24)
        turns = [turn(text(0, n), n) for n in range(1, TURNS + 1)]
        key = db._engine.store.view(("fleet", "0")).key
        assert key == running(turns, encoder).key
        assert db.verify() == []


def test_a_machine_that_is_lost_under_load_loses_doubles_and_reorders_nothing(nodes):
    location, done = nodes
    assert done["serves"]["replicas"] == 2
    with evomem.open(location) as db:
        for memory, acknowledged in enumerate(done["serves"]["acknowledged"]):
            turns = [turn(text(memory, n), n) for n in range(1, acknowledged + 1)]
            history = db.memory("fleet", str(memory)).history()
            assert [record.id for record in history] == [each.id for each in turns]
            assert db._engine.store.view(("fleet", str(memory))).key == running(turns).key
        assert db.verify() == []


def test_a_machine_that_is_lost_in_an_import_leaves_its_files_to_the_others(nodes):
    location, done = nodes
    assert done["imports"] == {"turns": 24 * 20, "failed": {}}
    with evomem.open(location) as db:
        for number in range(24):
            said = [record.turn.user for record in db.memory("imported", str(number)).history()]
            assert said == [f"file {number}, line {n}" for n in range(20)]
