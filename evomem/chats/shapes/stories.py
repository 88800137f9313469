"""Code shared by LoCoMo and REALTALK: two people, and sessions in numbered keys."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime

from evomem.chats.fields import brief
from evomem.chats.shapes.base import Raw, Talk, placed
from evomem.errors import InputError

_SESSION = re.compile(r"session_(\d+)")


def session_keys(raw: Raw) -> list[str]:
    """Return the keys of the sessions in numerical order."""
    numbers = [int(match[1]) for key in raw if (match := _SESSION.fullmatch(key))]
    return [f"session_{number}" for number in sorted(numbers)]


def talks(raw: Raw, where: str, name: str | None, times: str) -> Iterator[Talk]:
    """Yield a conversation for each session, with its date if the session has one."""
    for key in session_keys(raw):
        place = f"{where}, {key}"
        yield Talk(
            place,
            placed(raw[key], place),
            id=f"{name}-{key}" if name else key,
            time=parsed(raw.get(f"{key}_date_time"), times, place),
            ordered=True,
            utc=True,
        )


def parsed(value: object, pattern: str, where: str) -> datetime | None:
    """Return a time written in a given `strptime` pattern; None if the value is empty.

    Raises:
        InputError: The value does not match the pattern.
    """
    if value is None or value == "":
        return None
    try:
        return datetime.strptime(str(value).strip(), pattern)
    except ValueError as error:
        raise InputError(f"{where}: the time {brief(value)} cannot be used: {error}") from error


def with_caption(raw: Raw, key: str) -> str:
    """Return the text of a turn with the caption of its picture, if it has one."""
    text, caption = raw.get(key), raw.get("blip_caption")
    text = text if isinstance(text, str) else ""
    shared = f"[shares: {caption}]" if isinstance(caption, str) and caption else ""
    return " ".join(part for part in (text, shared) if part)


def is_story(raw: object) -> bool:
    """Return whether an object has numbered sessions."""
    return isinstance(raw, Mapping) and bool(session_keys(raw))
