"""Items as turns: how values are stored in the log of their namespace's memory.

An item is a session of the log, named by its key. A put appends one turn for each indexed text, and
these turns replace the item's old turns in the same transaction. The last of them, the head, carries
the value in its metadata. An item that is not indexed is one turn with the key as its text.

A value that is too large for the metadata of one turn is cut into pieces. Each piece is the metadata
of a separate turn before the head, which has the key as its text and is not found by queries. A text
that is too long for one turn is cut into several turns.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from types import MappingProxyType
from typing import Any

from langgraph.store.base import Item, PutOp, SearchItem, get_text_at_path

from evomem.errors import NotFound, TurnError
from evomem.memory import Memory
from evomem.records import (
    MAX_CHARS,
    MAX_METADATA,
    Record,
    Turn,
    changed,
    check_nested,
    plain_json,
)
from evomem.store import Listed

MINUTE = 60.0
HEAD_BYTES = 2_048  # bytes of metadata reserved for a head's fields other than the value
PIECE_CHARS = 30_000  # characters of a piece; encoded as JSON again, at most twice as many


@dataclass(frozen=True, slots=True)
class Head:
    """The newest version of an item, as it is stored in the log."""

    id: str
    """The id of the head turn."""
    namespace: tuple[str, ...]
    key: str
    value: Mapping[str, Any]
    """Must not be changed; `item` and `search_item` copy it."""
    metadata: Mapping[str, Any]
    """The metadata of the head turn."""
    updated: datetime

    @property
    def indexed(self) -> bool:
        """Whether queries find the item by the texts of its turns."""
        return bool(self.metadata["indexed"])

    @property
    def created(self) -> datetime:
        """When the key was first put; later puts do not change it."""
        return datetime.fromisoformat(self.metadata["created"])

    @property
    def ttl(self) -> float | None:
        """The time to live after the last put or read, in minutes; None if it does not expire."""
        minutes: float | None = self.metadata.get("ttl")
        return minutes

    @property
    def expired(self) -> bool:
        """Whether the time to live is over."""
        end: float | None = self.metadata.get("expires")
        return end is not None and end < time.time()

    def item(self) -> Item:
        """Return the item as LangGraph's `Item`."""
        return Item(
            value=_copied(self.value),
            key=self.key,
            namespace=self.namespace,
            created_at=self.created,
            updated_at=self.updated,
        )

    def search_item(self, score: float | None) -> SearchItem:
        """Return the item as LangGraph's `SearchItem`."""
        return SearchItem(
            self.namespace, self.key, _copied(self.value), self.created, self.updated, score
        )


def _copied(value: Any) -> Any:
    """Return a copy of plain JSON."""
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_copied(inner) for inner in value]
    return value


def head_id(id: str) -> str:
    """Return the id of the head that belongs to a turn, from the turn's id."""
    return id.partition("/")[0]


def is_head(metadata: Mapping[str, Any]) -> bool:
    """Return whether the turn with this metadata holds an item's value, or its last part."""
    return "indexed" in metadata and ("value" in metadata or "pieces" in metadata)


def is_piece(metadata: Mapping[str, Any]) -> bool:
    """Return whether the turn with this metadata holds a part of a value, and no indexed text."""
    return "piece" in metadata


def head(namespace: tuple[str, ...], turn: Listed, pieces: Iterable[str]) -> Head:
    """Return a head turn as a `Head`.

    Args:
        namespace: The namespace of the item.
        turn: The head turn.
        pieces: The pieces of the value, if it was cut.
    """
    metadata = turn.metadata
    value = metadata["value"] if "value" in metadata else json.loads("".join(pieces))
    return Head(turn.id, namespace, turn.session or "", value, metadata, turn.added)


def turns(op: PutOp, fields: Sequence[str]) -> list[Turn]:
    """Return the turns of a put, the head last, with the current time as creation time.

    Raises:
        TurnError: The key or the value cannot be stored.
    """
    if not op.key.strip():
        raise TurnError(f"the key {op.key!r} is empty: give the item a name")
    value = dict(op.value or {})
    paths = fields if op.index is None else op.index or ()
    try:
        texts = [text for path in paths for text in get_text_at_path(value, path) if text.strip()]
        encoded = plain_json(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise TurnError(f"the value of {op.key!r} must be plain JSON: {error}") from error
    name, now = uuid.uuid4().hex, datetime.now(timezone.utc)
    parts = [part for text in texts for part in _cut(text, MAX_CHARS) if part.strip()]
    head: dict[str, Any] = {
        "indexed": bool(parts),
        "created": now.isoformat(),
        **lifetime(op.ttl),
    }
    pieces: list[str] = []
    if len(encoded) <= MAX_METADATA - HEAD_BYTES:
        head["value"] = value
    else:
        check_nested(value, limit=len(encoded))
        pieces = _cut(encoded, PIECE_CHARS)
        head["pieces"] = len(pieces)
    parts = parts or [op.key]
    return [
        *(
            Turn(
                user=op.key,
                id=f"{name}/v{place}",
                time=now,
                session=op.key,
                metadata={"piece": piece},
            )
            for place, piece in enumerate(pieces, start=1)
        ),
        *(
            Turn(
                user=text,
                id=name if place == len(parts) else f"{name}/{place}",
                time=now,
                session=op.key,
                metadata=head if place == len(parts) else {},
            )
            for place, text in enumerate(parts, start=1)
        ),
    ]


def _cut(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def put(memory: Memory, items: Mapping[str, Sequence[Turn]]) -> None:
    """Write items, replacing those with the same keys; creation times of replaced items are kept.

    Args:
        memory: The memory of the namespace.
        items: The turns of each item, as `turns` returns them, by key.
    """

    def build(stored: Sequence[Record]) -> list[Turn]:
        created = {
            r.turn.session: r.turn.metadata["created"] for r in stored if is_head(r.turn.metadata)
        }
        new = [turn for parts in items.values() for turn in parts]
        return [
            changed(
                turn, metadata=MappingProxyType({**turn.metadata, "created": created[turn.session]})
            )
            if "created" in turn.metadata and turn.session in created
            else turn
            for turn in new
        ]

    memory.replace_sessions(items.keys(), build)


def lifetime(ttl: float | None) -> dict[str, float]:
    """Return a head's time to live in minutes and the time at which it ends, as metadata."""
    return {} if ttl is None else {"ttl": ttl, "expires": time.time() + ttl * MINUTE}


def read(memory: Memory, namespace: tuple[str, ...], key: str) -> Head | None:
    """Return the item with a key, or None."""
    records = memory.history(session=key)
    heads = [record for record in records if is_head(record.turn.metadata)]
    if not heads:
        return None
    newest = heads[-1]
    pieces = [
        record.turn.metadata["piece"]
        for record in records
        if is_piece(record.turn.metadata) and head_id(record.id) == newest.id
    ]
    turn = Listed(newest.seq, newest.id, key, newest.turn.metadata, newest.added)
    return head(namespace, turn, pieces)


def refresh(memory: Memory, head: Head) -> None:
    """Restart the time to live of an item that expires."""
    if head.ttl is None:
        return
    try:
        memory.annotate(head.id, {**head.metadata, **lifetime(head.ttl)})
    except NotFound:  # replaced or deleted by someone else
        return


def hide(memory: Memory, records: Sequence[Record]) -> None:
    """Delete turns; turns that someone else has deleted are skipped."""
    for record in records:
        try:
            memory.delete(record.id)
        except NotFound:
            continue
