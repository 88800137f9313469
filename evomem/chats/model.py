"""The result of reading chats."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

Message = Mapping[str, Any]
"""A message for `evomem.pairing.as_turns`: `role` ("user" or "assistant"), `content` (text),
and `name`, `id`, `time` (UTC), `session`, `metadata`."""


class Problem(NamedTuple):
    """A message, a line or a file that `skip_bad` skipped."""

    where: str
    """The place, such as "chats.json, line 3, message 2"."""
    reason: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """One conversation: messages in the order in which they were said."""

    messages: Sequence[Message]
    places: Sequence[str]
    """The place of each message in the source, such as "chats.json, line 3, message 2"."""
    id: str | None
    """The conversation's id in the source; None if it has none."""
    time: datetime | None
    """When it started, UTC; None if unknown."""
    title: str | None
    shape: str
    """The format of its messages, one of `formats`."""
    where: str
    """The place of its beginning in the source."""


@dataclass(frozen=True, slots=True)
class FileRead:
    """The content of one file of the source."""

    where: str
    shapes: tuple[str, ...]
    """The formats found, most frequent first; empty for a file that is not a chat."""
    conversations: int
    messages: int


@dataclass(frozen=True, slots=True)
class Chats:
    """The content of a source, completely read and checked.

    Many conversations are kept on disk, so that iteration takes little memory and can be repeated.
    """

    conversations: Iterable[Conversation]
    """In order of time if all of them have times, otherwise in the order of the source."""
    files: Sequence[FileRead]
    left_out: Mapping[str, int] = field(default_factory=dict)
    """The number of left-out parts by kind: `{"tool call": 3, "image part": 2}`."""
    problems: Sequence[Problem] = ()
    """The messages, lines and files that `skip_bad` skipped."""
    notes: Sequence[str] = ()
    """Assumptions that may be wrong, as sentences."""

    @property
    def messages(self) -> int:
        """The number of messages; one that was divided counts as its parts."""
        return sum(file.messages for file in self.files)

    def __len__(self) -> int:
        """Return the number of conversations."""
        return sum(file.conversations for file in self.files)
