"""LangChain messages as JSON in a turn's metadata, which holds 64 KiB.

A text that is one side of the turn is not stored twice where room is short: the JSON says where in
the turn it stands. What still does not fit is cut, and says so.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage, message_to_dict, messages_from_dict

from evomem.adapter import clean_json, counts
from evomem.errors import TurnError
from evomem.records import MAX_METADATA, Turn

logger = logging.getLogger(__name__)

ROOM = MAX_METADATA - 4_096  # the rest is for what else is in the metadata
SHORTEST = 64  # characters that a text is cut to, at least
_SIDES = {"human": "user", "HumanMessageChunk": "user", "ai": "assistant", "AIMessageChunk": "assistant"}  # fmt: skip

Kept = dict[str, Any]


def packed(messages: Sequence[BaseMessage], turn: Turn) -> list[Kept]:
    """Return messages as JSON that fits into the metadata of their turn.

    Raises:
        TurnError: They are too many to fit, however short.
    """
    parts = [clean_json(message_to_dict(message)) for message in messages]
    if _fits(parts):
        return parts
    parts = [_referring(part, turn) for part in parts]
    if _fits(parts):
        return parts
    counts.add("cleaned")
    logger.warning("Messages of %s characters are cut to fit into a turn", len(json.dumps(parts)))
    limit = ROOM // 2
    while limit >= SHORTEST:
        shorter = [_cut(part, limit) for part in parts]
        if _fits(shorter):
            return shorter
        limit //= 2
    raise TurnError(f"{len(messages)} messages do not fit into one turn: add fewer in one call")


def unpacked(parts: Sequence[Kept], turn: Turn) -> list[BaseMessage]:
    """Return the messages that `packed` made into JSON."""
    return messages_from_dict([_resolved(part, turn) for part in parts])


def _referring(message: Kept, turn: Turn) -> Kept:
    """Return a message without its text if the turn holds it; `place` says where."""
    side = _SIDES.get(message["type"])
    text = message["data"].get("content")
    if side is None or not isinstance(text, str):
        return message
    start = getattr(turn, side).find(text[: len(getattr(turn, side))])
    if start < 0 or not text:
        return message
    place = [side, start, start + len(text)]
    return {**message, "data": {**message["data"], "content": ""}, "place": place}


def _resolved(message: Kept, turn: Turn) -> Kept:
    if "place" not in message:
        return message
    side, start, end = message["place"]
    text = getattr(turn, side)[start:end]
    return {"type": message["type"], "data": {**message["data"], "content": text}}


def _cut(value: Any, limit: int) -> Any:
    """Return JSON with no text longer than about `limit`."""
    if isinstance(value, str):
        return value if len(value) <= limit else f"{value[:limit]} [cut: {len(value):,} characters]"
    if isinstance(value, Mapping):
        cut = {key: _cut(inner, limit) for key, inner in value.items()}
        if isinstance(value.get("content"), list):
            parts = zip(value["content"], cut["content"], strict=True)
            cut["content"] = [_whole(part, shorter) for part, shorter in parts]
        return cut
    if isinstance(value, list):
        return [_cut(inner, limit) for inner in value]
    return value


def _whole(part: Any, shorter: Any) -> Any:
    """Return a part of a message's content; a picture cannot be cut."""
    if part == shorter or not isinstance(part, Mapping) or part.get("type") == "text":
        return shorter
    return {"type": "text", "text": f"[{part.get('type')} left out: too long to keep]"}


def _fits(parts: Sequence[Kept]) -> bool:
    return len(json.dumps(parts)) <= ROOM
