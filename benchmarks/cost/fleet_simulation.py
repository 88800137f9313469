"""A simulated fleet: a thousand workers, ten million memories, one database.

Who adds a turn is drawn by Zipf's law, the most talkative users being levelled. A memory's requests go to the worker that consistent hashing
gives them; some go astray. A worker reads one turn at a time, after loading the memory's state if it
is not among the newest that it keeps; the database does so much at a time as it has cores. Caches
begin as full as they are in the long run (Che's approximation), so that a short run shows the steady
state. At half time a tenth of the workers is replaced: their memories move, cold and under leases.
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
FLATTENED = 1_000  # ranks by which Zipf's law is moved: nobody says hundreds of turns a second
RATES = (1_000, 4_000, 16_000, 64_000)  # turns a second
CORES = 64  # of the database's server
STATE_BYTES = 50 * 1024  # of the small encoder
CACHE_BYTES = 64 << 20  # of a worker's states
LEASE = 10.0
STRAY = 0.01  # of requests reach another worker than the memory's own
LOAD = 0.5  # of the server's time for a write: loading a state, or taking a lease


@dataclass(frozen=True, slots=True)
class Costs:
    """CPU seconds of one turn, as measured."""

    worker: float
    server: float


@dataclass
class Fleet:
    """What the simulation knows while it runs."""

    env: simpy.Environment
    costs: Costs
    chance: np.random.Generator
    held: list[OrderedDict[int, None]]
    workers: list[simpy.Resource]
    database: simpy.Resource
    keeps: int
    salt: dict[int, int] = field(default_factory=dict)
    leases: dict[int, tuple[int, float]] = field(default_factory=dict)
    wanted: dict[int, simpy.Event] = field(default_factory=dict)
    waits: list[float] = field(default_factory=list)
    misses: list[float] = field(default_factory=list)
    taken: list[float] = field(default_factory=list)
    moved: list[float] = field(default_factory=list)
    busy: float = 0.0

    def home(self, memory: int) -> int:
        """Return the worker that a memory's requests go to."""
        first = memory * 2_654_435_761 % 2**32 % WORKERS
        return self.salt.get(first, first)

    def ask(self, seconds: float) -> Steps:
        """Use the database for so long."""
        with self.database.request() as turn:
            yield turn
            yield self.env.timeout(seconds)
        self.busy += seconds

    def add(self, memory: int) -> Steps:
        """Add one turn."""
        env, begin = self.env, self.env.now
        number = self.home(memory)
        if self.chance.random() < STRAY:
            number = int(self.chance.integers(WORKERS))
        while self.leases.get(memory, (number, 0.0))[0] != number:
            _, until = self.leases[memory]
            if until <= env.now:
                break
            self.moved.append(env.now)
            event = self.wanted.setdefault(memory, env.event())
            yield event | env.timeout(until - env.now)  # the holder's next write, or the end
        holder, until = self.leases.get(memory, (-1, 0.0))
        if holder != number or env.now > until - LEASE / 2:
            self.taken.append(env.now)
            yield from self.ask(LOAD * self.costs.server)
            self.leases[memory] = (number, env.now + LEASE)
        with self.workers[number].request() as turn:
            yield turn
            states = self.held[number]
            if memory in states:
                states.move_to_end(memory)
            else:
                self.misses.append(env.now)
                yield from self.ask(LOAD * self.costs.server)
                states[memory] = None
                if len(states) > self.keeps:
                    states.popitem(last=False)
            yield env.timeout(self.costs.worker)
            yield from self.ask(self.costs.server)
        self.leases[memory] = (number, env.now + LEASE)
        if memory in self.wanted:
            self.leases[memory] = (number, env.now)
            self.wanted.pop(memory).succeed()
        self.waits.append(env.now - begin)


def simulate(costs: Costs, requests: int) -> list[dict[str, Any]]:
    """Return what came of each rate."""
    weights = 1 / np.arange(FLATTENED, FLATTENED + MEMORIES)
    share = weights / weights.sum()
    keeps = CACHE_BYTES // STATE_BYTES
    seconds = characteristic(share, keeps * WORKERS)
    return [run(costs, share, seconds, keeps, rate, requests) for rate in RATES]


def characteristic(share: np.ndarray[Any, Any], places: int) -> float:
    """Return after how many requests a memory that is not used is forgotten (Che et al., 2002)."""
    low, high = 0.0, 1e12
    for _ in range(60):
        middle = (low + high) / 2
        full = float(-np.expm1(-share * middle).sum()) < places
        low, high = (middle, high) if full else (low, middle)
    return low


def run(
    costs: Costs, share: np.ndarray[Any, Any], lasts: float, keeps: int, rate: int, requests: int
) -> dict[str, Any]:
    """Simulate one rate."""
    env, chance = simpy.Environment(), np.random.default_rng(1)
    fleet = Fleet(
        env,
        costs,
        chance,
        [OrderedDict() for _ in range(WORKERS)],
        [simpy.Resource(env) for _ in range(WORKERS)],
        simpy.Resource(env, CORES),
        keeps,
    )
    for memory in np.flatnonzero(chance.random(MEMORIES) < -np.expm1(-share * lasts)):
        states = fleet.held[fleet.home(int(memory))]
        if len(states) < keeps:
            states[int(memory)] = None
    drawn = np.searchsorted(np.cumsum(share), chance.random(requests))
    gaps = chance.exponential(1 / rate, requests)

    def arrivals() -> Steps:
        for place, (memory, gap) in enumerate(zip(drawn.tolist(), gaps.tolist(), strict=True)):
            yield env.timeout(gap)
            if place == requests // 2:
                gone = range(0, WORKERS, 10)
                fleet.salt.update({n: (n + 1) % WORKERS for n in gone})
            env.process(fleet.add(memory))

    env.process(arrivals())
    env.run(until=float(gaps.sum()) + 120)  # a fleet that cannot keep up does not finish
    half = float(gaps[: requests // 2].sum())
    before = requests / 2
    seconds = float(gaps.sum())
    return {
        "turns a second": rate,
        "done": len(fleet.waits),
        "hit rate": 1 - sum(t < half for t in fleet.misses) / before,
        "after the change": 1 - sum(t >= half for t in fleet.misses) / before,
        "leases taken a turn": len(fleet.taken) / requests,
        "waits for a lease": len(fleet.moved),
        "workers busy": requests * costs.worker / seconds / WORKERS,
        "database busy": fleet.busy / seconds / CORES,
        "p50 ms": 1e3 * float(np.percentile(fleet.waits, 50)),
        "p95 ms": 1e3 * float(np.percentile(fleet.waits, 95)),
    }


def sizes(costs: Costs, turn_bytes: float, simulated: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what a million users and a hundred million need: a tenth daily, 20 turns each.

    The database's work for a turn, with leases and states, is that of a simulated rate.
    """
    server = simulated["database busy"] * CORES / simulated["turns a second"]
    rows: list[dict[str, Any]] = []
    for users in (1_000_000, 100_000_000):
        peak = 0.1 * users * 20 / 86_400 * 3  # turns a second in the busiest hour
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
