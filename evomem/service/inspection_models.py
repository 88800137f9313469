"""The request and response bodies of `evomem.service.inspection`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from evomem.records import MAX_CHARS
from evomem.service.models import HitOut, Past, RecordOut


class NodeOut(BaseModel):
    """A memory, and its parent if it is a fork."""

    memory: list[str]
    turns: int
    last: int = Field(description="seq of the newest turn")
    shared: int = Field(
        description="the last seq that it shares with its parent; 0 if it is not a fork"
    )
    parent: list[str] | None = Field(
        description="null if the key has no right to it, or if it was dropped"
    )


class Nodes(BaseModel):
    """Some memories, sorted by name."""

    memories: list[NodeOut]
    next: str | None = Field(description="give it as `after` for the next page; null at the end")


class Overview(NodeOut):
    """An overview of a memory, without its turns."""

    first_time: datetime | None = Field(description="the time of its first turn")
    last_time: datetime | None
    sessions: list[str] = Field(description="the first sessions, in the order in which they began")
    session_count: int
    digest: str = Field(description="digest of all turns up to the newest one, as hex")
    revision: int = Field(description="grows with every purge")
    forks: list[NodeOut]


class Pair(BaseModel):
    """A turn and its replacement."""

    old: RecordOut
    new: RecordOut | None = Field(description="null if it was deleted")


class Pairs(BaseModel):
    """Some replaced turns, oldest first."""

    pairs: list[Pair]
    next: int | None = Field(description="give it as `after` for the next page; null at the end")


class SomeTurns(BaseModel):
    """The number of turns, and the first of them."""

    count: int
    turns: list[RecordOut]


class PreviewOut(BaseModel):
    """What a purge would remove and read again."""

    turn: RecordOut
    replaced: list[RecordOut] = Field(
        description="the turns that it replaced, which are purged with it"
    )
    reread: int = Field(description="how many later turns would be read again")
    direct: SomeTurns = Field(description="turns that were read with it in the queue")
    indirect: SomeTurns = Field(description="turns after those")
    answers: SomeTurns = Field(description="turns that name it as recalled")
    forks: list[list[str]] = Field(description="other memories that hold it")
    sharing: list[list[str]] = Field(
        description="memories that share it or later turns: purging it needs `forks`"
    )


class MapQuestion(Past):
    """A query to compare with turns at several points of the log."""

    query: str = Field(max_length=MAX_CHARS)
    points: Annotated[int, Field(ge=1, le=96)] = 48
    turns: Annotated[int, Field(ge=1, le=96)] = 32


class PointOut(BaseModel):
    """A point of the log: its newest turn."""

    seq: int
    time: datetime | None


class MapOut(BaseModel):
    """Cosines of a query: a row for each turn, a column for each point."""

    points: list[PointOut]
    turns: list[RecordOut]
    cosines: list[list[float | None]] = Field(
        description="null where the turn had not been added yet"
    )


class AloneOut(BaseModel):
    """The hits of a search in which every text is read as if it were the first."""

    hits: list[HitOut]
    compared: int = Field(description="how many turns were candidates")
    remembers: bool = Field(description="whether the encoder has a memory at all")
