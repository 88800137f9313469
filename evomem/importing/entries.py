"""`Entry`: an exchange of a conversation that was read, planned or stored."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from evomem.chats import Conversation
from evomem.errors import InputError, TurnError
from evomem.importing.matching import ChatExchange, Label, completed, is_earlier
from evomem.pairing import Exchange, Message, exchanges, joined
from evomem.records import MAX_CHARS, MAX_LABEL, MAX_RECALLED, Record, Turn

LIVE = timedelta(minutes=10)  # a time this close to the time of storing may not be the source's


@dataclass(eq=False, slots=True)
class Entry(ChatExchange):
    """An exchange of a conversation: stored, planned, or just read."""

    seq: int = 0
    """The seq of the stored turn; 0 if it is not stored."""
    message_ids: tuple[str, ...] = ()
    """The ids of its messages, in order; the first unused one becomes the turn's id."""
    opening: tuple[Message, ...] = ()
    """The first messages of an exchange that was read."""
    replaces: tuple[int, ...] = ()
    """Seqs of the turns that it replaces."""
    revived: bool = False
    versions: frozenset[Label] = frozenset()
    """The texts of the turns that it replaced."""
    parts: tuple[Entry, ...] = ()
    """The unanswered messages, if the entry represents several."""

    def each(self) -> tuple[Entry, ...]:
        """Return the entries that this one represents."""
        return self.parts or (self,)


def by_session(
    conversation: Conversation,
) -> list[tuple[str | None, list[tuple[int, Message]]]]:
    """Return the messages of a conversation by their sessions, each with its position.

    A message without a session has the conversation's; an answer without one has the question's.
    """
    parts: dict[str | None, list[tuple[int, Message]]] = {}
    session = conversation.id
    for position, message in enumerate(conversation.messages):
        if message["role"] == "user" or message.get("session"):
            session = message.get("session") or conversation.id
        parts.setdefault(session, []).append((position, message))
    return list(parts.items())


def entries_of(
    conversation: Conversation, part: Sequence[tuple[int, Message]], session: str | None
) -> list[Entry]:
    """Return the exchanges of messages.

    Raises:
        InputError: An exchange is not a valid turn; the error names its place.
    """
    ignored = {"session": None, "source": None, "recalled": None}
    groups = exchanges((position, {**message, **ignored}) for position, message in part)
    uses = Counter(id for group in groups for id in set(group.ids))
    return [_read(conversation, group, session, uses) for group in groups]


def check(conversation: Conversation) -> None:
    """Raise `InputError` if an exchange of a conversation is not a valid turn."""
    for _, part in by_session(conversation):
        entries_of(conversation, part, None)


def _read(
    conversation: Conversation, group: Exchange, session: str | None, uses: Counter[str]
) -> Entry:
    ids = tuple(dict.fromkeys(id for id in group.ids if uses[id] == 1))  # others identify nothing
    try:
        turn = replace(group.turn(), id=None, session=session)
    except TurnError as error:
        places = [conversation.places[position] for position, _ in group.messages]
        where = places[0] if len(places) == 1 else f"{places[0]} to {places[-1]}"
        reason = str(error).partition(": ")[2]
        raise InputError(f"{where}: {reason}") from error
    opening = tuple(message for _, message in group.messages[:2])
    return Entry(turn, frozenset(ids), turn.time is not None, 0, ids, opening)


def stored(record: Record) -> Entry:
    """Return the entry of a stored turn."""
    session = record.turn.session or ""
    ids = frozenset((record.id, record.id.removeprefix(f"{session}/")))
    made_up = timedelta(0) <= record.added - record.time < LIVE
    return Entry(record.turn, ids, not made_up, record.seq)


def question(entry: ChatExchange) -> str:
    """Return the user's text, or the assistant's if there is none."""
    return entry.turn.user or entry.turn.assistant


def times_agree(old: ChatExchange, new: ChatExchange) -> bool:
    """Return whether two exchanges can be the same according to their times."""
    return not (old.timed and new.timed) or old.turn.time == new.turn.time


def grew(old: Turn, new: Turn) -> bool:
    """Return whether one of two turns is an earlier state of the other."""
    return is_earlier(old, new) or is_earlier(new, old)


def with_provenance(turn: Turn, old: Sequence[Turn]) -> Turn:
    """Return a turn with the recalled ids and the source of the turns that it replaces."""
    if not old:
        return turn
    turns = (turn, *old)
    sources = (version.source for version in turns if version.source is not None)
    ids = dict.fromkeys(id for version in turns for id in version.recalled)
    return replace(turn, source=next(sources, None), recalled=[*ids][-MAX_RECALLED:])


def with_head(told: Sequence[Entry], new: Sequence[Entry]) -> list[Entry]:
    """Return `new`, with its first exchange completed if it begins in the middle of one."""
    completion = completed(told, new)
    if completion is None:
        return list(new)
    parts, old_turn = completion
    ids = tuple(id for entry in new[:parts] for id in entry.message_ids)
    old = told[old_turn.place]
    turn = replace(
        new[0].turn,
        user="\n".join(old_turn.user),
        assistant="\n".join(old_turn.answer),
        time=old.turn.time if old.timed else new[0].turn.time,
    )
    timed = old.timed or new[0].timed
    first = replace(new[0], turn=turn, ids=old.ids.union(ids), message_ids=ids, timed=timed)
    return [first, *new[parts:]]


def gathered(entries: Sequence[Entry]) -> list[Entry]:
    """Return entries, with the unanswered user messages at the end gathered into one.

    Messages before the last that one turn cannot hold together with those after them stay apart: parts
    of a long message are turns of their own.
    """
    start, length = len(entries), 0
    while start and entries[start - 1].turn.user:
        turn = entries[start - 1].turn
        length += len(turn.user) + 1
        if turn.assistant or turn.speaker or (start < len(entries) and length > MAX_CHARS):
            break
        start -= 1
    parts = tuple(entries[start:])
    if len(parts) < 2:
        return list(entries)
    turn = replace(parts[0].turn, user=joined([part.turn.user for part in parts]))
    ids = frozenset(id for part in parts for id in part.ids)
    return [*entries[:start], Entry(turn, ids, parts[0].timed, parts=parts)]


def possible_ids(entry: Entry) -> Iterator[str]:
    """Yield possible ids for a turn, best first."""
    session = entry.turn.session
    yield from entry.message_ids
    yield from (
        id for id in (f"{session}/{id}" for id in entry.message_ids) if len(id) <= MAX_LABEL
    )
    yield digest(entry.turn.content, session, 0)


def digest(content: bytes, *more: Any) -> str:
    """Return 32 hexadecimal digits that identify a text and further JSON values."""
    data = json.dumps(more).encode() + content
    return hashlib.blake2b(data, digest_size=16).hexdigest()
