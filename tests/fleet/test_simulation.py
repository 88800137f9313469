"""The simulated fleet of `python -m benchmarks fleet`, at a small size."""

from __future__ import annotations

import pytest

pytest.importorskip("simpy", reason="needs the extra [benchmarks]")


def test_a_database_that_is_asked_for_more_than_it_can_is_what_breaks(monkeypatch):
    from benchmarks.cost import fleet_simulation as simulation

    monkeypatch.setattr(simulation, "MEMORIES", 1000)
    monkeypatch.setattr(simulation, "WORKERS", 10)
    monkeypatch.setattr(simulation, "DATABASE_CORES", 2)
    monkeypatch.setattr(simulation, "RATES", (100, 2000))
    costs = simulation.Costs(worker=0.001, server=0.002)
    easy, hard = simulation.simulate(costs, 500)
    assert easy["done"] == hard["done"] == 500
    assert easy["database busy"] < 0.3
    assert hard["database busy"] > 1  # more than there is time: a queue grows
    assert hard["p95 ms"] > 10 * easy["p50 ms"]
    assert easy["hit rate"] > 0.9  # all states have room
    million, _ = simulation.sizes(costs, 4000, easy)
    writes = million["peak a second"] * costs.server / 0.5
    assert writes < million["database cores"] < 3 * writes  # with leases and states
