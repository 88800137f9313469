"""The types that a memory takes and returns: `Turn`, `Record`, `Hit`, `Context`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timezone
from types import MappingProxyType
from typing import Any, NamedTuple

from evomem.errors import TurnError

MAX_CHARS = 262_144  # one side of a turn; longer texts are documents and should be split
MAX_LABEL = 512  # characters of an id, a session, a speaker or a source
MAX_RECALLED = 1_000  # ids in `Turn.recalled`
MAX_METADATA = 65_536  # bytes of metadata as JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    r"""One unit of conversation: an exchange (both sides) or a single message (one side).

    Raises:
        TurnError: A field cannot be stored; the message names the value and the remedy.

    Examples:
        >>> Turn(user="I moved to Oslo.", assistant="Noted.").text
        'User: I moved to Oslo.\nAssistant: Noted.'
        >>> Turn(user="Hi Mel!", speaker="Caroline").text
        'Caroline: Hi Mel!'
    """

    user: str = ""
    """What the user says; at most 262,144 characters."""
    assistant: str = ""
    """What the assistant says; at most 262,144 characters. One of the two sides must have text."""
    speaker: str | None = None
    """A name to show in place of "User" (or of "Assistant" when only that side speaks)."""
    id: str | None = None
    """Unique in its memory; if not given, generated when the turn is stored."""
    time: datetime | None = None
    """When it was said, with a time zone; defaults to the time of storing. Stored in UTC."""
    session: str | None = None
    """The conversation it belongs to."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Any JSON values, at most 64 KiB; copied."""
    source: str | None = None
    """The origin of the text, such as "user", "web" or "import:chat.json"; None if unknown.
    A label for filters and weights (docs/operations/poisoning.md): no embedding depends on it."""
    recalled: Sequence[str] = ()
    """Ids of the turns that were in the prompt when this turn's answer was written; stored as a tuple
    without duplicates. They are not checked: the turns may be purged, or belong to another memory."""

    def __post_init__(self) -> None:
        for side in ("user", "assistant"):
            check_string(side, getattr(self, side), MAX_CHARS)
        if not (self.user.strip() or self.assistant.strip()):
            raise TurnError("a turn needs text: both sides are empty or white space; leave it out")
        for name in ("speaker", "id", "session", "source"):
            _check_label(name, getattr(self, name))
        object.__setattr__(self, "time", as_utc(self.time))
        object.__setattr__(self, "metadata", _checked_metadata(self.metadata))
        object.__setattr__(self, "recalled", _checked_recalled(self.recalled))

    @property
    def role(self) -> str:
        """`"exchange"` if both sides speak, else `"user"` or `"assistant"`."""
        if self.user and self.assistant:
            return "exchange"
        return "user" if self.user else "assistant"

    @property
    def text(self) -> str:
        """The text that is embedded and shown (docs/reference/evoembedding-model.md, "Turns")."""
        if not self.user:
            return f"{self.speaker or 'Assistant'}: {self.assistant}"
        text = f"{self.speaker or 'User'}: {self.user}"
        return f"{text}\nAssistant: {self.assistant}" if self.assistant else text

    def name(self, *, reply: bool = False) -> str:
        """Return the name that precedes the text, or the reply, in `text`."""
        if self.user and reply:
            return "Assistant"
        return self.speaker or ("User" if self.user else "Assistant")

    @property
    def content(self) -> bytes:
        """The content that an encoder may depend on, as bytes: the input of the log's digest chain."""
        return json.dumps([self.user, self.assistant, self.speaker]).encode()


def sealed_turn(**values: Any) -> Turn:
    """Return a turn with these fields without checking them, for a log that has checked them.

    Args:
        **values: All fields of `Turn`, in its own form: times in UTC, `recalled` as a tuple. The turn
            takes ownership of `metadata`.
    """
    turn = object.__new__(Turn)
    values["metadata"] = MappingProxyType(values["metadata"])
    for name in _FIELDS:
        object.__setattr__(turn, name, values[name])
    return turn


