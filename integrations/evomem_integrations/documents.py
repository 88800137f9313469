"""Texts with keys and payloads in one memory, the interface that hosts with a vector database expect.

The log never changes a text. A document that is put again with a different text is read as a new
turn, which replaces the old turn in the same transaction. The key is stored as the turn's session,
which the log indexes, and the payload as its metadata.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any

import evomem
from evomem import Encoder, Hit, Record, Turn
from evomem._forking import reset_in_child
from evomem.errors import NotFound
from evomem.memory import Memory
from evomem.plugins import DEFAULT_ENCODER

InMemory = ":memory:"


def as_encoder(encoder: str | Encoder | None) -> Encoder:
    """Return the encoder itself, the encoder of this name, or the default encoder for None."""
    if isinstance(encoder, str | None):
        return evomem.load_encoder(encoder or DEFAULT_ENCODER)
    return encoder


def put(memory: Memory, session: str, make: Callable[[Record | None], Turn]) -> None:
    """Replace all turns of a session with one turn; an unchanged text is not read again.

    Args:
        memory: The memory that holds the session.
        session: The session to replace.
        make: Maps the session's newest turn (None if there is none) to the new turn. It may be
            called more than once.
    """
    unchanged: dict[str, Turn] = {}

    def build(stored: Sequence[Record]) -> list[Turn]:
        newest = stored[-1] if stored else None
        turn = make(newest)
        unchanged.clear()
        if newest and text_of(newest) == turn_text(turn):
            unchanged[newest.id] = turn
        return [] if unchanged else [turn]

    while not memory.replace_sessions([session], build):
        with contextlib.suppress(NotFound):  # replaced or deleted by someone else: try again
            for id, turn in unchanged.items():
                memory.annotate(id, turn.metadata)
            return


def key_of(record: Record) -> str:
    """Return a document's key."""
    return record.turn.session or ""


def text_of(record: Record) -> str:
    """Return a document's text, without its speaker."""
    return turn_text(record.turn)


def turn_text(turn: Turn) -> str:
    """Return the text of a one-sided turn, or both sides of an exchange as evomem shows them."""
    return turn.text if turn.role == "exchange" else turn.user or turn.assistant


class Documents:
    """Documents in the memory `name` of the database at `location`. Thread-safe.

    With `purge`, `delete` purges a document instead of hiding it. Days in queries are counted in the
    time zone `zone`, UTC if it is None.
    """

    def __init__(
        self,
        location: str,
        encoder: str | Encoder | None,
        *name: str,
        purge: bool = False,
        zone: str | tzinfo | None = None,
    ) -> None:
        self._purge = purge
        self._db = evomem.open(location, encoder=as_encoder(encoder))
        self._make_lock()
        reset_in_child(self._make_lock)
        self.memory = self._db.memory(*name, zone=zone)

    @property
    def encoder(self) -> Encoder:
        """The encoder that reads the documents."""
        return self._db.encoder

    def put(
        self,
        key: str,
        text: str,
        payload: Mapping[str, Any],
        *,
        role: str = "user",
        time: datetime | None = None,
    ) -> None:
        """Store a document; an unchanged text is not read again.

        `role` and `time` are the speaker's role and the time of the turn.

        Raises:
            TurnError: Text, key or payload cannot be stored; nothing was written.
        """
        sides = {"assistant" if role == "assistant" else "user": text}
        turn = Turn(**sides, session=key, metadata=payload, time=time)
        with self._lock:
            put(self.memory, key, lambda _: turn)

    def merge(self, key: str, payload: Mapping[str, Any]) -> None:
        """Update some entries of a document's payload; an unknown key is ignored."""
        with self._lock:
            record = self.get(key)
            if record:
                self.memory.annotate(record.id, {**record.turn.metadata, **payload})

    def get(self, key: str) -> Record | None:
        """Return a document, or None if there is no document with this key."""
        versions = self.memory.history(session=key)
        return versions[-1] if versions else None

    def all(self, **options: Any) -> list[Record]:
        """Return the documents in the order they were read; options as in `Memory.history`."""
        return self.memory.history(**options)

    def search(self, query: str, k: int, **filters: Any) -> list[Hit]:
        """Return the documents that answer `query` best; filters as in `Memory.search`."""
        return self.memory.search(query, k, mode="evolvable", **filters)

    def delete(self, key: str) -> None:
        """Hide a document, or purge it with all its versions; an unknown key is ignored."""
        with self._lock:
            if self._purge:
                self.memory.expire(session=key)
                return
            for record in self.memory.history(session=key):
                self.memory.delete(record.id)

    def clear(self) -> None:
        """Purge every document, including hidden ones."""
        with self._lock, contextlib.suppress(NotFound):  # the memory is empty
            self.memory.drop()

    def close(self) -> None:
        """Release the database; calling it again has no effect."""
        self._db.close()

    def _make_lock(self) -> None:
        self._lock = threading.Lock()
