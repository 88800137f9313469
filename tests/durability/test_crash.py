"""A process is killed, its disk fails, its machine loses power: what was acknowledged is there.

`python -m tests.durability --runs 10000` does the same for as long as you like.
"""

from __future__ import annotations

import errno
import random

import pytest

from tests.durability.machine import Job
from tests.durability.plans import PLANS, open_database, turn
from tests.durability.reference import between, expected, snapshot
from tests.durability.trials import ERRORS, Bench

SAMPLES = {"adds": 40, "make": 30, "forget": 30, "drop": 30, "fork": 16}
"""How many of the moments at which a plan can be killed are tried: about 220, with those of "add"."""


def points(bench: Bench, plan: str, count: int, shift: float = 0) -> list[int]:
    """A fixed sample of the calls of a plan, spread evenly; another one with a `shift` in 0 .. 1."""
    calls = bench.calls(plan)
    return [1 + int((place + shift) * calls / count) for place in range(count)]


def test_an_add_survives_a_kill_before_and_in_the_middle_of_each_of_its_calls(bench):
    assert bench.calls("add") > 40  # opening, adding, the index file, closing
    for number, torn in bench.kills("add"):
        bench.kill_at("add", number, torn=torn)


@pytest.mark.parametrize("plan", SAMPLES)
def test_every_operation_survives_a_kill(bench, plan):
    moments, count = bench.kills(plan), SAMPLES[plan]
    for place in range(count):
        number, torn = moments[place * len(moments) // count]
        bench.kill_at(plan, number, torn=torn)


def test_a_stream_of_adds_survives_kills_at_random_moments(bench):
    chance = random.Random(1)
    done = [bench.kill_after("stream", chance.uniform(0, 0.15)) for _ in range(12)]
    assert any(done), "no writer was killed at work"


# failing disks -------------------------------------------------------------------------------


@pytest.mark.parametrize("error", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
def test_a_call_that_fails_is_reported_and_loses_nothing(bench, error, lasting):
    """The step that raised is done again when the disk is well: then it is there, once."""
    errors = []
    shift = (2 * ERRORS.index(error) + lasting) / (2 * len(ERRORS))  # each fails at other calls
    for plan, count in (("add", 6), ("adds", 4), ("make", 4), ("forget", 4)):
        for number in points(bench, plan, count, shift):
            errors += bench.fail_at(plan, number, error, lasting=lasting)
    assert errors, "no call that matters was hit"
    assert all(error_.startswith(("StoreError", "DatabaseDamaged")) for error_ in errors), errors


def test_a_clock_that_jumps_changes_nothing_but_the_times_of_storing(bench):
    year = 365 * 86_400
    skews = [year, -2 * year, 0, -(2**31)]
    outcome = bench.run(Job("adds", bench.fresh("adds"), skews=skews))
    assert (outcome.done, outcome.errors) == (4, [])
    bench.check("adds", 4)


# power losses --------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", ["adds", "make", "forget", "drop", "fork"])
def test_with_full_synchronous_a_power_loss_takes_nothing_that_was_acknowledged(bench, plan):
    calls = bench.recorded(plan, "FULL")
    for seed in range(15):
        bench.cut_power(plan, calls, lost=False, rng=random.Random(seed))


@pytest.mark.parametrize("plan", ["adds", "forget"])
def test_with_normal_synchronous_a_power_loss_takes_only_the_newest_turns(bench, plan):
    calls = bench.recorded(plan, "NORMAL")
    for seed in range(15):
        bench.cut_power(plan, calls, lost=True, rng=random.Random(seed))


# the harness itself ---------------------------------------------------------------------------


def test_a_power_loss_that_takes_acknowledged_turns_is_noticed(bench):
    calls = bench.recorded("adds", "NORMAL")
    with pytest.raises(AssertionError, match="were acknowledged"):  # noqa: PT012  # one of them
        for seed in range(15):
            bench.cut_power("adds", calls, lost=False, rng=random.Random(seed))


def test_a_turn_that_is_missing_doubled_or_out_of_place_is_noticed(bench):
    with open_database(":memory:") as db:
        for step in PLANS["adds"][0]:
            step(db)
        contents = snapshot(db)
        assert between(expected("adds"), 0, contents)
        assert not between(expected("adds"), 1, contents)
        db.memory("m").add_many([turn(12), turn(11)])
        assert not between(expected("adds"), 1, snapshot(db))