def changed(turn: Turn, **values: Any) -> Turn:
    """Return a turn with other values of some fields, in its own form; nothing is checked again."""
    new = object.__new__(Turn)
    for name in _FIELDS:
        object.__setattr__(new, name, values[name] if name in values else getattr(turn, name))
    return new


_FIELDS = tuple(field.name for field in fields(Turn))


class TimeAndSession(NamedTuple):
    """The time (UTC) and the session of a turn: the part of a record that ranking uses."""

    time: datetime
    session: str | None


@dataclass(frozen=True, slots=True)
class Record:
    """A turn as stored in the log: with an id, a time and its position."""

    seq: int
    """Position in the log, from 1; purging an earlier turn does not change it."""
    turn: Turn
    added: datetime
    """When it was stored, UTC."""
    replaced_by: int | None = None
    """Seq of the turn that replaced this one; only set by `history(all=True)`."""

    @property
    def id(self) -> str:
        """The turn's id."""
        return self.turn.id or ""

    @property
    def text(self) -> str:
        """The turn's text, as embedded."""
        return self.turn.text

    @property
    def time(self) -> datetime:
        """When it was said, UTC."""
        return self.turn.time or self.added

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values."""
        turn = self.turn
        return {
            "seq": self.seq,
            "id": self.id,
            "role": turn.role,
            "text": turn.text,
            "user": turn.user,
            "assistant": turn.assistant,
            "speaker": turn.speaker,
            "session": turn.session,
            "time": self.time.isoformat(),
            "added": self.added.isoformat(),
            "metadata": dict(turn.metadata),
            "source": turn.source,
            "recalled": list(turn.recalled),
            **({} if self.replaced_by is None else {"replaced_by": self.replaced_by}),
        }


@dataclass(frozen=True, slots=True)
class Hit:
    """A turn that a search returns, with its score."""

    record: Record
    score: float
    """Higher is better: the sum of `parts` for "hybrid", the cosine for "evolvable", BM25 for
    "lexical". A re-ranker changes the order of the hits, not their scores."""
    parts: Mapping[str, float]
    """The summands of the score, such as `{"evolvable": 0.93, "lexical": 0.2, "time": 0.31}`, and
    "rerank", the re-ranker's score, which is not added to it."""
    replaced: tuple[Record, ...] = ()
    """The turns that this one replaced, oldest first: the text before a correction."""
    relevance: float | None = None
    """The probability, 0 to 1, that the turn answers the query (docs/guides/search.md). None for "lexical",
    and for "evolvable" unless `min_relevance` is given."""

    @property
    def text(self) -> str:
        """The turn's text, as embedded."""
        return self.record.text

    @property
    def seq(self) -> int:
        """The turn's position in the log."""
        return self.record.seq

    def to_json(self) -> dict[str, Any]:
        """Return the hit as plain JSON values."""
        earlier = [
            {"seq": old.seq, "id": old.id, "time": old.time.isoformat(), "text": old.text}
            for old in self.replaced
        ]
        return {
            "score": self.score,
            "parts": dict(self.parts),
            "relevance": self.relevance,
            **self.record.to_json(),
            "replaced": earlier,
        }


class Context(str):
    """Text for a prompt, and the ids of its turns, as `MemoryView.context` returns it."""

    ids: tuple[str, ...]
    """The ids of the turns in the text, oldest first."""

    def __new__(cls, text: str, ids: Iterable[str]) -> Context:
        """Return `text` with the ids of the turns that it shows."""
        context = super().__new__(cls, text)
        context.ids = tuple(ids)
        return context

    def __getnewargs__(self) -> tuple[str, tuple[str, ...]]:  # type: ignore[override]
        """Return the arguments for a copy."""
        return str(self), self.ids


