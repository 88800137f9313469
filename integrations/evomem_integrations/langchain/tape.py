"""A record of an agent's exchanges, separate from the thread's messages.

Middleware and tools may trim, summarise and rewrite a thread's messages at any time. The user's
messages are therefore recorded when a run starts, and each answer after its model call.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from pydantic import BaseModel
from typing_extensions import TypedDict

RECALLED = "evomem_recalled"
"""Metadata of a model's response: ids of the turns that it was shown."""

STRUCTURED = "evomem_structured"
"""Metadata of a model's response: whether it contains the run's structured output."""

MAX_UNWRITTEN = 100  # messages kept while the memory cannot be written


class TapeMessage(TypedDict):
    """A message of the user or the assistant."""

    role: str
    content: str
    id: str | None


class Tape(TypedDict):
    """The part of a thread that is not written yet, as plain JSON values."""

    owner: str
    """The namespace of the memory to write to, as JSON; empty if it is not known."""
    seen: str
    """Id of the newest message of the thread that was recorded."""
    said: list[TapeMessage]
    recalled: list[str]
    """Ids of the turns that the model was shown."""
    asked: str
    """Digest of the last question that was written (`_question_digest`)."""
    structured: bool
    """Whether the answer contains structured output; the thread's state may hold an earlier run's."""


def is_user(message: BaseMessage) -> bool:
    """Return whether a person wrote the message; programs may also add messages in the user's role."""
    return isinstance(message, HumanMessage) and "lc_source" not in message.additional_kwargs


def text_messages(messages: Iterable[BaseMessage]) -> list[TapeMessage]:
    """Return the messages of the user and the assistant."""
    result: list[TapeMessage] = []
    for message in messages:
        if is_user(message) or isinstance(message, AIMessage):
            role = "assistant" if isinstance(message, AIMessage) else "user"
            result.append({"role": role, "content": str(message.text), "id": message.id})
    return result


def at_run_start(tape: Tape | None, messages: Sequence[BaseMessage], owner: str) -> Tape:
    """Return the tape at the start of a run: unwritten messages of earlier runs, and new messages.

    In a new thread, only the last exchange is new, because a caller without threads sends the whole
    conversation each time. LangGraph identifies a thread by its id alone: if another user has used
    the same thread, the tape starts without that user's messages.
    """
    unwritten: list[TapeMessage] = []
    if tape is None:
        new = messages[_last_exchange(messages) :]
    else:
        new = _messages_after(messages, _known_ids(tape))
        unwritten = tape["said"][-MAX_UNWRITTEN:] if tape["owner"] == owner != "" else []
    unwritten = [*unwritten, *text_messages(new)]
    if not unwritten and tape is not None and tape["owner"] == owner:  # there is no new message
        last = [*text_messages(messages[_last_exchange(messages) :])]
        edited = _question_digest(last) != tape["asked"]
        unwritten = [message for message in last if message["role"] == "user" or not edited]
    return {
        "owner": owner,
        "seen": _newest_id(messages),
        "said": unwritten,
        "recalled": tape["recalled"] if tape and tape["owner"] == owner else [],
        "asked": tape["asked"] if tape else "",
        "structured": False,
    }


def after_model_call(tape: Tape, messages: Sequence[BaseMessage]) -> Tape:
    """Return the tape with the model's new messages."""
    known = _known_ids(tape)
    new = [
        message for message in _messages_after(messages, known) if isinstance(message, AIMessage)
    ]
    new = [message for message in new if message.id not in known]
    recalled = [id for message in new for id in message.response_metadata.get(RECALLED, ())]
    return {
        **tape,
        "seen": _newest_id(messages),
        "said": [*tape["said"], *text_messages(new)],
        "recalled": list(dict.fromkeys([*tape["recalled"], *recalled])),
        "structured": tape.get("structured", False)  # older checkpoints lack the key
        or any(message.response_metadata.get(STRUCTURED) for message in new),
    }


