"""Reading: what an encoder makes of turns, as rows of the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from evomem.encoder import Encoder
from evomem.records import Turn
from evomem.state import State
from evomem.store import Row


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