def as_utc(time: object) -> datetime | None:
    """Return a `datetime` or ISO 8601 string as UTC.

    Raises:
        TurnError: It is neither, or has no time zone, which cannot be guessed safely.
    """
    if time is None:
        return None
    if isinstance(time, str):
        try:
            time = datetime.fromisoformat(time[:-1] + "+00:00" if time.endswith("Z") else time)
        except ValueError as error:
            raise TurnError(
                f"time {time!r} is not ISO 8601; write it like 2024-03-05T14:30:00+00:00"
            ) from error
    if not isinstance(time, datetime):
        raise TurnError(f"time must be a datetime or an ISO 8601 string, got {type(time).__name__}")
    if time.utcoffset() is None:
        raise TurnError(
            f"time {time.isoformat()!r} has no time zone; add one, for example "
            "datetime(..., tzinfo=timezone.utc) or 2024-03-05T14:30:00+00:00"
        )
    try:
        return time.astimezone(timezone.utc)
    except OverflowError as error:
        raise TurnError(f"time {time.isoformat()!r} is out of range in UTC") from error


def check_string(name: str, value: object, limit: int) -> None:
    """Raise `TurnError` unless `value` is text that every store can hold."""
    if not isinstance(value, str):
        raise TurnError(f"{name} must be a string, got {type(value).__name__}")
    if len(value) > limit:
        raise TurnError(f"{name} has {len(value):,} characters, the limit is {limit:,}; split it")
    if "\x00" in value:
        raise TurnError(f"{name} contains a NUL character at {value.index(chr(0))}; remove it")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TurnError(
            f"{name} contains half of a surrogate pair at {error.start}, which is not text; "
            "decode the source with the right encoding"
        ) from error


def _check_label(name: str, value: object) -> None:
    if value is None:
        return
    check_string(name, value, MAX_LABEL)
    if not str(value).strip():
        raise TurnError(f"{name} is empty; leave it out or give it a name")


def _checked_recalled(recalled: object) -> tuple[str, ...]:
    if isinstance(recalled, str) or not isinstance(recalled, Sequence):
        raise TurnError(
            f"recalled must be a list of turn ids, got {type(recalled).__name__} {recalled!r:.60}"
        )
    for id in recalled:
        _check_label("an id in recalled", id)
        if id is None:
            raise TurnError("an id in recalled is None; leave it out")
    ids = tuple(dict.fromkeys(recalled))
    if len(ids) > MAX_RECALLED:
        raise TurnError(
            f"recalled has {len(ids):,} ids, the limit is {MAX_RECALLED:,}; "
            "name only the turns that were in the prompt"
        )
    return ids


plain_json = json.JSONEncoder(allow_nan=False).encode
"""Returns a value as JSON; raises `ValueError` for NaN, `TypeError` for what JSON cannot hold."""
NO_METADATA: Mapping[str, Any] = MappingProxyType({})


def _checked_metadata(metadata: object) -> Mapping[str, Any]:
    if not isinstance(metadata, Mapping):
        raise TurnError(f"metadata must be a mapping, got {type(metadata).__name__}")
    if not metadata:  # as in most turns of a chat
        return NO_METADATA
    for key in metadata:
        check_string("metadata key", key, MAX_LABEL)
    try:
        encoded = plain_json(dict(metadata))
    except (TypeError, ValueError, RecursionError) as error:
        raise TurnError(f"metadata must be plain JSON (no NaN, no objects): {error}") from error
    if len(encoded) > MAX_METADATA:
        raise TurnError(
            f"metadata takes {len(encoded):,} bytes as JSON, the limit is {MAX_METADATA:,}; "
            "keep large values elsewhere and store their address"
        )
    if "\\u" in encoded:  # otherwise there is no NUL and no half of a surrogate pair
        check_nested(metadata)
    return MappingProxyType(json.loads(encoded))


def check_nested(value: object, limit: int = MAX_METADATA) -> None:
    """Check every string inside nested JSON, of at most `limit` characters each."""
    if isinstance(value, str):
        check_string("metadata value", value, limit)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            check_nested(key, limit)
            check_nested(inner, limit)
    elif isinstance(value, list | tuple):
        for inner in value:
            check_nested(inner, limit)
