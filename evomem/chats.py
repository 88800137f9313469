"""Chat files into turns: JSON and JSONL as chat programs and model APIs write them.

bytes ─► text ─► values (one a line, or one document) ─► conversations ─► messages ─► turns

Accepted are a list of messages, one conversation `{"messages": [...]}`, a list of conversations,
and the same with one message or one conversation on each line. A fault anywhere refuses the whole
file, naming the line or the message.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone, tzinfo
from typing import Any

from evomem.errors import InputError, TurnError
from evomem.pairing import as_turns
from evomem.records import Turn, as_utc

LEFT_OUT = ("system", "developer", "tool", "function")
"""Roles that are no conversation: instructions and machinery."""
TEXT_PARTS = ("text", "input_text", "output_text")
TIME_FIELDS = ("time", "timestamp", "created_at")
SESSION_FIELDS = ("session", "session_id", "conversation_id")
MILLISECONDS = 100_000_000_000  # an epoch beyond this would be after the year 5000 in seconds


@dataclass(frozen=True, slots=True)
class Chats:
    """What a chat file holds."""

    turns: list[Turn]
    """Ready for `Memory.add_many`, each with an id that is the same whenever the file is read."""
    conversations: int
    messages: int
    """Messages that became part of a turn."""
    left_out: Mapping[str, int]
    """What did not, by kind: `{"system": 3, "empty": 1, "image_url part": 2}`."""


@dataclass
class _Conversation:
    messages: list[tuple[str, Mapping[str, Any]]]  # (where it stands, as read)
    id: str | None = None
    time: object = None
    turns: list[Turn] = field(default_factory=list)


def read_chats(
    data: bytes,
    name: str = "the file",
    *,
    zone: tzinfo | None = None,
    source: str | None = None,
) -> Chats:
    r"""Read a chat file.

    Conversations that all have times are put in order of time, for some programs write the newest
    first; otherwise the order of the file is kept.

    Args:
        data: The file's content.
        name: What to call it in errors.
        zone: The time zone of times that name none; without it such times are refused.
        source: The source of all turns (`Turn.source`). A file's own fields are not looked at: what
            a source is trusted with is not for the source to say.

    Raises:
        InputError: The file is not a chat; the message says where and why.

    >>> chats = read_chats(b'[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]')
    >>> chats.turns[0].text
    'User: Hi\nAssistant: Hello'
    """
    conversations = list(_conversations(_values(_decode(data, name), name), name))
    left_out: Counter[str] = Counter()
    kept = 0
    for conversation in conversations:
        messages = [
            message
            for where, raw in conversation.messages
            if (message := _message(where, raw, conversation, zone, source, left_out))
        ]
        kept += len(messages)
        try:
            conversation.turns = as_turns(messages)
        except TurnError as error:  # two that are fine alone, but not as one exchange
            raise InputError(f"{name}: {error}") from error
    conversations = _by_time([each for each in conversations if each.turns])
    turns = _with_ids(conversations, name)
    if not turns:
        raise InputError(f"{name} holds no message of a user or an assistant that has text")
    return Chats(turns, len(conversations), kept, dict(left_out))


def _decode(data: bytes, name: str) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name} is not UTF-8 (byte 0x{data[error.start]:02x} at {error.start}); "
            "save it as UTF-8 and import it again"
        ) from error
    if not text.strip():
        raise InputError(f"{name} is empty")
    return text


def _values(text: str, name: str) -> Iterator[tuple[str, object]]:
    """Yield (where, value) for each line of JSONL, or each item of one JSON document."""
    lines = [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    if len(lines) > 1 and _is_json(lines[0][1]):
        for number, line in lines:
            yield f"{name}, line {number}", _parse(line, f"{name}, line {number}")
        return
    document = _parse(text, name)
    items = document if isinstance(document, list) else [document]
    for number, value in enumerate(items, 1):
        kind = "conversation" if isinstance(value, list) or _has(value, "messages") else "message"
        yield (f"{name}, {kind} {number}" if items is document else name), value


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _parse(text: str, where: str) -> object:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
            raise InputError(
                f"{where} ends in the middle of a value: it seems to be cut off; export it again"
            ) from error
        place = f"line {error.lineno}, column {error.colno}"
        raise InputError(f"{where} is not JSON: {error.msg} at {place}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not JSON that can be used: {error}") from error


def _no_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON value")


def _has(value: object, key: str) -> bool:
    return isinstance(value, Mapping) and key in value


def _conversations(values: Iterator[tuple[str, object]], name: str) -> Iterator[_Conversation]:
    """Group values into conversations: single messages belong to one, the file."""
    loose = _Conversation([])
    for where, value in values:
        if isinstance(value, Mapping) and "messages" in value:
            yield _conversation(where, value)
        elif isinstance(value, list):
            yield _conversation(where, {"messages": value})
        elif isinstance(value, Mapping) and "role" in value:
            loose.messages.append((where, value))
        else:
            raise InputError(
                f"{where} is neither a message with 'role' and 'content' nor a conversation with "
                f"'messages', but {_brief(value)}"
            )
    if loose.messages:
        yield loose


def _conversation(where: str, value: Mapping[str, Any]) -> _Conversation:
    messages = value["messages"]
    if not isinstance(messages, list):
        raise InputError(f"{where}: 'messages' must be a list, got {_brief(messages)}")
    placed = []
    for number, message in enumerate(messages, 1):
        place = f"{where}, message {number}"
        if not isinstance(message, Mapping):
            raise InputError(f"{place} must be an object, got {_brief(message)}")
        placed.append((place, message))
    return _Conversation(
        placed, _label(where, value, ("id", *SESSION_FIELDS)), _first(value, TIME_FIELDS)
    )


def _message(
    where: str,
    raw: Mapping[str, Any],
    conversation: _Conversation,
    zone: tzinfo | None,
    source: str | None,
    left_out: Counter[str],
) -> dict[str, Any] | None:
    """Return a message as `as_turns` takes it; count it and return None if it is left out."""
    role = raw.get("role")
    if role in LEFT_OUT:
        left_out[role] += 1
        return None
    if role not in ("user", "assistant"):
        raise InputError(
            f"{where} has the role {role!r}; expected 'user' or 'assistant' "
            f"({', '.join(LEFT_OUT)} are left out)"
        )
    text, foreign = _text(where, raw.get("content"))
    left_out.update(f"{kind} part" for kind in foreign)
    if not text.strip():
        left_out["empty"] += 1
        return None
    time = _first(raw, TIME_FIELDS)
    message = {
        "role": role,
        "content": text,
        "name": _label(where, raw, ("name",)),
        "id": _label(where, raw, ("id",)),
        "time": _time(where, conversation.time if time is None else time, zone),
        "session": _label(where, raw, SESSION_FIELDS),
        "metadata": raw.get("metadata") or {},
        "source": source,
    }
    try:
        as_turns([message])  # checked alone first: an exchange would not know which side is wrong
    except TurnError as error:
        raise InputError(f"{where}: {str(error).removeprefix('message 0: ')}") from error
    return message


def _text(where: str, content: object) -> tuple[str, list[str]]:
    """Return a message's text, and the kinds of its parts that are none."""
    if content is None:  # a tool call
        return "", []
    if isinstance(content, str):
        return content, []
    if not isinstance(content, list):
        raise InputError(f"{where}: content must be text or a list of parts, got {_brief(content)}")
    texts, foreign = [], []
    for part in content:
        text = part.get("text") if isinstance(part, Mapping) else part
        kind = part.get("type", "text") if isinstance(part, Mapping) else "text"
        if kind not in TEXT_PARTS:
            foreign.append(str(kind))
        elif isinstance(text, str):
            texts.append(text)
        else:
            raise InputError(f"{where}: a part of type {kind!r} has no text, but {_brief(text)}")
    return "\n".join(texts), foreign


