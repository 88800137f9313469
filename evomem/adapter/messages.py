"""Converts a host's messages for `evomem.pairing`: those with text, cleaned for the log."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from evomem.adapter.counting import counts
from evomem.adapter.texts import clean
from evomem.chats.parts import TEXT
from evomem.pairing import ROLES, Message
from evomem.quoting import HEADER, without_quotes
from evomem.records import MAX_LABEL

logger = logging.getLogger(__name__)

CLEANED = "cleaned_{}"
"""Metadata key, with a role: how a text was changed for the log (`clean`)."""


def spoken(messages: Iterable[Message], header: str = HEADER) -> list[Message]:
    """Return the messages of user and assistant that have text, cleaned, for `evomem.pairing`.

    The metadata of a message whose text was changed describes the changes: `cleaned_user` or
    `cleaned_assistant`. Blocks that `Adapter.recall` returned are left out.
    """
    result: list[Message] = []
    for message in messages:
        role = message.get("role")
        if role not in ROLES:
            continue
        text, changes = clean(without_quotes(text_of(message.get("content")), header))
        if text.strip():
            id = message.get("id")
            notes = {CLEANED.format(role): list(changes)} if changes else {}
            metadata = {**(message.get("metadata") or {}), **notes}
            cleaned = {**message, "content": text, "metadata": metadata}
            result.append(cleaned if id is None else {**cleaned, "id": label(id)})
    return result


def label(name: object) -> str | None:
    """Return a host's name of a session or message in a form for the log; None for an empty name."""
    text, changes = clean(str(name), MAX_LABEL)
    if not text.strip():
        return None
    if not changes:
        return text
    digest = hashlib.blake2b(json.dumps(str(name)).encode(), digest_size=16).hexdigest()
    return f"{text[: MAX_LABEL // 2]} {digest}"


def text_of(content: object) -> str:
    """Return the text of a message's content: a string, or the text parts of a list."""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        return ""
    parts = [part for part in content if isinstance(part, Mapping) and part.get("type") in TEXT]
    return "\n".join(str(part.get("text") or "") for part in parts)


def note_cleaned(metadata: Mapping[str, Any]) -> None:
    """Log and count the changed texts that a written turn's metadata records."""
    for role in ROLES:
        if changes := metadata.get(CLEANED.format(role)):
            counts.add("cleaned")
            logger.warning("A turn was changed for the log (%s): %s", role, ", ".join(changes))
