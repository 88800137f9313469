"""Items as turns: how a value lies in the log of its namespace's memory, and comes out again.

An item is a session of the log, named by its key. A put appends one turn for each text that is
indexed, and in the same transaction they take the places of the item's old turns. The last of them,
the head, carries the value in its metadata. What is not indexed is one turn with the key as its text.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from langgraph.store.base import Item, PutOp, SearchItem, get_text_at_path

from evomem.errors import NotFound, TurnError
from evomem.memory import Memory
from evomem.records import Record, Turn

MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Head:
    """The newest version of an item, as the log has it."""

    record: Record
    namespace: tuple[str, ...]

    @property
    def key(self) -> str:
        """The item's key."""
        return self.record.turn.session or ""

    @property
    def value(self) -> dict[str, Any]:
        """The item's value, a copy."""
        return dict(self.record.turn.metadata["value"])

    @property
    def indexed(self) -> bool:
        """Whether the item is found by what its turns say."""
        return bool(self.record.turn.metadata["indexed"])

    @property
    def created(self) -> datetime:
        """When the key was first put; kept when it is put again."""
        return datetime.fromisoformat(self.record.turn.metadata["created"])

    @property
    def ttl(self) -> float | None:
        """Minutes that it lives after it was last put or read; None for ever."""
        minutes: float | None = self.record.turn.metadata.get("ttl")
        return minutes

    @property
    def expired(self) -> bool:
        """Whether it has outlived its time."""
        end: float | None = self.record.turn.metadata.get("expires")
        return end is not None and end < time.time()

    def item(self) -> Item:
        """Return it as LangGraph sees it."""
        return Item(
            value=self.value,
            key=self.key,
            namespace=self.namespace,
            created_at=self.created,
            updated_at=self.record.added,
        )

    def found(self, score: float | None) -> SearchItem:
        """Return it as the answer to a search."""
        return SearchItem(
            self.namespace, self.key, self.value, self.created, self.record.added, score
        )


def head_id(record: Record) -> str:
    """Return the id of the head that was put with a turn."""
    return record.id.partition("/")[0]


def is_head(record: Record) -> bool:
    """Say whether a turn carries an item's value."""
    return "value" in record.turn.metadata


def turns(op: PutOp, fields: Sequence[str]) -> list[Turn]:
    """Return the turns of a put, the head last, as if the key was never put before.

    Raises:
        TurnError: The key or the value cannot be stored.
    """
    if not op.key.strip():
        raise TurnError(f"the key {op.key!r} is empty: give the item a name")
    value = dict(op.value or {})
    paths = fields if op.index is None else op.index or ()
    try:
        texts = [text for path in paths for text in get_text_at_path(value, path) if text.strip()]
    except (TypeError, ValueError, RecursionError) as error:
        raise TurnError(f"the value of {op.key!r} must be plain JSON: {error}") from error
    name = uuid.uuid4().hex
    head = {
        "value": value,
        "indexed": bool(texts),
        "created": datetime.now(timezone.utc).isoformat(),
        **lifetime(op.ttl),
    }
    said = texts or [op.key]
    return [
        Turn(
            user=text,
            id=name if place == len(said) else f"{name}/{place}",
            session=op.key,
            metadata=head if place == len(said) else {},
        )
        for place, text in enumerate(said, start=1)
    ]


def put(memory: Memory, items: Mapping[str, Sequence[Turn]]) -> None:
    """Write items, given by key as `turns` makes them, in the places of those that are there."""

    def build(held: Sequence[Record]) -> list[Turn]:
        created = {r.turn.session: r.turn.metadata["created"] for r in held if is_head(r)}
        new = [turn for said in items.values() for turn in said]
        return [
            replace(turn, metadata={**turn.metadata, "created": created[turn.session]})
            if "created" in turn.metadata and turn.session in created
            else turn
            for turn in new
        ]

    memory.replace_sessions(items.keys(), build)


def lifetime(ttl: float | None) -> dict[str, float]:
    """Return what a head says about how long it lives, counted from now."""
    return {} if ttl is None else {"ttl": ttl, "expires": time.time() + ttl * MINUTE}


def read(memory: Memory, namespace: tuple[str, ...], key: str) -> Head | None:
    """Return an item, None if there is none."""
    heads = [record for record in memory.history(session=key) if is_head(record)]
    return Head(heads[-1], namespace) if heads else None


def read_head(memory: Memory, namespace: tuple[str, ...], id: str) -> Head | None:
    """Return the item whose head has this id, None if it was replaced or deleted."""
    try:
        record = memory.get(id)
    except NotFound:
        return None
    return Head(record, namespace) if is_head(record) else None


def read_all(memory: Memory, namespace: tuple[str, ...]) -> list[Head]:
    """Return all items of a namespace, the one put last at the end."""
    return [Head(record, namespace) for record in memory.history() if is_head(record)]


def refresh(memory: Memory, head: Head) -> None:
    """Let an item that expires live its whole time from now on."""
    if head.ttl is None:
        return
    try:
        memory.annotate(head.record.id, {**head.record.turn.metadata, **lifetime(head.ttl)})
    except NotFound:  # it was replaced or deleted meanwhile
        return


def hide(memory: Memory, records: Sequence[Record]) -> None:
    """Delete turns; somebody else may have been quicker."""
    for record in records:
        try:
            memory.delete(record.id)
        except NotFound:
            continue
