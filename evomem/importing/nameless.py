"""Finds the session of the memory that a nameless conversation continues."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from evomem.importing.entries import Entry, digest, gathered, grew, with_head
from evomem.importing.matching import match
from evomem.importing.threads import Thread, Threads
from evomem.records import Turn
from evomem.tombstones import MADE_UP

CANDIDATES = 8  # conversations to compare a nameless one with
COMMON = 32  # conversations; a text in more of them, such as a greeting, identifies none


class Nameless:
    """Recognises nameless conversations by their message ids and their texts."""

    def __init__(self, *, only_one: bool) -> None:
        """Start an import; with `only_one`, of a single conversation."""
        self._only_one = only_one
        self._sessions: dict[int, tuple[str, ...]] | None = None  # by key of a text (`_keys`)
        self._numbers: Counter[str] = Counter()  # by name: the highest number (`_numbered`)

    def reset(self) -> None:
        """Clear the cache, after the log has changed."""
        self._sessions = None
        self._numbers.clear()

    def note(self, turn: Turn) -> None:
        """Record a turn of a nameless conversation."""
        session = turn.session or ""
        if self._sessions is not None and session.startswith(MADE_UP):
            for key in _keys(turn):
                sessions = self._sessions.get(key, ())
                if session not in sessions and len(sessions) <= COMMON:
                    self._sessions[key] = (*sessions, session)
            name, number = _numbered(session)
            self._numbers[name] = max(self._numbers[name], number)

    def recognised(
        self, new: Sequence[Entry], threads: Threads, planned: Iterable[Entry]
    ) -> Thread:
        """Return the thread of a conversation; a new one if the memory has nothing of it.

        Args:
            new: The exchanges of the conversation.
            threads: The conversations in the memory.
            planned: Exchanges that are about to be written.
        """
        names = _made_up_names(new[0])
        for session in self._candidates(new, names, threads, planned):
            thread = threads.of_session(session)
            if self._is_same(thread, new):
                return thread
        number = self._numbers[names[0]] + 1
        return threads.of_session(names[0] if number == 1 else f"{names[0]}-{number}")

    def _candidates(
        self,
        new: Sequence[Entry],
        names: Sequence[str],
        threads: Threads,
        planned: Iterable[Entry],
    ) -> Iterator[str]:
        """Yield sessions that may be the conversation, most likely first."""
        yield from names
        seen = set(names)
        records = threads.with_ids([id for entry in new for id in entry.message_ids])
        sessions = Counter(record.turn.session for record in records if record.turn.session)
        for session, _ in sessions.most_common(CANDIDATES):
            if session not in seen:
                seen.add(session)
                yield session
        shared: Counter[str] = Counter()
        by_key = self._sessions_by_key(threads, planned)
        for key in (key for entry in new for key in _keys(entry.turn)):
            sessions_with_text = by_key.get(key, ())
            if len(sessions_with_text) <= COMMON:
                shared.update(sessions_with_text)
        for session, _ in shared.most_common(CANDIDATES):
            if session not in seen:
                yield session

    def _sessions_by_key(
        self, threads: Threads, planned: Iterable[Entry]
    ) -> dict[int, tuple[str, ...]]:
        """Return the nameless conversations of each text, by its key."""
        if self._sessions is None:
            self._sessions = {}
            for record, _ in threads.records():
                self.note(record.turn)
            for entry in planned:
                self.note(entry.turn)
        return self._sessions

    def _is_same(self, thread: Thread, new: Sequence[Entry]) -> bool:
        """Return whether a nameless conversation continues with, or is a part of, a thread.

        From its first exchange on, the conversation has to agree with the thread until one of them
        ends; only the last exchange may have a different answer. If the import has only this
        conversation, agreement of more than half suffices.
        """
        if not thread.told:
            return any(thread.was_deleted(entry) for entry in new)
        told, entries = gathered(thread.told), gathered(with_head(thread.told, new))
        places = match(told, entries)
        pairs = [
            (told[i], entry) for i, entry in zip(places, entries, strict=True) if i is not None
        ]
        same_questions = sum(old.turn.user == entry.turn.user for old, entry in pairs)
        if places[0] is None:
            return False
        length = min(len(told) - places[0], len(entries))
        if self._only_one and 2 * same_questions > length:
            return True
        is_consecutive = places[:length] == list(range(places[0], places[0] + length))
        return is_consecutive and all(
            old.label == entry.label
            or (n == length - 1 and (not old.turn.assistant or grew(old.turn, entry.turn)))
            for n, (old, entry) in enumerate(pairs[:length])
        )


def _keys(turn: Turn) -> set[int]:
    """Return the keys of a turn: its texts, and their first and last lines, for partial exports."""
    sides = [side for side in (turn.user, turn.assistant) if side]
    return {
        hash(text)
        for side in sides
        for text in (side, side.partition("\n")[0], side.rpartition("\n")[2])
    }


def _numbered(session: str) -> tuple[str, int]:
    """Return the name of a nameless conversation, and its number among those with this name."""
    name, _, number = session.removeprefix(MADE_UP).partition("-")
    return MADE_UP + name, int(number) if number.isdecimal() else 1


def _made_up_names(first: Entry) -> list[str]:
    """Return the possible names of a nameless conversation that begins with this exchange.

    The first name depends only on the first message; the others are the names that earlier versions
    derived from the first message and its answer, if any.
    """
    message = first.opening[0]
    names = [digest(json.dumps([message["role"], message["content"]]).encode())[:12]]
    for messages in (first.opening, first.opening[:1]):
        sides = {message["role"]: message["content"] for message in messages}
        turn = Turn(**sides, speaker=first.opening[0].get("name"))
        names.append(hashlib.blake2b(b"[]" + turn.content, digest_size=16).hexdigest()[:12])
    return [MADE_UP + name for name in dict.fromkeys(names)]
