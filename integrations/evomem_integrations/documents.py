"""Texts with keys and payloads in one memory: what hosts with a vector database expect to find.

The log never changes a text: a document that is put again with another text is read as the newest
turn, which replaces the old one in the same transaction. The key is kept as the turn's session, which the log finds by an
index, the payload as its metadata.
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
    """Return an encoder given by name or itself; the default one for None."""
    if isinstance(encoder, str | None):
        return evomem.load_encoder(encoder or DEFAULT_ENCODER)
    return encoder


def put(memory: Memory, session: str, make: Callable[[Record | None], Turn]) -> None:
    """Replace all turns of a session with one; if the text is the same, it is not read again.

    Args:
        memory: Where.
        session: Which.
        make: Called with the session's newest turn, None if there is none; returns the new one.
            It may be called again.
    """
    same: dict[str, Turn] = {}

    def build(stored: Sequence[Record]) -> list[Turn]:
        newest = stored[-1] if stored else None
        turn = make(newest)
        same.clear()
        if newest and text_of(newest) == turn_text(turn):
            same[newest.id] = turn
        return [] if same else [turn]

    while not memory.replace_sessions([session], build):
        with contextlib.suppress(NotFound):  # it was replaced or deleted meanwhile
            for id, turn in same.items():
                memory.annotate(id, turn.metadata)
            return


def key_of(record: Record) -> str:
    """Return the key that a document was put under."""
    return record.turn.session or ""


def text_of(record: Record) -> str:
    """Return a document's text, without who said it."""
    return turn_text(record.turn)


def turn_text(turn: Turn) -> str:
    """Return a side's words alone, or both sides as evomem shows them."""
    return turn.text if turn.role == "exchange" else turn.user or turn.assistant


class Documents:
    """Documents in the memory `name` of the database at `location`. Safe to use from threads.

    With `purge`, `delete` forgets a document truly instead of hiding it. Days in queries are counted
    in `zone`, UTC if it is None.
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
        """What reads the documents."""
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
        """Store a document; one whose text is the same as before is not read again.

        `role` and `time` say who said it and when.

        Raises:
            TurnError: Text, key or payload cannot be stored; nothing was written.
        """
        sides = {"assistant" if role == "assistant" else "user": text}
        turn = Turn(**sides, session=key, metadata=payload, time=time)
        with self._lock:
            put(self.memory, key, lambda _: turn)

    def merge(self, key: str, payload: Mapping[str, Any]) -> None:
        """Change some entries of a document's payload; a key that is not there is let be."""
        with self._lock:
            record = self.get(key)
            if record:
                self.memory.annotate(record.id, {**record.turn.metadata, **payload})

    def get(self, key: str) -> Record | None:
        """Return a document, None if there is none."""
        versions = self.memory.history(session=key)
        return versions[-1] if versions else None

    def all(self, **options: Any) -> list[Record]:
        """Return the documents in the order they were read; options as in `Memory.history`."""
        return self.memory.history(**options)

    def search(self, query: str, k: int, **filters: Any) -> list[Hit]:
        """Return the documents that answer `query` best; filters as in `Memory.search`."""
        return self.memory.search(query, k, mode="evolvable", **filters)

    def delete(self, key: str) -> None:
        """Hide a document, or purge it with all that it ever said; an absent key is let be."""
        with self._lock:
            if self._purge:
                self.memory.expire(session=key)
                return
            for record in self.memory.history(session=key):
                self.memory.delete(record.id)

    def clear(self) -> None:
        """Forget every document truly, those that were hidden included."""
        with self._lock, contextlib.suppress(NotFound):  # there was none
            self.memory.drop()

    def close(self) -> None:
        """Release the database; harmless when repeated."""
        self._db.close()

    def _make_lock(self) -> None:
        self._lock = threading.Lock()