def _time(where: str, value: object, zone: tzinfo | None) -> datetime | None:
    if value is None:
        return None
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            seconds = value / 1000 if abs(value) >= MILLISECONDS else value
            return datetime.fromtimestamp(seconds, timezone.utc)
        if isinstance(value, str) and zone is not None:
            time = datetime.fromisoformat(value[:-1] + "+00:00" if value.endswith("Z") else value)
            return as_utc(time if time.tzinfo else time.replace(tzinfo=zone))
        return as_utc(value)
    except TurnError as error:
        raise InputError(
            f"{where}: {error}; or name the zone of all such times, as in --timezone Europe/Berlin"
            if "no time zone" in str(error)
            else f"{where}: {error}"
        ) from error
    except (ValueError, OverflowError, OSError) as error:
        raise InputError(f"{where}: the time {_brief(value)} cannot be used: {error}") from error


def _by_time(conversations: list[_Conversation]) -> list[_Conversation]:
    starts = [conversation.turns[0].time for conversation in conversations]
    if any(start is None for start in starts):
        return conversations
    order = sorted(range(len(starts)), key=lambda place: (starts[place], place))
    return [conversations[place] for place in order]


def _with_ids(conversations: list[_Conversation], name: str) -> list[Turn]:
    """Return all turns, each with a session and an id that depend on the content alone."""
    turns: dict[str, Turn] = {}
    seen: Counter[str] = Counter()
    for conversation in conversations:
        # its start names a nameless one, so that a later export, where it goes on, names it alike
        key = conversation.id or f"chat-{_digest(conversation.turns[0])[:12]}"
        seen[key] += 1
        place = key if seen[key] == 1 else f"{key}-{seen[key]}"
        for number, turn in enumerate(conversation.turns):
            turn = replace(
                turn,
                session=turn.session or conversation.id or place,
                id=turn.id or _digest(turn, place, str(number)),
            )
            if turn.id in turns:
                raise InputError(
                    f"{name}: the id {turn.id!r} occurs twice, at {turns[turn.id].text[:40]!r} and "
                    f"{turn.text[:40]!r}; ids must be unique: correct them or leave them all out"
                )
            turns[str(turn.id)] = turn
    return list(turns.values())


def _digest(turn: Turn, *more: str) -> str:
    return hashlib.blake2b(json.dumps(more).encode() + turn.content, digest_size=16).hexdigest()


def _first(value: Mapping[str, Any], names: tuple[str, ...]) -> object:
    return next((value[name] for name in names if value.get(name) is not None), None)


def _label(where: str, value: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    found = _first(value, names)
    if isinstance(found, bool) or not isinstance(found, str | int | None):
        raise InputError(f"{where}: {names[0]} must be a string, got {_brief(found)}")
    return None if found is None or found == "" else str(found)


def _brief(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
