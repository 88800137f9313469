"""ShareGPT: conversations whose messages have the keys `from` and `value`."""

from __future__ import annotations

from collections.abc import Iterator

from evomem.chats.shapes.base import (
    Context,
    ParsedMessage,
    Raw,
    Shape,
    Talk,
    chat_message,
    conversation,
    first_item,
    has,
)

_ROLES = {"gpt": "assistant", "chatgpt": "assistant", "bing": "assistant", "bard": "assistant"}
_KEYS = ("conversations", "conversation", "items", "messages")


def _is_message(raw: Raw) -> bool:
    return has(raw, "from", "value")


def _read_messages(raw: Raw, where: str, context: Context) -> Iterator[ParsedMessage]:
    sender = raw["from"]
    role = _ROLES.get(sender.lower(), sender) if isinstance(sender, str) else sender
    return chat_message(raw, where, context, role=role, content=raw["value"])


def _key(raw: Raw) -> str | None:
    return next((key for key in _KEYS if has(first_item(raw.get(key)), "from", "value")), None)


def _is_record(raw: Raw) -> bool:
    return _key(raw) is not None


def _talks(raw: Raw, where: str) -> Iterator[Talk]:
    yield from conversation(raw, where, _key(raw) or "conversations")


SHAPE = Shape(
    name="sharegpt",
    about="ShareGPT conversations (from: human or gpt, value: text)",
    marks=("conversations", "from", "value"),
    is_message=_is_message,
    read_messages=_read_messages,
    is_record=_is_record,
    talks=_talks,
)
