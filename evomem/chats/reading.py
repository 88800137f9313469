"""From a source to `Chats`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

from evomem.chats import turns
from evomem.chats.model import Chats, Conversation, FileRead


def formats() -> dict[str, str]:
    """Return the names of the shapes that `read` knows, each with a description."""
    return {"openai-chat": "messages with role and content, as OpenAI's chat API takes them"}


def read(
    source: object,
    *,
    format: str | None = None,
    zone: tzinfo | None = None,
    skip_bad: bool = False,
    since: datetime | None = None,
    name: str | None = None,
) -> Chats:
    """Read the conversations that `source` holds.

    Args:
        source: A path (file, folder, zip, gzip, SQLite), the bytes of a file, or objects: messages
            or conversations as dictionaries or as the classes of the libraries have them.
        format: The name of a shape, see `formats`; without it the content decides.
        zone: The time zone of times that name none; without it such times are refused.
        skip_bad: List messages that cannot be read in `Chats.problems` instead of raising.
        since: Leave out messages that were said before.
        name: What to call the source in errors and places.

    Raises:
        InputError: The source cannot be read; the message says where and why.
    """
    data = source if isinstance(source, bytes) else Path(str(source)).read_bytes()
    name = name or (Path(str(source)).name if not isinstance(source, bytes) else "the file")
    left_out: Counter[str] = Counter()
    conversations = []
    count = 0
    for found in turns._conversations(turns._values(turns._decode(data, name), name), name):
        pairs: list[tuple[str, Mapping[str, Any]]] = []
        for where, raw in found.messages:
            message = turns._message(where, raw, found, zone, left_out)
            if message:
                pairs.append((where, message))
        count += len(pairs)
        if pairs:
            conversations.append(
                Conversation(
                    [message for _, message in pairs],
                    [where for where, _ in pairs],
                    found.id,
                    None,
                    None,
                    "openai-chat",
                    pairs[0][0],
                )
            )
    file = FileRead(name, ("openai-chat",), len(conversations), count)
    return Chats(conversations, [file], dict(left_out))
