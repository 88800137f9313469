"""The exchange of an agent's run, recorded apart from the thread's messages.

Middleware and tools may trim, summarise and rewrite a thread's messages at any time. What the user
said is therefore noted when a run begins, and each answer when it is given.
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
"""Metadata of a model's response: whether the run's structured output came with it."""

KEPT = 100  # messages that wait for a memory that cannot be written, at most


class TapeMessage(TypedDict):
    """A message of the user or the assistant."""

    role: str
    content: str
    id: str | None


class Tape(TypedDict):
    """The part of a thread that is not written yet, as plain JSON values."""

    owner: str
    """The namespace of the memory that it is for, as JSON; empty if that is not known."""
    seen: str
    """Id of the newest message of the thread that was looked at."""
    said: list[TapeMessage]
    recalled: list[str]
    """Ids of the turns that the model was shown."""
    asked: str
    """Digest of the question that was written last (`_asked`)."""
    structured: bool
    """Whether structured output is part of the answer: a thread's state keeps that of earlier runs."""


def is_user(message: BaseMessage) -> bool:
    """Return whether a person wrote a message, and no program in a person's role."""
    return isinstance(message, HumanMessage) and "lc_source" not in message.additional_kwargs


def spoken(messages: Iterable[BaseMessage]) -> list[TapeMessage]:
    """Return what the user and the assistant said."""
    result: list[TapeMessage] = []
    for message in messages:
        if is_user(message) or isinstance(message, AIMessage):
            role = "assistant" if isinstance(message, AIMessage) else "user"
            result.append({"role": role, "content": str(message.text), "id": message.id})
    return result


def begun(tape: Tape | None, messages: Sequence[BaseMessage], owner: str) -> Tape:
    """Return the tape as a run begins: what waits from earlier runs, and what is new.

    In a new thread that is the last exchange of what was sent: a caller without threads sends the
    whole conversation each time. LangGraph keeps a thread under its id alone: where another user has
    used the same thread, nothing that was said before is on the tape.
    """
    said: list[TapeMessage] = []
    if tape is None:
        new = messages[_last_exchange(messages) :]
    else:
        new = _after(messages, _known(tape))
        said = tape["said"][-KEPT:] if tape["owner"] == owner != "" else []
    said = [*said, *spoken(new)]
    if not said and tape is not None and tape["owner"] == owner:  # nothing new was said
        last = [*spoken(messages[_last_exchange(messages) :])]
        edited = _asked(last) != tape["asked"]
        said = [message for message in last if message["role"] == "user" or not edited]
    return {
        "owner": owner,
        "seen": _newest(messages),
        "said": said,
        "recalled": tape["recalled"] if tape and tape["owner"] == owner else [],
        "asked": tape["asked"] if tape else "",
        "structured": False,
    }


def answered(tape: Tape, messages: Sequence[BaseMessage]) -> Tape:
    """Return the tape with the model's messages since."""
    known = _known(tape)
    new = [message for message in _after(messages, known) if isinstance(message, AIMessage)]
    new = [message for message in new if message.id not in known]
    recalled = [id for message in new for id in message.response_metadata.get(RECALLED, ())]
    return {
        **tape,
        "seen": _newest(messages),
        "said": [*tape["said"], *spoken(new)],
        "recalled": list(dict.fromkeys([*tape["recalled"], *recalled])),
        "structured": tape.get("structured", False)  # a checkpoint may be older than this
        or any(message.response_metadata.get(STRUCTURED) for message in new),
    }


def ended(tape: Tape, messages: Sequence[BaseMessage], structured: object) -> Tape:
    """Return the tape as a run ends, with answers that are no text of the model.

    Those are the results of tools that return directly, which a run ends with, and structured
    output, as JSON. What the host has changed under its id since, such as by redacting, counts as it
    is now.
    """
    tape = answered(tape, messages)
    now = {message.id: str(message.text) for message in messages if message.id}
    said: list[TapeMessage] = [
        {**m, "content": _current(m, now.get(m["id"] or ""))} for m in tape["said"]
    ]
    last = said[-1]["content"] if said else ""
    if tape["structured"]:
        text = _as_json(structured)
        if not _is_same_json(last, text):
            said.append({"role": "assistant", "content": text, "id": None})
    else:
        said += [
            {"role": "assistant", "content": str(message.text), "id": message.id}
            for message in _direct(messages)
        ]
    return {**tape, "said": said, "structured": False}


def written(tape: Tape) -> Tape:
    """Return the tape after its messages have been written to the log."""
    return {**tape, "said": [], "recalled": [], "asked": _asked(tape["said"])}


def split(said: Sequence[TapeMessage]) -> tuple[list[TapeMessage], list[TapeMessage]]:
    """Return the exchanges that are over, and the one that is not."""
    roles = [message["role"] for message in said]
    pairs = enumerate(zip(roles, roles[1:], strict=False), 1)
    start = max([n for n, pair in pairs if pair == ("assistant", "user")], default=0)
    return list(said[:start]), list(said[start:])


def _after(messages: Sequence[BaseMessage], known: set[str]) -> Sequence[BaseMessage]:
    """Return the messages after the newest known one; if there are none, the last exchange.

    A program that empties a thread may put a summary in, in the user's role: the last message of a
    user is what the user said.
    """
    for place in range(len(messages), 0, -1):
        if messages[place - 1].id in known:
            return messages[place:]
    if messages and is_user(messages[-1]):
        return messages[-1:]
    answers = [n for n, message in enumerate(messages) if isinstance(message, AIMessage)]
    return messages[answers[-1] :] if answers else messages


def _last_exchange(messages: Sequence[BaseMessage]) -> int:
    """Return the place of the message that the last exchange begins with."""
    start, open_ = len(messages), False
    for place in range(len(messages) - 1, -1, -1):
        message = messages[place]
        if is_user(message):
            start, open_ = place, True
        elif open_ and isinstance(message, AIMessage | ToolMessage):
            break
    return start


def _known(tape: Tape) -> set[str]:
    return {tape["seen"], *(message["id"] or "" for message in tape["said"])} - {""}


def _newest(messages: Sequence[BaseMessage]) -> str:
    return (messages[-1].id or "") if messages else ""


def _direct(messages: Sequence[BaseMessage]) -> list[ToolMessage]:
    """Return the results of tools that a run ended with: the user was given these."""
    results: list[ToolMessage] = []
    for message in reversed(messages):
        if not isinstance(message, ToolMessage):
            break
        results.insert(0, message)
    return results


def _current(message: TapeMessage, now: str | None) -> str:
    """Return the present text of a message, which the host may have rewritten.

    Where the user's words are part of a longer text of several lines, a program has put something
    around them, such as documents that it found: then the user's words count.
    """
    before = message["content"]
    if now is None or now == before or not now.strip():
        return before
    if message["role"] == "user" and before in now and "\n" in now.replace(before, "", 1):
        return before
    return now


def _asked(said: Sequence[TapeMessage]) -> str:
    texts = [message["content"] for message in said if message["role"] == "user"]
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
