"""OpenAI's chat API and formats like it: messages with a role and a content."""

from __future__ import annotations

from collections.abc import Iterator

from evomem.chats.fields import brief
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
    header,
    placed,
)
from evomem.errors import InputError

LISTS = ("messages", "message_list", "chat_history", "history", "turns", "dialogue", "dialog")
"""Keys under which programs keep the messages of one conversation."""


def _is_message(raw: Raw) -> bool:
    return "role" in raw


def _read_messages(raw: Raw, where: str, context: Context) -> Iterator[ParsedMessage]:
    content = raw.get("content")
    if not content and raw.get("parts"):
        content = raw["parts"]
    elif content is None and isinstance(raw.get("text"), str):
        content = raw["text"]
    elif content is None and has(raw.get("audio"), "transcript"):
        content = raw["audio"]["transcript"]
    return chat_message(raw, where, context, content=content)


def _is_record(raw: Raw) -> bool:
    if "role" in raw:
        return False
    if "messages" in raw or has(raw, "choices", "object"):
        return True
    return any("role" in first_item(raw.get(key)) for key in LISTS)


def _talks(raw: Raw, where: str) -> Iterator[Talk]:
    key = next((key for key in LISTS if key in raw), None)
    if key is None:  # a completion, as the API returns it
        choices = placed(raw["choices"], where, "choices", "choice")
        messages = [
            (place, choice["message"]) for place, choice in choices if has(choice, "message")
        ]
        yield Talk(where, messages[:1], **(header(raw, where) | {"id": None}))
        return
    if not isinstance(raw[key], list | tuple):
        raise InputError(f"{where}: '{key}' must be a list, got {brief(raw[key])}")
    yield from conversation(raw, where, key)


SHAPE = Shape(
    name="openai-chat",
    about="messages with role and content, as OpenAI's chat API and most others take them",
    marks=("role", "content", "messages"),
    is_message=_is_message,
    read_messages=_read_messages,
    is_record=_is_record,
    talks=_talks,
    plain=True,
)
