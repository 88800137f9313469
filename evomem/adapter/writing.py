"""Writes each exchange once, replacing the earlier exchange of the same message."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import replace

from evomem.adapter.messages import note_cleaned
from evomem.errors import DuplicateTurn, NotFound
from evomem.memory import Memory
from evomem.pairing import Exchange
from evomem.records import MAX_RECALLED, Record, Turn

MESSAGE = "message"
"""Metadata key: the session and the id of a turn's first message (`mark`)."""
_KEPT = ("speaker", "id", "time", "session", "metadata", "source", "recalled")
_NAMES = uuid.UUID("5a1d9c5e-6a2b-4a1e-9a0f-5d7f6f0c2b11")  # namespace of ids derived from content


def as_turn(
    exchange: Exchange, session: str | None, recalled: Sequence[str], source: str | None
) -> Turn:
    """Return an exchange as a turn, with a reproducible id if its session and messages have ids."""
    turn = exchange.turn()
    ids = exchange.ids
    first_message = exchange.messages[0][1].get("id")
    names = [session, first_message, ids[-1] if ids else None, turn.user, turn.assistant]
    is_identified = session is not None and first_message is not None
    return replace(
        turn,
        id=str(uuid.uuid5(_NAMES, json.dumps(names))) if is_identified else uuid.uuid4().hex,
        session=session,
        metadata={
            **turn.metadata,
            **({MESSAGE: mark(session, first_message)} if is_identified else {}),
        },
        source=turn.source or source,
        recalled=list(dict.fromkeys([*turn.recalled, *recalled]))[-MAX_RECALLED:],
    )


def held_by(memory: Memory, session: str | None) -> dict[str, bytes]:
    """Return the content of each exchange of a session by its mark, in one read."""
    if session is None:
        return {}
    turns = [record.turn for record in memory.history(session=session)]
    return {turn.metadata[MESSAGE]: turn.content for turn in turns if MESSAGE in turn.metadata}


def write_exchange(memory: Memory, turn: Turn) -> None:
    """Write a turn of `as_turn` unless it is stored; it replaces the earlier exchange of its message."""
    first_message = turn.metadata.get(MESSAGE)
    if not first_message or turn.session is None:
        write_turn(memory, turn)
        return

    def changed(stored: Sequence[Record]) -> list[Turn]:
        return [] if stored and stored[-1].turn.content == turn.content else [turn]

    with contextlib.suppress(DuplicateTurn):  # it was written before, then deleted or replaced
        if memory.replace_sessions([turn.session], changed, where={MESSAGE: first_message}):
            note_cleaned(turn.metadata)


def write_turn(memory: Memory, turn: Turn, supersedes: str | None = None) -> None:
    """Write a turn with an id; it replaces the turn `supersedes` if that exists.

    A turn that was written before, then deleted, stays deleted. A turn whose text was changed for the
    log (`spoken`) is logged and counted.
    """
    with contextlib.suppress(DuplicateTurn):
        if supersedes is None or not _superseded(memory, turn, supersedes):
            memory.add_many([turn])
        note_cleaned(turn.metadata)


def _superseded(memory: Memory, turn: Turn, old: str) -> bool:
    try:
        memory.add(
            turn.user or turn.assistant,
            role="user" if turn.user else "assistant",
            reply=(turn.assistant or None) if turn.user else None,
            supersedes=old,
            **{name: getattr(turn, name) for name in _KEPT},
        )
    except NotFound:  # another writer has already replaced it
        return False
    return True


def mark(session: str | None, message: object) -> str:
    """Return the unique mark of a turn that begins with this message."""
    if session is None or "/" in session:  # no other mark begins with a slash
        return f"/{json.dumps([session, message])}"
    return f"{session}/{message}"
