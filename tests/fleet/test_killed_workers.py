"""Workers of one PostgreSQL database are killed at random calls and replaced, while turns come in."""

from __future__ import annotations

from tests.fleet.killing import Fleet, check

KILLS = 8


def test_what_killed_and_replaced_workers_wrote_equals_what_one_process_writes(new_schema):
    fleet = Fleet(new_schema(), memories=16, turns=8, seed=1)
    fleet.run(KILLS)
    assert fleet.killed == KILLS
    assert fleet.takeovers
    check(fleet)