def at_run_end(tape: Tape, messages: Sequence[BaseMessage], structured: object) -> Tape:
    """Return the tape at the end of a run, with answers other than the model's text.

    These are the results of tools that return directly, and structured output, as JSON. If the host
    has changed a message under its id, such as by redacting it, the changed text is used.
    """
    tape = after_model_call(tape, messages)
    texts = {message.id: str(message.text) for message in messages if message.id}
    recorded: list[TapeMessage] = [
        {**m, "content": _current_text(m, texts.get(m["id"] or ""))} for m in tape["said"]
    ]
    last = recorded[-1]["content"] if recorded else ""
    if tape["structured"]:
        text = _as_json(structured)
        if not _is_same_json(last, text):
            recorded.append({"role": "assistant", "content": text, "id": None})
    else:
        recorded += [
            {"role": "assistant", "content": str(message.text), "id": message.id}
            for message in _trailing_tool_results(messages)
        ]
    return {**tape, "said": recorded, "structured": False}


def after_write(tape: Tape) -> Tape:
    """Return the tape after its messages were written to the log."""
    return {**tape, "said": [], "recalled": [], "asked": _question_digest(tape["said"])}


def split(messages: Sequence[TapeMessage]) -> tuple[list[TapeMessage], list[TapeMessage]]:
    """Return the messages of complete exchanges, and those of the open one."""
    roles = [message["role"] for message in messages]
    pairs = enumerate(zip(roles, roles[1:], strict=False), 1)
    start = max([n for n, pair in pairs if pair == ("assistant", "user")], default=0)
    return list(messages[:start]), list(messages[start:])


def _messages_after(messages: Sequence[BaseMessage], known: set[str]) -> Sequence[BaseMessage]:
    """Return the messages after the newest known one; if none is known, the last question or answer.

    A program that empties a thread may insert a summary in the user's role. Only the last message of
    a user is then taken for the question.
    """
    for place in range(len(messages), 0, -1):
        if messages[place - 1].id in known:
            return messages[place:]
    if messages and is_user(messages[-1]):
        return messages[-1:]
    answers = [n for n, message in enumerate(messages) if isinstance(message, AIMessage)]
    return messages[answers[-1] :] if answers else messages


def _last_exchange(messages: Sequence[BaseMessage]) -> int:
    """Return the index of the first message of the last exchange."""
    start, open_ = len(messages), False
    for place in range(len(messages) - 1, -1, -1):
        message = messages[place]
        if is_user(message):
            start, open_ = place, True
        elif open_ and isinstance(message, AIMessage | ToolMessage):
            break
    return start


def _known_ids(tape: Tape) -> set[str]:
    return {tape["seen"], *(message["id"] or "" for message in tape["said"])} - {""}


def _newest_id(messages: Sequence[BaseMessage]) -> str:
    return (messages[-1].id or "") if messages else ""


def _trailing_tool_results(messages: Sequence[BaseMessage]) -> list[ToolMessage]:
    """Return the tool results at the end of a run, which the user was shown."""
    results: list[ToolMessage] = []
    for message in reversed(messages):
        if not isinstance(message, ToolMessage):
            break
        results.insert(0, message)
    return results


def _current_text(message: TapeMessage, text: str | None) -> str:
    """Return the current text of a message, which the host may have rewritten.

    If the user's words are now part of a longer text of several lines, a program has added something
    around them, such as retrieved documents: the user's words are returned.
    """
    recorded = message["content"]
    if text is None or text == recorded or not text.strip():
        return recorded
    if message["role"] == "user" and recorded in text and "\n" in text.replace(recorded, "", 1):
        return recorded
    return text


def _question_digest(messages: Sequence[TapeMessage]) -> str:
    texts = [message["content"] for message in messages if message["role"] == "user"]
    return hashlib.blake2b(json.dumps(texts[-1:]).encode(), digest_size=16).hexdigest()


def _as_json(value: Any) -> str:
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _is_same_json(text: str, other: str) -> bool:
    try:
        return bool(json.loads(text) == json.loads(other))
    except ValueError:
        return text == other
