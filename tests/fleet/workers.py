"""A worker process of a fleet: it adds the turns that it is sent, and acknowledges each."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from multiprocessing.connection import Connection
from typing import NamedTuple, TypeVar

import evomem
from evomem import appending
from evomem.errors import ConnectionLost, DatabaseBusy
from tests.stores.helpers import ENCODER, turn

R = TypeVar("R")

MEMORIES, TURNS = 6, 4
"""Of the tests with Ray."""


class Clock(NamedTuple):
    """The clock of a worker."""

    ahead: float = 0.0
    """Seconds by which its time of day is wrong."""
    stands: bool = False
    """Whether its monotonic clock stands still, as that of a suspended machine does."""

    def set(self) -> None:
        """Give it to this process."""
        if self.ahead:
            ahead, true_time = self.ahead, time.time

            class Wrong(datetime):
                @classmethod
                def now(cls, tz: tzinfo | None = None) -> Wrong:
                    return super().now(tz) + timedelta(seconds=ahead)

            vars(appending)["datetime"] = Wrong
            time.time = lambda: true_time() + ahead
            time.time_ns = lambda: round(1e9 * time.time())
        if self.stands:
            begin = time.monotonic()
            time.monotonic = lambda: begin


RIGHT = Clock()


def text(memory: int, number: int) -> str:
    return f"in conversation {memory}, the guest says for the {number}. time: tea, please"


def serve(calls: Connection, location: str, seconds: float, clock: Clock = RIGHT) -> None:
    """Add turns until None is sent; end as a process that is told to stop does."""
    clock.set()
    with until_there(lambda: evomem.open(location, encoder=ENCODER, lease=seconds)) as db:
        while (call := calls.recv()) is not None:
            memory, number = call
            turns = [turn(text(memory, number), number)]
            add = db.memory("fleet", str(memory)).add_many
            [record] = until_there(lambda: add(turns))  # noqa: B023
            calls.send((memory, number, record.seq, db._engine.read_in_vain))


def until_there(call: Callable[[], R]) -> R:
    """Make a call until its database answers."""
    while True:
        try:
            return call()
        except (ConnectionLost, DatabaseBusy):
            time.sleep(0.02)
