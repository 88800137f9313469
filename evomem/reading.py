"""Reads turns with an encoder, as rows of the log."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evomem.encoder import Encoder
from evomem.records import Turn
from evomem.state import Reading, State
from evomem.store import Row, WriteSlot

MAX_PASS_TURNS = 16  # turns read, at most, before checking whether another writer waits
MIN_PASS_TURNS = 8  # turns of a pass, unless a pass of this size was wasted
MAX_PASS_SECONDS = 0.4  # for which another writer should wait for a pass, at most
BLANK = Reading(np.zeros(0, np.float32), np.zeros((0, 0), np.float32))
"""The reading of a row whose turn has not been read yet."""


def read_rows(
    encoder: Encoder, state: State[Turn], rows: Sequence[Row]
) -> tuple[list[Row], State[Turn]]:
    """Read the rows' turns from `state` on; return the completed rows, and the state after them."""
    readings = encoder.read(state, [row.turn for row in rows])
    done = []
    for row, reading in zip(rows, readings, strict=True):
        state = state.after(row.turn, reading)
        done.append(Row(row.seq, row.turn, row.added, reading, state.key))
    return done, state


@dataclass
class Pace:
    """The number of turns of one pass: fewer while other writers wait."""

    size: int = MAX_PASS_TURNS

    def fit(self, seconds: float) -> None:
        """Fit the next pass into `MAX_PASS_SECONDS`; the last one took `seconds`.

        It keeps at least `MIN_PASS_TURNS` turns, or its size if that is smaller: a turn costs more in
        a short pass.
        """
        least = min(MIN_PASS_TURNS, self.size)
        self.size = max(
            least, min(MAX_PASS_TURNS, round(self.size * MAX_PASS_SECONDS / max(seconds, 1e-3)))
        )

    def slower(self) -> None:
        """Read fewer turns in the next pass, because the last one was discarded."""
        self.size = max(1, self.size // 2)

    def faster(self) -> None:
        """Read more turns in the next pass, because no writer waits."""
        self.size = min(MAX_PASS_TURNS, 2 * self.size)


def read_until(
    encoder: Encoder, state: State[Turn], rows: Sequence[Row], pace: Pace, is_wanted: WriteSlot
) -> tuple[list[Row], State[Turn]]:
    """Read rows as `read_rows` does, in passes, until another writer wants the slot.

    Returns the rows that were read, at least one, and the state after them.
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
