"""Reads chat files as turns with ids derived from their content."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import tzinfo

from evomem.chats.reading import read
from evomem.errors import InputError, TurnError
from evomem.pairing import as_turns
from evomem.records import Turn


@dataclass(frozen=True, slots=True)
class ChatTurns:
    """The contents of a chat file, as turns."""

    turns: list[Turn]
    """For `Memory.add_many`, with ids that are the same each time the file is read."""
    conversations: int
    messages: int
    """Messages that became part of a turn."""
    left_out: Mapping[str, int]
    """The number of left-out parts by kind: `{"system": 3, "empty": 1, "image_url part": 2}`."""


def read_chats(
    data: bytes,
    name: str = "the file",
    *,
    zone: tzinfo | None = None,
    source: str | None = None,
) -> ChatTurns:
    r"""Read a chat file.

    Args:
        data: The file's content.
        name: Its name in errors.
        zone: The time zone of times without one; None to refuse such times.
        source: The source of all turns (`Turn.source`). Source fields in the file are ignored,
            since a text must not choose its own label.

    Raises:
        InputError: The file is not a chat; the error names place and reason.

    Examples:
        >>> chats = read_chats(b'[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]')
        >>> chats.turns[0].text
        'User: Hi\nAssistant: Hello'
    """
    chats = read(data, zone=zone, name=name)
    turns: dict[str, Turn] = {}
    seen: Counter[str] = Counter()
    for conversation in chats.conversations:
        try:
            paired = as_turns(conversation.messages)
        except TurnError as error:  # messages that are valid separately, but not as one exchange
            raise InputError(f"{name}: {error}") from error
        # a nameless conversation is named by its start, so that a longer export gets the same name
        key = conversation.id or f"chat-{_digest(paired[0])[:12]}"
        seen[key] += 1
        place = key if seen[key] == 1 else f"{key}-{seen[key]}"
        for number, turn in enumerate(paired):
            turn = replace(
                turn,
                session=turn.session or conversation.id or place,
                id=turn.id or _digest(turn, place, str(number)),
                source=source,
            )
            if turn.id in turns:
                raise InputError(
                    f"{name}: the id {turn.id!r} occurs twice, at {turns[turn.id].text[:40]!r} and "
                    f"{turn.text[:40]!r}; ids must be unique: correct them or leave them all out"
                )
            turns[str(turn.id)] = turn
    return ChatTurns(list(turns.values()), len(chats), chats.messages, chats.left_out)


def _digest(turn: Turn, *more: str) -> str:
    return hashlib.blake2b(json.dumps(more).encode() + turn.content, digest_size=16).hexdigest()
