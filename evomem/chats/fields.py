"""Fields that shapes have in common (time, id, session, name), under their various names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone, tzinfo
from typing import Any

from evomem.errors import InputError, TurnError
from evomem.records import MAX_LABEL, as_utc, check_string

TIME_FIELDS = (
    "time",
    "timestamp",
    "created_at",
    "createdAt",
    "create_time",
    "createTime",
    "created",
    "date",
    "datetime",
    "date_time",
    "sent_at",
    "sentAt",
)
SESSION_FIELDS = (
    "session",
    "session_id",
    "sessionId",
    "thread_id",
    "threadId",
    "conversation_id",
    "conversationId",
    "chat_id",
    "chatId",
)
ID_FIELDS = ("id", "uuid", "message_id", "messageId", "_id")
TITLE_FIELDS = ("title", "name", "summary")
MICROSECONDS = 100_000_000_000_000  # in milliseconds, larger epochs would be after the year 5000
MILLISECONDS = 100_000_000_000  # in seconds, larger epochs would be after the year 5000
_FRACTION = re.compile(r"\.(\d+)")
_ZONE = re.compile(r"([+-]\d\d)(\d\d)?$")
_EPOCH = re.compile(r"\d{9,19}(\.\d+)?")


def first(value: Mapping[str, Any], names: Iterable[str]) -> Any:
    """Return the first of the named fields that is not None."""
    for name in names:
        field = value.get(name)
        if field is not None:
            return field
    return None


def label(where: str, value: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    """Return an id, a session or a name as text, None if there is none.

    Raises:
        InputError: The value is neither text nor an integer.
    """
    field = first(value, names)
    if field is None or (type(field) is str and field):
        return field
    if isinstance(field, Mapping) and isinstance(field.get("$oid"), str):  # MongoDB
        field = field["$oid"]
    if isinstance(field, bool) or not isinstance(field, str | int | None):
        raise InputError(f"{where}: {names[0]} must be a string, got {brief(field)}")
    return None if field is None or field == "" else str(field)


def conversation_id(where: str, field: object) -> str | None:
    """Return the id of a conversation, None if it has none.

    Raises:
        InputError: The id cannot be stored as the session of a turn.
    """
    id = label(where, {"id": field}, ("id",))
    try:
        if id is not None:
            check_string("the conversation's id", id, MAX_LABEL)
    except TurnError as error:
        raise InputError(f"{where}: {error}") from error
    return id if id and id.strip() else None


def time(where: str, value: object, zone: tzinfo | None) -> datetime | None:
    """Return a time as UTC: ISO 8601, or an epoch in seconds, milli- or microseconds.

    Raises:
        InputError: It is none of these, or has no time zone and `zone` is None.
    """
    value = _bare(value)
    if value is None or value == "":
        return None
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _epoch(value)
        if isinstance(value, str):
            value = _iso(value) or value
        if isinstance(value, datetime) and value.tzinfo is None and zone is not None:
            value = value.replace(tzinfo=zone)
        if isinstance(value, str) and zone is not None:
            raise InputError(f"{where}: the time {brief(value)} cannot be used: not ISO 8601")
        return as_utc(value)
    except TurnError as error:
        hint = (
            "; or name the zone of all such times, as in --timezone Europe/Berlin"
            if "no time zone" in str(error)
            else ""
        )
        raise InputError(f"{where}: {error}{hint}") from error
    except (ValueError, OverflowError, OSError) as error:
        raise InputError(f"{where}: the time {brief(value)} cannot be used: {error}") from error


def _bare(value: object) -> object:
    """Remove MongoDB's wrapper from a time, and convert an epoch in a string to a number."""
    if isinstance(value, Mapping) and "$date" in value:
        value = value["$date"]
        if isinstance(value, Mapping):
            value = value.get("$numberLong")
    if isinstance(value, str) and _EPOCH.fullmatch(value):
        return float(value)
    return value


def _epoch(value: float) -> datetime:
    size = abs(value)
    seconds = value
    if size >= MICROSECONDS * 1000:  # nanoseconds
        seconds = value / 1e9
    elif size >= MICROSECONDS:
        seconds = value / 1e6
    elif size >= MILLISECONDS:
        seconds = value / 1e3
    if not size < 1e20:
        raise OverflowError("it is out of range")
    return datetime.fromtimestamp(seconds, timezone.utc)


def _iso(value: str) -> datetime | None:
    """Return the time of an ISO 8601 string, None for other strings.

    Accepts fractions of any number of digits and zones without a colon, which JavaScript, Go and Rust
    write, and Python 3.10 rejects.
    """
    text = value.strip()
    if text.endswith(" UTC"):
        text = f"{text[:-4]}Z"
    if text[-1:] in "Zz":
        text = f"{text[:-1]}+00:00"
    text = _FRACTION.sub(lambda match: f".{match[1][:6]:0<6}", text, count=1)
    text = _ZONE.sub(r"\1:\2", text) if re.search(r":\d\d(\.\d+)?[+-]\d{4}$", text) else text
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def brief(value: object) -> str:
    """Return a value as short JSON for error messages."""
    try:
        text = json.dumps(value, default=str)
    except (TypeError, ValueError, RecursionError):
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."
