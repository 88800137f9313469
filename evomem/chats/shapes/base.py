"""The base class of shapes, and their shared code."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from evomem.chats.fields import (
    ID_FIELDS,
    SESSION_FIELDS,
    TIME_FIELDS,
    TITLE_FIELDS,
    brief,
    first,
    label,
)
from evomem.chats.parts import CALL, RESULT, pieces
from evomem.errors import InputError

Raw = Mapping[str, Any]
ROLES = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
}
LEFT_OUT_ROLES = {
    "system": "system",
    "developer": "developer",
    "tool": RESULT,
    "function": RESULT,
    "ipython": RESULT,
    "observation": RESULT,
    "tool-response": RESULT,
    "tool-call": CALL,
    "function_call": CALL,
}
"""Roles that are not part of a conversation, each with the name under which it is counted."""


@dataclass(slots=True)
class ParsedMessage:
    """One message as a shape yields it."""

    role: str
    """"user" or "assistant"."""
    text: str
    where: str
    id: str | None = None
    time: object = None
    session: str | None = None
    name: str | None = None
    metadata: object = None
    title: str | None = None
    """The title of the conversation, if the message contains it."""


@dataclass(slots=True)
class Talk:
    """One conversation as a shape yields it. A message shape reads its messages."""

    where: str
    messages: Iterable[tuple[str, object]]
    """Each message with its place."""
    id: str | None = None
    time: object = None
    title: str | None = None
    ordered: bool = False
    """Whether the messages are in order, even if their times disagree."""
    repeats: bool = False
    """Whether other talks with the same id continue this one and repeat some of its messages."""
    utc: bool = False
    """Whether times without a zone count as UTC: the format says so, or the stories are invented."""


@dataclass(slots=True)
class Context:
    """State shared by the shapes while one file is read."""

    left_out: Counter[str] = field(default_factory=Counter)
    session: str | None = None
    """The conversation that the following messages belong to, if a separate line names it."""
    held: ParsedMessage | None = None
    """A message that is only yielded if the next one confirms it."""
    machine: tuple[str, ...] = ()
    """Prefixes of texts that the program writes in the user's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A format in which a program stores conversations.

    Shapes of messages have `read_messages`, shapes of conversations and of whole exports have `talks`,
    databases have `tables` and `rows`.
    """

    name: str
    """The value of `format=`."""
    about: str
    """A description for people."""
    marks: Sequence[str]
    """Its characteristic keys; messages name the shape that shares most of them with an unknown value."""
    is_message: Callable[[Raw], bool] | None = None
    read_messages: Callable[[Raw, str, Context], Iterable[ParsedMessage]] | None = None
    is_record: Callable[[Raw], bool] | None = None
    talks: Callable[[Raw, str], Iterator[Talk]] | None = None
    tables: Sequence[frozenset[str]] = ()
    """Sets of columns of a SQLite table; a table with all columns of one set identifies the database."""
    rows: Callable[[sqlite3.Connection, str], Iterator[Talk]] | None = None
    beside: Sequence[str] = ()
    """Names of the shapes of other messages in the same conversations."""
    plain: bool = False
    """Whether files of other shapes contain such messages too."""


def chat_message(
    raw: Raw,
    where: str,
    context: Context,
    *,
    role: object = None,
    content: object = None,
    **more: Any,
) -> Iterator[ParsedMessage]:
    """Yield the text of a message with a role and a content.

    Args:
        raw: The message.
        where: Its place.
        context: Counts what is left out.
        role: Its role, if not in the field `role`.
        content: Its content, if not in the field `content`.
        more: Fields of `ParsedMessage` that this shape stores under other names.

    Raises:
        InputError: The role is unknown, or the content is no text.
    """
    role = raw.get("role") if role is None else role
    key = role.lower() if isinstance(role, str) else ""
    if key in LEFT_OUT_ROLES:
        context.left_out[LEFT_OUT_ROLES[key]] += 1
        return
    if key not in ROLES:
        raise InputError(
            f"{where} has the role {role!r}; expected 'user' or 'assistant' "
            f"({', '.join(LEFT_OUT_ROLES)} are left out)"
        )
    content = raw.get("content") if content is None else content
    before = context.left_out.total()
    texts = pieces(content, ROLES[key], where, context.left_out)
    if not any(text.strip() for text in texts) and isinstance(raw.get("refusal"), str):
        texts = [raw["refusal"]]
    if raw.get("tool_calls") or raw.get("function_call"):
        calls = raw.get("tool_calls")
        context.left_out[CALL] += len(calls) if isinstance(calls, list) else 1
    if not any(text.strip() for text in texts):
        if context.left_out.total() == before:
            context.left_out["empty"] += 1
        return
    given = fields(raw, where) | more
    for text in texts:
        if text.strip():
            yield ParsedMessage(ROLES[key], text, where, **given)
            given["id"] = None  # an id names one message


def fields(raw: Raw, where: str) -> dict[str, Any]:
    """Return the fields of `ParsedMessage` that most shapes store under the same names."""
    return {
        "id": label(where, raw, ID_FIELDS),
        "time": first(raw, TIME_FIELDS),
        "session": label(where, raw, SESSION_FIELDS),
        "name": label(where, raw, ("name",)),
        "metadata": raw.get("metadata"),
    }


def conversation(raw: Raw, where: str, key: str = "messages", **more: Any) -> Iterator[Talk]:
    """Yield the conversation of a record that has a list of messages.

    Raises:
        InputError: The messages are not a list.
    """
    yield Talk(where, placed(raw[key], where, key), **(header(raw, where) | more))


def header(raw: Raw, where: str) -> dict[str, Any]:
    """Return the id, time and title of a record's conversation."""
    title = first(raw, TITLE_FIELDS)
    return {
        "id": label(where, raw, ("id", *SESSION_FIELDS, "uuid", "_id")),
        "time": first(raw, TIME_FIELDS),
        "title": title if isinstance(title, str) and title.strip() else None,
    }


def placed(
    messages: object, where: str, key: str = "messages", word: str = "message"
) -> list[tuple[str, object]]:
    """Return the items of a list, each with its place.

    Raises:
        InputError: The value is not a list.
    """
    if not isinstance(messages, list | tuple):
        raise InputError(f"{where}: '{key}' must be a list, got {brief(messages)}")
    return [(f"{where}, {word} {number}", item) for number, item in enumerate(messages, 1)]


def has(raw: object, *keys: str) -> TypeGuard[Raw]:
    """Return whether a value is an object with all of these keys."""
    return isinstance(raw, Mapping) and all(key in raw for key in keys)


def first_item(value: object) -> Raw:
    """Return the first item of a list if it is an object, otherwise an empty object."""
    if isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
        return value[0]
    return {}
