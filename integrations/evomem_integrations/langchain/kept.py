"""LangChain messages as JSON in a turn's metadata, which holds 64 KiB.

If the messages do not fit, a text that the turn already holds is replaced by its position in the
turn. If they still do not fit, long texts are cut and marked as cut.
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

MAX_BYTES = MAX_METADATA - 4_096  # the rest is for other metadata
MIN_CUT = 64  # characters: texts are not cut shorter than this
_SIDES = {"human": "user", "HumanMessageChunk": "user", "ai": "assistant", "AIMessageChunk": "assistant"}  # fmt: skip

MessageJson = dict[str, Any]


def packed(messages: Sequence[BaseMessage], turn: Turn) -> list[MessageJson]:
    """Return messages as JSON that fits into the metadata of their turn.

    Raises:
        TurnError: They do not fit even with all texts cut.
    """
    parts = [clean_json(message_to_dict(message)) for message in messages]
    if _fits(parts):
        return parts
    parts = [_without_text(part, turn) for part in parts]
    if _fits(parts):
        return parts
    counts.add("cleaned")
    logger.warning("Messages of %s characters are cut to fit into a turn", len(json.dumps(parts)))
    limit = MAX_BYTES // 2
    while limit >= MIN_CUT:
        shorter = [_cut(part, limit) for part in parts]
        if _fits(shorter):
            return shorter
        limit //= 2
    raise TurnError(f"{len(messages)} messages do not fit into one turn: add fewer in one call")


def unpacked(parts: Sequence[MessageJson], turn: Turn) -> list[BaseMessage]:
    """Return the messages that `packed` encoded."""
    return messages_from_dict([_with_text(part, turn) for part in parts])


def _without_text(message: MessageJson, turn: Turn) -> MessageJson:
    """Return a message with its text replaced by `place`, its position in the turn, if it is there."""
    side = _SIDES.get(message["type"])
    text = message["data"].get("content")
    if side is None or not isinstance(text, str):
        return message
    start = getattr(turn, side).find(text[: len(getattr(turn, side))])
    if start < 0 or not text:
        return message
    place = [side, start, start + len(text)]
    return {**message, "data": {**message["data"], "content": ""}, "place": place}


def _with_text(message: MessageJson, turn: Turn) -> MessageJson:
    if "place" not in message:
        return message
    side, start, end = message["place"]
    text = getattr(turn, side)[start:end]
    return {"type": message["type"], "data": {**message["data"], "content": text}}


def _cut(value: Any, limit: int) -> Any:
    """Return JSON with texts cut to about `limit` characters."""
    if isinstance(value, str):
        return value if len(value) <= limit else f"{value[:limit]} [cut: {len(value):,} characters]"
    if isinstance(value, Mapping):
        cut = {key: _cut(inner, limit) for key, inner in value.items()}
        if isinstance(value.get("content"), list):
            parts = zip(value["content"], cut["content"], strict=True)
            cut["content"] = [_replace_if_cut(part, shorter) for part, shorter in parts]
        return cut
    if isinstance(value, list):
        return [_cut(inner, limit) for inner in value]
    return value


def _replace_if_cut(part: Any, shorter: Any) -> Any:
    """Return a part of a message's content; a part other than text is left out if it was cut."""
    if part == shorter or not isinstance(part, Mapping) or part.get("type") == "text":
        return shorter
    return {"type": "text", "text": f"[{part.get('type')} left out: too long to keep]"}


def _fits(parts: Sequence[MessageJson]) -> bool:
    return len(json.dumps(parts)) <= MAX_BYTES
