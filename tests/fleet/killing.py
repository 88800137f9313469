"""`Fleet`: workers of one PostgreSQL database are disturbed at random calls, while turns come in.

`check` compares what they wrote with what one process writes.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import cycle
from multiprocessing.connection import Connection, wait

import evomem
from tests.fleet.workers import RIGHT, Clock, serve, text
from tests.processes import FORKS
from tests.stores.helpers import ENCODER, log, running, turn

WORKERS = 3  # at first; from 2 to 4 later
LEASE = 0.4  # seconds


class Worker:
    """One process, with what it was sent and has not acknowledged."""

    def __init__(self, location: str, clock: Clock) -> None:
        self.calls, theirs = FORKS.Pipe()
        self.process = FORKS.Process(target=serve, args=(theirs, location, LEASE, clock))
        self.process.start()
        theirs.close()
        self.waiting: tuple[int, int] | None = None

    def send(self, call: tuple[int, int]) -> None:
        self.waiting = call
        self.calls.send(call)

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.calls.close()

    def stop(self) -> None:
        self.calls.send(None)
        self.process.join()
        self.calls.close()
        assert self.process.exitcode == 0


class Fleet:
    """Sends the turns of many memories to workers, those of one memory in order, whoever is alive."""

    def __init__(
        self,
        location: str,
        memories: int,
        turns: int,
        seed: int,
        *,
        clocks: Sequence[Clock] = (RIGHT,),
    ) -> None:
        evomem.open(location, encoder=ENCODER, embeddings="float32").close()
        self.clocks = cycle(clocks)
        self.location, self.memories, self.turns = location, memories, turns
        self.chance = random.Random(seed)
        self.workers = [self.new_worker() for _ in range(WORKERS)]
        self.done: Counter[int] = Counter()  # turns of each memory that were acknowledged
        self.vain: Counter[Connection] = Counter()
        self.lost: dict[tuple[int, int], float] = {}  # calls of killed workers, and when
        self.takeovers: list[float] = []
        self.killed = 0

    def new_worker(self) -> Worker:
        return Worker(self.location, next(self.clocks))

    def run(self, times: int, disturb: Callable[[], None]) -> None:
        """Send everything; disturb the workers so many times, at random calls."""
        total = self.memories * self.turns
        when = sorted(self.chance.sample(range(total - 4), times))
        while (count := sum(self.done.values())) < total:
            if self.chance.random() < 0.05:
                self.resize()
            for worker in self.workers:
                if worker.waiting is None and (call := self.next_call()):
                    worker.send(call)
            if when and count >= when[0]:
                when.pop(0)
                disturb()
                continue
            ready = wait([worker.calls for worker in self.workers if worker.waiting], timeout=60)
            assert ready, "no worker answers"
            for worker in self.workers:
                if worker.calls in ready:
                    self.acknowledge(worker)
        for worker in self.workers:
            worker.stop()

    def next_call(self) -> tuple[int, int] | None:
        under_way = {worker.waiting[0] for worker in self.workers if worker.waiting}
        free = [n for n in range(self.memories) if n not in under_way and self.done[n] < self.turns]
        again = [call for call in self.lost if call[0] in free]
        if again:
            return again[0]
        if not free:
            return None
        memory = self.chance.choice(free)
        return memory, self.done[memory] + 1

    def acknowledge(self, worker: Worker) -> None:
        memory, number, seq, vain = worker.calls.recv()
        assert (memory, number) == worker.waiting
        assert seq == number == self.done[memory] + 1
        worker.waiting = None
        self.done[memory] += 1
        self.vain[worker.calls] = vain
        if since := self.lost.pop((memory, number), None):
            self.takeovers.append(time.monotonic() - since)

    def kill(self) -> None:
        """Kill a worker in the middle of a call, and replace it."""
        worker = self.chance.choice([each for each in self.workers if each.waiting])
        time.sleep(self.chance.uniform(0, 0.02))  # somewhere in the call, or just behind it
        worker.kill()
        assert worker.waiting
        self.killed += 1
        self.lost.setdefault(worker.waiting, time.monotonic())
        self.workers[self.workers.index(worker)] = self.new_worker()

    def resize(self) -> None:
        """Take a worker away or add one, without killing it."""
        idle = [worker for worker in self.workers if worker.waiting is None]
        if len(self.workers) > 2 and idle:
            self.workers.remove(idle[0])
            idle[0].stop()
        elif len(self.workers) < 4:
            self.workers.append(self.new_worker())


def check(fleet: Fleet) -> None:
    """Raise unless every memory is as if one process had written it."""
    assert not fleet.lost
    with evomem.open(fleet.location) as db:
        store = db._engine.store
        for memory in range(fleet.memories):
            turns = [turn(text(memory, n), n) for n in range(1, fleet.turns + 1)]
            view = store.view(("fleet", str(memory)))
            assert view.key == running(turns).key
            rows = log(store, view)
            assert [(row[0], row[1].id) for row in rows] == [
                (n, f"t{n}") for n in range(1, fleet.turns + 1)
            ]
            state = running([])
            for row, item in zip(rows, turns, strict=True):
                [reading] = ENCODER.read(state, [item])
                assert row[5] == reading.embeddings.tobytes()
                state = state.after(item, reading)
        assert db.verify() == []
