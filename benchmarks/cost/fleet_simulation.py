"""A simulated fleet: a thousand workers, ten million memories, one database.

The memory of each request is drawn from a Zipf distribution with a flattened head. Consistent hashing
assigns each memory to a worker; a small share of requests reaches a different worker. A worker reads
one turn at a time, and first loads the memory's state if its cache does not hold it. The database
handles as many requests at a time as it has cores. Caches start as full as they are in the long run
(Che's approximation), so a short run shows the steady state. Halfway through, a tenth of the workers is
replaced: their memories move to workers without their state, while the old leases are still held.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import simpy

Steps = Generator[simpy.Event, Any, None]

WORKERS = 1_000
MEMORIES = 10_000_000
RANK_OFFSET = 1_000  # added to ranks in Zipf's law, since no user adds hundreds of turns per second
RATES = (1_000, 4_000, 16_000, 64_000)  # turns per second
DATABASE_CORES = 64
STATE_BYTES = 50 * 1024  # the size of a state of the small encoder
CACHE_BYTES = 64 << 20  # a worker's cache of states
LEASE_SECONDS = 10.0
STRAY_SHARE = 0.01  # of requests that reach a worker other than the memory's own
LOAD_COST = 0.5  # of loading a state or taking a lease, relative to a write, on the server


@dataclass(frozen=True, slots=True)
class Costs:
    """CPU seconds of one turn, as measured."""

    worker: float
    server: float


@dataclass
class Fleet:
    """The state of the simulation."""

    env: simpy.Environment
    costs: Costs
    rng: np.random.Generator
    cached_states: list[OrderedDict[int, None]]
    workers: list[simpy.Resource]
    database: simpy.Resource
    cache_size: int
    moved_to: dict[int, int] = field(default_factory=dict)
    leases: dict[int, tuple[int, float]] = field(default_factory=dict)
    handovers: dict[int, simpy.Event] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    miss_times: list[float] = field(default_factory=list)
    lease_times: list[float] = field(default_factory=list)
    lease_waits: list[float] = field(default_factory=list)
    database_seconds: float = 0.0

    def home(self, memory: int) -> int:
        """Return the worker that a memory's requests go to."""
        first = memory * 2_654_435_761 % 2**32 % WORKERS
        return self.moved_to.get(first, first)

    def use_database(self, seconds: float) -> Steps:
        """Use one core of the database for `seconds`."""
        with self.database.request() as turn:
            yield turn
            yield self.env.timeout(seconds)
        self.database_seconds += seconds

    def add(self, memory: int) -> Steps:
        """Add one turn."""
        env, begin = self.env, self.env.now
        number = self.home(memory)
        if self.rng.random() < STRAY_SHARE:
            number = int(self.rng.integers(WORKERS))
        while self.leases.get(memory, (number, 0.0))[0] != number:
            _, until = self.leases[memory]
            if until <= env.now:
                break
            self.lease_waits.append(env.now)
            event = self.handovers.setdefault(memory, env.event())
            yield event | env.timeout(
                until - env.now
            )  # the holder's next write, or the lease's end
        holder, until = self.leases.get(memory, (-1, 0.0))
        if holder != number or env.now > until - LEASE_SECONDS / 2:
            self.lease_times.append(env.now)
            yield from self.use_database(LOAD_COST * self.costs.server)
            self.leases[memory] = (number, env.now + LEASE_SECONDS)
        with self.workers[number].request() as turn:
            yield turn
            states = self.cached_states[number]
            if memory in states:
                states.move_to_end(memory)
            else:
                self.miss_times.append(env.now)
                yield from self.use_database(LOAD_COST * self.costs.server)
                states[memory] = None
                if len(states) > self.cache_size:
                    states.popitem(last=False)
            yield env.timeout(self.costs.worker)
            yield from self.use_database(self.costs.server)
        self.leases[memory] = (number, env.now + LEASE_SECONDS)
        if memory in self.handovers:
            self.leases[memory] = (number, env.now)
            self.handovers.pop(memory).succeed()
        self.latencies.append(env.now - begin)


