"""`evomem fleet` on the real Ray, with two CPUs."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import evomem
from tests.conftest import ROOT
from tests.fleet.workers import MEMORIES, TURNS, text
from tests.stores.helpers import running, turn

pytest.importorskip("ray", reason="needs the extra [ray]")


@pytest.fixture(scope="module")
def fleet(new_schema):
    """Where the database is, and what a process that used Ray says."""
    location = new_schema()
    command = [sys.executable, "-m", "tests.fleet.on_ray", location]
    # Ray gives its workers niceness 15: where tests keep a machine busy, Serve's proxy would not
    # start in the 5 s that it has.
    slow = {"RAY_worker_niceness": "0", "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "50"}
    environment = {**os.environ, **slow, "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return location, json.loads(done.stdout.splitlines()[-1])


def test_a_file_that_cannot_be_imported_is_set_aside_and_the_others_continue(fleet):
    location, done = fleet
    assert done["imports"]["turns"] == 2
    assert list(done["imports"]["failed"]) == ["poisoned"]
    assert done["imports"]["failed"]["poisoned"].startswith("InputError")
    with evomem.open(location) as db:
        assert db.memories("imported") == [("imported", "ann"), ("imported", "bob")]


def test_a_history_that_kills_its_worker_is_set_aside_and_the_others_continue(fleet):
    _, done = fleet
    assert done["deaths"]["turns"] == 3
    assert list(done["deaths"]["failed"]) == ["poisoned"]
    assert "its worker died" in done["deaths"]["failed"]["poisoned"]


def test_a_worker_that_cannot_start_is_an_error(fleet):
    _, done = fleet
    assert "a worker does not start" in done["deaths"]["refused"]
    assert "no such device" in done["deaths"]["refused"]


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


def test_the_encoder_is_changed_by_workers(fleet):
    location, done = fleet
    assert done["reencode"] == {"turns": MEMORIES * TURNS + 2, "failed": {}}
    with evomem.open(location) as db:
        assert db.spec.name == "hash:24"
        encoder = evomem.HashEncoder(24)
        turns = [turn(text(0, n), n) for n in range(1, TURNS + 1)]
        key = db._engine.store.view(("fleet", "0")).key
        assert key == running(turns, encoder).key
        assert db.verify() == []
