"""`Memory.replace_sessions` in two halves: the client reads the turns, the service writes them.

A client sends a mark of the turns that it has read. If they are unchanged within the transaction,
its new turns are written; otherwise it gets the current ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from evomem.records import Record, Turn


class Moved(Exception):
    """The sessions have changed since the client read them."""


class Replacement:
    """The new turns of a client, which replace the marked ones."""

    def __init__(self, turns: Sequence[Turn], mark: str) -> None:
        self._turns = turns
        self._mark = mark
        self.held: Sequence[Record] = ()
        """The current turns of the sessions."""

    def build(self, stored: Sequence[Record]) -> Sequence[Turn]:
        """Return the turns. Raises `Moved`."""
        self.held = stored
        if mark_of(stored) != self._mark:
            raise Moved
        return self._turns

    @property
    def is_stored(self) -> bool:
        """Whether all turns are stored already: an earlier request succeeded, and its response was lost."""
        return bool(self._turns) and len(self.stored) == len(self._turns)

    @property
    def stored(self) -> list[Record]:
        """The records of those turns that are stored."""
        by_id = {record.id: record for record in self.held}
        pairs = [(turn, by_id.get(turn.id or "")) for turn in self._turns]
        return [record for turn, record in pairs if record and _said(record.turn) == _said(turn)]


def mark_of(stored: Sequence[Record]) -> str:
    """Return a digest of these turns with their metadata; "" for none."""
    if not stored:
        return ""
    text = json.dumps([record.to_json() for record in stored])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _said(turn: Turn) -> tuple[object, ...]:
    return turn.content, turn.session, turn.metadata
