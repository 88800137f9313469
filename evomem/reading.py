"""Reading turns with an encoder, as rows of the log."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from evomem.encoder import Encoder
from evomem.records import Turn
from evomem.state import Reading, State
from evomem.store import Row, WriteSlot

PASS = 16  # turns that are read before anyone is asked whether another writer waits, at most
LEAST = 8  # turns of a pass, unless passes of so many were read in vain
SECONDS = 0.4  # that another writer waits for the turns of one pass, about
BLANK = Reading(np.zeros(0, np.float32), np.zeros((0, 0), np.float32))
"""The reading of a row whose turn has not been read yet."""


def read_rows(
    encoder: Encoder, state: State[Turn], rows: Sequence[Row]
) -> tuple[list[Row], State[Turn]]:
    """Read the rows' turns from `state` on; return the rows completed, and the state after."""
    readings = encoder.read(state, [row.turn for row in rows])
    done = []
    for row, reading in zip(rows, readings, strict=True):
        state = state.after(row.turn, reading)
        done.append(replace(row, reading=reading, key=state.key))
    return done, state


@dataclass
class Pace:
    """The number of turns of one pass: fewer while other writers wait for it."""

    size: int = PASS

    def fit(self, seconds: float) -> None:
        """Read as many turns in the next pass as fit into `SECONDS`; the last one took `seconds`.

        But no fewer than `LEAST`, or than in the last one: a turn costs more in a short pass.
        """
        least = min(LEAST, self.size)
        self.size = max(least, min(PASS, round(self.size * SECONDS / max(seconds, 1e-3))))

    def slower(self) -> None:
        """Read fewer turns in the next pass, because the last one was discarded."""
        self.size = max(1, self.size // 2)

    def faster(self) -> None:
        """Read more turns in the next pass, because no writer waits."""
        self.size = min(PASS, 2 * self.size)


def read_until(
    encoder: Encoder, state: State[Turn], rows: Sequence[Row], pace: Pace, is_wanted: WriteSlot
) -> tuple[list[Row], State[Turn]]:
    """Read rows as `read_rows` does, in passes, until another writer wants the slot.

    Returns the rows read, at least one, and the state after them.
    """
    done: list[Row] = []
    while len(done) < len(rows):
        begin = time.monotonic()
        batch, state = read_rows(encoder, state, rows[len(done) : len(done) + pace.size])
        done += batch
        if is_wanted():
            pace.fit(time.monotonic() - begin)
            break
        pace.faster()
    return done, state
