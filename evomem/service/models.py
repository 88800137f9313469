"""Request and response bodies of the service: the source of /openapi.json.

Bodies with unknown fields are refused. `Memory` documents the fields, and checks their values.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from evomem.checks import MAX_LABELS, MAX_TURNS
from evomem.records import MAX_CHARS, MAX_LABEL, MAX_RECALLED
from evomem.service.access import RIGHTS

Label = Annotated[str, Field(max_length=MAX_LABEL)]
Source = Label | None
Point = Annotated[int, Field(ge=0, le=MAX_TURNS)] | Label
"""A turn, by its seq, or a time (ISO 8601 with a time zone)."""
Count = Annotated[int, Field(ge=1)]


class Body(BaseModel):
    """A request body."""

    model_config = ConfigDict(extra="forbid", strict=True)


class NewTurn(Body):
    """See `Memory.add`."""

    text: str = Field(max_length=MAX_CHARS, description="what was said")
    role: Literal["user", "assistant"] = "user"
    reply: str | None = Field(None, max_length=MAX_CHARS, description="the assistant's answer")
    speaker: Label | None = None
    id: Label | None = Field(
        None, description="adding an id again with the same text changes nothing"
    )
    time: Label | None = Field(None, description="ISO 8601 with a time zone; now if not given")
    session: Label | None = None
    metadata: dict[str, Any] = {}
    source: Label | None = None
    recalled: list[Label] = Field([], max_length=MAX_RECALLED)
    supersedes: Label | None = Field(None, description="id of the turn that this one replaces")


class Filters(Body):
    """Which turns may be returned; every given condition must hold."""

    since: Label | None = None
    until: Label | None = None
    session: str | None = None
    role: Literal["user", "assistant", "exchange"] | None = None
    where: dict[str, Any] | None = Field(None, examples=[{"stars": {"$gte": 4}}])
    source: list[Source] | None = Field(None, description="null stands for turns without a source")
    not_source: list[Source] | None = None
    speaker: str | None = None


class Past(Body):
    """A point in the past: all given limits apply. See `MemoryView.at`."""

    at: Point | None = Field(None, description="as of that turn (seq) or time")
    said: Label | None = Field(None, description="with the turns said by then, as `at` with a time")
    added: Label | None = Field(None, description="with the turns added by then")


class Question(Filters, Past):
    """The shared fields of `search` and `context`."""

    query: str = Field(max_length=MAX_CHARS)
    mode: Literal["evolvable", "lexical", "hybrid"] = "hybrid"
    now: Label | None = Field(
        None, description='the time of the question, to which "yesterday" is relative'
    )
    zone: Label | None = Field(
        None,
        examples=["Europe/Berlin"],
        description="the time zone of the person who asks: a name, or an offset such as +03:30",
    )
    trust: dict[str, float] | None = Field(
        None, description='weights of sources; "" stands for turns without one'
    )
    min_relevance: float | None = Field(
        None, description="minimum relevance, 0 to 1; less relevant turns are left out"
    )
    rerank: bool = Field(
        False, description="whether the service's re-ranker orders the best turns, if it has one"
    )


class Search(Question):
    """See `Memory.search`."""

    k: Count = 5


class Ask(Question):
    """See `Memory.context`."""

    k: Count = 50
    max_tokens: Count = 2000


class Correction(Body):
    """See `Memory.correct`."""

    text: str = Field(max_length=MAX_CHARS, description="the corrected text")
    reply: str | None = Field(None, max_length=MAX_CHARS, description="the assistant's answer")
    time: Label | None = Field(None, description="ISO 8601 with a time zone; now if not given")
    source: Label | None = None
    recalled: list[Label] = Field([], max_length=MAX_RECALLED)


class Annotation(Body):
    """See `Memory.annotate`."""

    metadata: dict[str, Any]


class Purge(Body):
    """See `Memory.purge`."""

    forks: bool = False


class Expire(Body):
    """See `Memory.expire`; at least one condition is required."""

    before: Label | None = None
    session: str | None = None
    source: list[Source] | None = None
    forks: bool = False


class Fork(Past):
    """See `Memory.fork`."""

    labels: list[Label] = Field(min_length=1, max_length=MAX_LABELS)


class Replace(Body):
    """See `Memory.replace_sessions`: the first line; the new turns follow."""

    sessions: list[Label]
    where: dict[str, Any] | None = None
    mark: str = Field("", max_length=64, description="the mark of the turns to replace")


class Together(Body):
    """See `Database.together`."""

    prefix: list[Label] = Field([], max_length=MAX_LABELS)
    version: str = Field("", max_length=64, description="the client's version")
    known: dict[str, str] = Field(
        {}, description="marks of the memories that the client has, by name"
    )
    query: str | None = Field(None, max_length=MAX_CHARS)


class Verify(Body):
    """See `Database.verify`."""

    anchor: dict[str, Any] | None = None


class NewKey(Body):
    """A key to create."""

    prefix: list[Label] = Field([], max_length=MAX_LABELS)
    rights: list[Literal[RIGHTS]] = Field(min_length=1)  # type: ignore[valid-type]
    expires: Label | None = Field(None, description="ISO 8601 with a time zone")
    note: Label = ""


# answers -----------------------------------------------------------------------------------


class RecordOut(BaseModel):
    """A stored turn."""

    seq: int
    id: str
    role: str
    text: str
    user: str
    assistant: str
    speaker: str | None
    session: str | None
    time: datetime
    added: datetime
    metadata: dict[str, Any]
    source: str | None
    recalled: list[str]
    replaced_by: int | None = Field(
        None, description="seq of the turn that replaced it; only in a history of `all`"
    )


class HitOut(RecordOut):
    """A turn that answers a query."""

    score: float
    parts: dict[str, float] = Field(
        description="the summands of the score; also `rerank`, the re-ranker's score, which is not a summand"
    )
    relevance: float | None = Field(
        description="how likely the turn answers the query, 0 to 1; null for lexical search, and for"
        " evolvable search without `min_relevance`"
    )
    replaced: list[RecordOut] = Field(description="the turns that it replaced, oldest first")


class Hits(BaseModel):
    """The best turns, best first."""

    hits: list[HitOut]


class ContextOut(BaseModel):
    """Text for a prompt, and the ids of the turns that it shows."""

    text: str
    ids: list[str]


class Page(BaseModel):
    """Some turns, oldest first."""

    turns: list[RecordOut]
    next: int | None = Field(description="give it as `after` for the next page; null at the end")


class Names(BaseModel):
    """Some namespaces, sorted."""

    memories: list[list[str]]
    turns: list[int] | None = Field(
        description="the number of turns of each, with `sizes`; without deleted ones"
    )
    next: str | None = Field(description="give it as `after` for the next page; null at the end")


class ListedOut(BaseModel):
    """A turn without its text."""

    seq: int
    id: str
    session: str | None
    metadata: dict[str, Any]
    added: datetime


class ExtractOut(BaseModel):
    """The turns of one memory."""

    mark: str = Field(description="identifies this state of the memory")
    turns: list[ListedOut]


class TogetherOut(BaseModel):
    """All memories below a prefix."""

    version: str
    memories: dict[str, ExtractOut | None] | None = Field(
        description="by name, sorted; null if the client has the current state"
    )
    cosines: list[float] | None = Field(
        description="one for every turn, in the order of the memories"
    )


class MemoryOut(BaseModel):
    """A memory, or a point in its past."""

    memory: list[str]
    turns: int
    seq: int | None = Field(description="the last turn of this point")
    said: datetime | None = Field(description="with the turns said by then; null for all")
    added: datetime | None = Field(description="with the turns added by then; null for all")


class Stored(BaseModel):
    """The result of turns that were sent together."""

    stored: int
    records: list[RecordOut] | None = Field(description="null unless requested")


class Replaced(BaseModel):
    """The new turns; or the turns to be replaced, if they differ from what the request assumed."""

    records: list[RecordOut] | None
    held: list[RecordOut] | None = Field(description="null if the turns were stored")
    mark: str | None = Field(description="the mark of `held`: send the turns again with it")


class ForkOut(BaseModel):
    """The new memory."""

    memory: list[str]


class RereadOut(BaseModel):
    """The result of reading a memory again."""

    turns: int = Field(description="how many were read again")


class ReceiptOut(BaseModel):
    """What was forgotten for good."""

    memories: list[list[str]]
    ids: list[str]
    turns: int
    reread: int
    kept: int
    clean: bool
    time: datetime


class InfluenceOut(BaseModel):
    """The turns and answers that a turn has influenced."""

    memory: list[str]
    id: str
    direct: list[str]
    indirect: list[str]
    answers: list[str]
    forks: list[InfluenceOut]


class ImportedOut(BaseModel):
    """The result of an import."""

    new: int
    replaced: int
    known: int
    deleted: int
    forgotten: int
    first: list[dict[str, Any]]


class KeyOut(BaseModel):
    """The stored part of a key."""

    id: str
    prefix: list[str]
    rights: list[str]
    note: str
    created: datetime
    expires: datetime | None
    revoked: datetime | None
    used: datetime | None


class NewKeyOut(KeyOut):
    """A new key."""

    key: str = Field(description="the secret; it is shown only once")


class Keys(BaseModel):
    """All keys below a prefix."""

    keys: list[KeyOut]


class AccessLine(BaseModel):
    """Who did what, never the texts."""

    number: int
    time: datetime
    key: str
    action: str
    memory: list[str]
    count: int
    status: int


class AccessLog(BaseModel):
    """Some lines, oldest first."""

    lines: list[AccessLine]
    next: int | None
