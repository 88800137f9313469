"""Pairing chat messages into turns: an exchange is a question and everything that answers it.

- An exchange is a user's message, or several in a row, and everything that the assistant says
  before the user speaks again: preambles, what it says between tool calls, the answer.
- User messages without an answer are separate turns.
- A user with a `name` is a speaker among people. Such a message is a separate turn, and so is each
  following message until a nameless user speaks. An assistant with a name (an agent)
  answers a nameless user as any assistant does.
- An assistant's message without a user's message before it is a separate turn.
- Exchanges of different sessions may be interleaved: an answer belongs to the question of its
  session, or, without a session, to the newest question.
- A message whose `source` differs from the exchange's ends the exchange; an answer without a source
  inherits the question's.
- A side that grows beyond `MAX_CHARS` continues in a new turn.

`joined` defines how the texts of one side are joined.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evomem.errors import TurnError
from evomem.records import MAX_CHARS, Turn

Message = Mapping[str, Any]
ROLES = ("user", "assistant")
_FIELDS = ("role", "content", "name", "id", "time", "session", "metadata", "source", "recalled")

_CONTINUES = re.compile(r"[ \t,.;:!?)\]}'’”%]")
_SENTENCE_ENDS = re.compile(r"""[.!?:…。！？]["'”’)\]*_]*\s*$""")


@dataclass
class Exchange:
    """Messages that become one turn."""

    messages: list[tuple[int, Message]] = field(default_factory=list)
    """Pairs of a message's position in the input and the message."""
    size: Counter[str] = field(default_factory=Counter)
    """The number of characters of each side."""

    @property
    def answered(self) -> bool:
        """Whether the assistant has said something."""
        return "assistant" in self.size

    def add(self, position: int, message: Message) -> None:
        """Append a message."""
        self.messages.append((position, message))
        self.size[message["role"]] += len(message["content"]) + 1

    def said(self, role: str) -> str:
        """Return the text of one side."""
        own = [message for _, message in self.messages if message["role"] == role]
        return joined([m["content"] for m in own], [m.get("id") for m in own])

    @property
    def ids(self) -> list[str]:
        """The ids of the messages, in order."""
        return [str(m["id"]) for _, m in self.messages if m.get("id") is not None]

    def turn(self) -> Turn:
        """Return the exchange as a turn.

        Raises:
            TurnError: The turn is invalid; the error names the positions of its messages.
        """
        messages = [message for _, message in self.messages]
        asked = any(message["role"] == "user" for message in messages)

        def first(name: str) -> Any:
            return next((m[name] for m in messages if m.get(name) is not None), None)

        try:
            metadata: dict[str, Any] = {}
            for message in reversed(messages):
                metadata.update(message.get("metadata") or {})
            return Turn(
                **{role: self.said(role) for role in dict.fromkeys(m["role"] for m in messages)},
                speaker=messages[0].get("name") if asked else first("name"),
                id=first("id"),
                time=first("time"),
                session=first("session"),
                metadata=metadata,
                source=first("source"),
                recalled=[id for m in messages for id in m.get("recalled") or ()],
            )
        except (TurnError, TypeError, ValueError) as error:
            where = " and ".join(str(position) for position, _ in self.messages)
            raise TurnError(f"message {where}: {error}") from error


def as_turns(items: Iterable[Turn | Message]) -> list[Turn]:
    """Return `items` as turns; messages are paired into exchanges, turns are taken as they are.

    A message is `{"role": "user" | "assistant", "content": str}` and may have `name`, `id`, `time`,
    `session`, `metadata`, `source` and `recalled`. The rules are in this module's docstring. An
    exchange takes id, time and source from its first message that has them, merges the metadata of its
    messages, where earlier messages win, and has the recalled ids of all.

    Raises:
        TurnError: An item cannot become a turn; the error names its position.
    """
    turns: list[Turn] = []
    run: list[tuple[int, Message]] = []
    for position, item in enumerate(items):
        if isinstance(item, Turn):
            turns += [exchange.turn() for exchange in exchanges(run)]
            turns.append(item)
            run = []
        else:
            run.append((position, _checked(position, item)))
    return turns + [exchange.turn() for exchange in exchanges(run)]


def exchanges(messages: Iterable[tuple[int, Message]]) -> list[Exchange]:
    """Group messages with their positions; an exchange has the position of its first message."""
    groups: list[Exchange] = []
    waiting: dict[
        Hashable, Exchange
    ] = {}  # by session: the exchange that the next message may continue
    newest: Hashable = None
    for position, message in messages:
        session = message.get("session")
        if message["role"] == "assistant" and session is None:
            session = newest
        exchange = waiting.get(session)
        if exchange is None or not _belongs(message, exchange):
            exchange = Exchange()
            groups.append(exchange)
            waiting.pop(session, None)
            if message["role"] == "user" and not message.get("name"):
                waiting[session] = exchange
        exchange.add(position, message)
        newest = session
    return [part for exchange in groups for part in _split(exchange)]


def _belongs(message: Message, exchange: Exchange) -> bool:
    """Return whether a message continues an exchange that a nameless user began."""
    role, source = message["role"], exchange.messages[0][1].get("source")
    if role == "user" and (exchange.answered or message.get("name")):
        return False
    inherited = (None,) if role == "assistant" else ()  # an answer without a source
    if message.get("source") not in (source, *inherited):
        return False
    return exchange.size[role] + len(message["content"]) <= MAX_CHARS


def _split(exchange: Exchange) -> list[Exchange]:
    """Return the exchange, or each of its messages separately if there is no answer."""
    if exchange.answered:
        return [exchange]
    parts = []
    for position, message in exchange.messages:
        parts.append(Exchange())
        parts[-1].add(position, message)
    return parts


def joined(texts: Sequence[str], ids: Sequence[object] = ()) -> str:
    r"""Join the texts of one side of an exchange.

    Texts are separated by a line break, unless one continues the sentence before it, like the chunks of
    a stream. Repeated texts (retries) and blank texts are left out.

    Args:
        texts: The texts of the messages, in order.
        ids: The ids of the messages; messages with the same id are pieces of one message.

    >>> joined(["Let me look.", "It is on level 3.", "It is on level 3."])
    'Let me look.\nIt is on level 3.'
    >>> joined(["It is on", " level 3", "."])
    'It is on level 3.'
    """
    result, last = "", None
    seen: set[str] = set()
    for place, text in enumerate(texts):
        id = ids[place] if place < len(ids) else None
        if not text.strip() or text in seen:
            continue
        if result:
            same_message = id is not None and id == last
            result += "" if _continues(result, text, same_message) else "\n"
        seen.add(text)
        result, last = result + text, id
    return result


def _continues(before: str, text: str, same_message: bool) -> bool:
    if same_message:  # though some programs give every message the same id
        return not (_SENTENCE_ENDS.search(before[-8:]) and text[0].isupper())
    return bool(_CONTINUES.match(text))


def _checked(position: int, message: object) -> Message:
    if not isinstance(message, Mapping):
        raise TurnError(
            f"item {position} is a {type(message).__name__}; pass Turn objects or messages like "
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
            "pass the text as a string"
        )
    if not isinstance(message.get("recalled") or (), list | tuple):
        raise TurnError(
            f"message {position} has recalled of type {type(message['recalled']).__name__}; "
            "pass a list of turn ids"
        )
    unknown = [key for key, value in message.items() if key not in _FIELDS and value]
    if unknown:
        raise TurnError(
            f"message {position} has the unknown field {unknown[0]!r}; "
            f"known are {', '.join(_FIELDS)}: put anything else into metadata"
        )
    return message
