"""`Memory.replace_sessions` in two halves: a client reads the turns; the service writes here.

A client sends a mark of the turns that it has seen. If they are unchanged within the transaction,
its turns are written; otherwise it gets the present ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from evomem.records import Record, Turn


class Moved(Exception):
    """The sessions do not hold what the client has seen."""


class Replacement:
    """The turns of a client, for what is marked."""

    def __init__(self, turns: Sequence[Turn], mark: str) -> None:
        self._turns = turns
        self._mark = mark
        self.held: Sequence[Record] = ()
        """What the sessions hold."""

    def build(self, stored: Sequence[Record]) -> Sequence[Turn]:
        """Return the turns. Raises `Moved`."""
        self.held = stored
        if mark_of(stored) != self._mark:
            raise Moved
        return self._turns

    @property
    def is_stored(self) -> bool:
        """Whether all turns are among what is held: the request came before, and its answer was lost."""
        return bool(self._turns) and len(self.stored) == len(self._turns)

    @property
    def stored(self) -> list[Record]:
        """The records of the turns, as far as they are held."""
        by_id = {record.id: record for record in self.held}
        pairs = [(turn, by_id.get(turn.id or "")) for turn in self._turns]
        return [record for turn, record in pairs if record and _said(record.turn) == _said(turn)]


def mark_of(stored: Sequence[Record]) -> str:
    """Return what tells these turns, with their metadata, from all others; "" for none."""
    if not stored:
        return ""
    text = json.dumps([record.to_json() for record in stored])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _said(turn: Turn) -> tuple[object, ...]:
    return turn.content, turn.session, turn.metadata
