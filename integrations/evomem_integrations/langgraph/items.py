"""Items as turns: how a value lies in the log of its namespace's memory, and comes out again.

An item is a session of the log, named by its key. A put appends one turn for each text that is
indexed; the last of them, the head, carries the value in its metadata, so that an item is there when
all of it is. The item is what the newest head says. What is not indexed is one turn with the key as
its text.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
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


def version(record: Record) -> str:
    """Return what the turns of one put have in common."""
    return record.id.partition("/")[0]


def is_head(record: Record) -> bool:
    """Say whether a turn carries an item's value."""
    return "value" in record.turn.metadata


def turns(op: PutOp, fields: Sequence[str], created: datetime) -> list[Turn]:
    """Return the turns of a put, the head last.

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
        "created": created.isoformat(),
        **lifetime(op.ttl),
    }
    said = texts or [op.key]
    return [
        Turn(
            user=text,
            id=f"{name}/{place}",
            session=op.key,
            metadata=head if place == len(said) else {},
        )
        for place, text in enumerate(said, start=1)
    ]


def lifetime(ttl: float | None) -> dict[str, float]:
    """Return what a head says about how long it lives, counted from now."""
    return {} if ttl is None else {"ttl": ttl, "expires": time.time() + ttl * MINUTE}


def read(memory: Memory, namespace: tuple[str, ...], key: str) -> Head | None:
    """Return an item, None if there is none."""
    heads = [record for record in memory.history(session=key) if is_head(record)]
    return Head(heads[-1], namespace) if heads else None


def read_all(memory: Memory, namespace: tuple[str, ...]) -> list[Head]:
    """Return all items of a namespace, the one put last at the end."""
    newest: dict[str, Head] = {}
    for record in memory.history():
        if is_head(record):
            head = Head(record, namespace)
            newest.pop(head.key, None)
            newest[head.key] = head
    return list(newest.values())


def refresh(memory: Memory, head: Head) -> None:
    """Let an item that expires live its whole time from now on."""
    if head.ttl is None:
        return
    try:
        memory.annotate(head.record.id, {**head.record.turn.metadata, **lifetime(head.ttl)})
    except NotFound:  # it was replaced or deleted meanwhile
        return


def hide_replaced(memory: Memory, key: str) -> None:
    """Delete the versions of an item that a newer one has replaced."""
    records = memory.history(session=key)
    heads = [record for record in records if is_head(record)]
    old = {version(head) for head in heads[:-1]}
    hide(memory, [record for record in records if version(record) in old])


def hide(memory: Memory, records: Sequence[Record]) -> None:
    """Delete turns; somebody else may have been quicker."""
    for record in records:
        try:
            memory.delete(record.id)
        except NotFound:
            continue
