"""Chat messages into turns: a user message and the answer to it are one exchange.

The reference pairs messages by position and, in its evaluations, first inserts an empty message
wherever a side is missing so that positions alternate (specification 5.2 and 13). Pairing by role,
as here, gives the same turns without the detour.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from evomem.errors import TurnError
from evomem.records import Turn

Message = Mapping[str, Any]
ROLES = ("user", "assistant")
_FIELDS = ("role", "content", "name", "id", "time", "session", "metadata", "source", "recalled")


def as_turns(items: Iterable[Turn | Message]) -> list[Turn]:
    """Return `items` as turns; consecutive messages are paired, turns are taken as they are.

    A message is `{"role": "user" | "assistant", "content": str}` and may have `name`, `id`, `time`,
    `session`, `metadata`, `source` and `recalled`. A user message and the assistant message right
    behind it become one exchange unless the answer names another `session` or `source`. Messages
    with a `name` (people talking to each other) are turns of their own. An exchange takes id and
    time of its first message that has them, and the recalled ids of both.

    Raises:
        TurnError: An item cannot be a turn; the message names its position.
    """
    turns: list[Turn] = []
    waiting: tuple[int, Message] | None = None  # a user message that may still be answered
    for position, item in enumerate(items):
        if isinstance(item, Turn):
            if waiting:
                turns.append(_turn(waiting))
                waiting = None
            turns.append(item)
            continue
        message = (position, _checked(position, item))
        if waiting and _answers(item, waiting[1]):
            turns.append(_turn(waiting, message))
            waiting = None
            continue
        if waiting:
            turns.append(_turn(waiting))
            waiting = None
        if item["role"] == "user" and not item.get("name"):
            waiting = message
        else:
            turns.append(_turn(message))
    if waiting:
        turns.append(_turn(waiting))
    return turns


def _answers(message: Message, question: Message) -> bool:
    return (
        message["role"] == "assistant"
        and not message.get("name")
        and message.get("session") in (None, question.get("session"))
        and message.get("source") in (None, question.get("source"))
    )


def _checked(position: int, message: object) -> Message:
    if not isinstance(message, Mapping):
        raise TurnError(
            f"item {position} is a {type(message).__name__}; give Turn objects or messages like "
            '{"role": "user", "content": "..."}'
        )
    if message.get("role") not in ROLES:
        raise TurnError(
            f"message {position} has the role {message.get('role')!r}; only 'user' and 'assistant' "
            "are conversation: leave system and tool messages out"
        )
    if not isinstance(message.get("content"), str):
        raise TurnError(
            f"message {position} has content of type {type(message.get('content')).__name__}; "
            "give the text as a string"
        )
    if not isinstance(message.get("recalled") or (), list | tuple):
        raise TurnError(
            f"message {position} has recalled of type {type(message['recalled']).__name__}; "
            "give a list of turn ids"
        )
    unknown = [key for key, value in message.items() if key not in _FIELDS and value]
    if unknown:
        raise TurnError(
            f"message {position} has the unknown field {unknown[0]!r}; "
            f"known are {', '.join(_FIELDS)}: put anything else into metadata"
        )
    return message


def _turn(*parts: tuple[int, Message]) -> Turn:
    messages = [message for _, message in parts]

    def first(name: str) -> Any:
        return next((m[name] for m in messages if m.get(name) is not None), None)

    try:
        metadata: dict[str, Any] = {}
        for message in reversed(messages):
            metadata.update(message.get("metadata") or {})
        return Turn(
            **{message["role"]: message["content"] for message in messages},
            speaker=first("name"),
            id=first("id"),
            time=first("time"),
            session=first("session"),
            metadata=metadata,
            source=first("source"),
            recalled=[id for message in messages for id in message.get("recalled") or ()],
        )
    except (TurnError, TypeError, ValueError) as error:
        where = " and ".join(str(position) for position, _ in parts)
        raise TurnError(f"message {where}: {error}") from error
