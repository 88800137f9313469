"""A worker process of a fleet: it adds the turns that it is sent, and acknowledges each."""

from __future__ import annotations

from multiprocessing.connection import Connection

import evomem
from tests.stores.helpers import ENCODER, turn

MEMORIES, TURNS = 6, 4
"""Of the tests with Ray."""


def text(memory: int, number: int) -> str:
    return f"in conversation {memory}, the guest says for the {number}. time: tea, please"


def serve(calls: Connection, location: str, seconds: float) -> None:
    """Add turns until None is sent; end as a process that is told to stop does."""
    with evomem.open(location, encoder=ENCODER, lease=seconds) as db:
        while (call := calls.recv()) is not None:
            memory, number = call
            turns = [turn(text(memory, number), number)]
            [record] = db.memory("fleet", str(memory)).add_many(turns)
            calls.send((memory, number, record.seq, db._engine.read_in_vain))