def simulate(costs: Costs, requests: int) -> list[dict[str, Any]]:
    """Return the figures of each rate."""
    weights = 1 / np.arange(RANK_OFFSET, RANK_OFFSET + MEMORIES)
    share = weights / weights.sum()
    cache_size = CACHE_BYTES // STATE_BYTES
    seconds = characteristic_time(share, cache_size * WORKERS)
    return [run(costs, share, seconds, cache_size, rate, requests) for rate in RATES]


def characteristic_time(share: np.ndarray[Any, Any], places: int) -> float:
    """Return how many requests an unused memory stays cached (Che et al., 2002).

    Args:
        share: The share of requests of each memory.
        places: The number of states that all caches hold together.
    """
    low, high = 0.0, 1e12
    for _ in range(60):
        middle = (low + high) / 2
        fits = float(-np.expm1(-share * middle).sum()) < places
        low, high = (middle, high) if fits else (low, middle)
    return low


def run(
    costs: Costs,
    share: np.ndarray[Any, Any],
    cache_time: float,
    cache_size: int,
    rate: int,
    requests: int,
) -> dict[str, Any]:
    """Simulate one rate of requests; return its figures."""
    env, rng = simpy.Environment(), np.random.default_rng(1)
    fleet = Fleet(
        env,
        costs,
        rng,
        [OrderedDict() for _ in range(WORKERS)],
        [simpy.Resource(env) for _ in range(WORKERS)],
        simpy.Resource(env, DATABASE_CORES),
        cache_size,
    )
    for memory in np.flatnonzero(rng.random(MEMORIES) < -np.expm1(-share * cache_time)):
        states = fleet.cached_states[fleet.home(int(memory))]
        if len(states) < cache_size:
            states[int(memory)] = None
    memories = np.searchsorted(np.cumsum(share), rng.random(requests))
    gaps = rng.exponential(1 / rate, requests)

    def arrivals() -> Steps:
        for place, (memory, gap) in enumerate(zip(memories.tolist(), gaps.tolist(), strict=True)):
            yield env.timeout(gap)
            if place == requests // 2:
                replaced = range(0, WORKERS, 10)
                fleet.moved_to.update({n: (n + 1) % WORKERS for n in replaced})
            env.process(fleet.add(memory))

    env.process(arrivals())
    env.run(until=float(gaps.sum()) + 120)  # an overloaded fleet does not finish
    half = float(gaps[: requests // 2].sum())
    before = requests / 2
    seconds = float(gaps.sum())
    return {
        "turns a second": rate,
        "done": len(fleet.latencies),
        "hit rate": 1 - sum(t < half for t in fleet.miss_times) / before,
        "after the change": 1 - sum(t >= half for t in fleet.miss_times) / before,
        "leases taken a turn": len(fleet.lease_times) / requests,
        "waits for a lease": len(fleet.lease_waits),
        "workers busy": requests * costs.worker / seconds / WORKERS,
        "database busy": fleet.database_seconds / seconds / DATABASE_CORES,
        "p50 ms": 1e3 * float(np.percentile(fleet.latencies, 50)),
        "p95 ms": 1e3 * float(np.percentile(fleet.latencies, 95)),
    }


def sizes(costs: Costs, turn_bytes: float, simulated: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the needs of a million and a hundred million users.

    A tenth of the users adds 20 turns each day. The database's work per turn, including leases and
    states, is taken from a simulated rate.
    """
    server = simulated["database busy"] * DATABASE_CORES / simulated["turns a second"]
    rows: list[dict[str, Any]] = []
    for users in (1_000_000, 100_000_000):
        peak = 0.1 * users * 20 / 86_400 * 3  # turns per second in the busiest hour
        rows.append(
            {
                "users": users,
                "turns a day": 0.1 * users * 20,
                "peak a second": peak,
                "TB a year": 0.1 * users * 20 * 365 * turn_bytes / 1e12,
                "database cores": peak * server / 0.5,
                "worker cores": peak * costs.worker / 0.5,
            }
        )
    return rows
