"""`Threads`: a memory's turns of conversations, read from its log on demand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from evomem.importing.entries import Entry, question, stored, times_agree
from evomem.importing.matching import ChatExchange, Label
from evomem.records import Record
from evomem.store import Store, View

PAGE = 1_000  # records per read of the log


@dataclass(slots=True)
class Thread:
    """The stored and the planned exchanges of a conversation."""

    session: str
    told: list[Entry] = field(default_factory=list)
    deleted: dict[str, list[Entry]] = field(default_factory=dict)
    """Deleted exchanges, by question."""

    def was_deleted(self, new: ChatExchange) -> Entry | None:
        """Return the deleted turn that is the same as an exchange, None if there is none."""
        candidates = self.deleted.get(question(new), ())
        return next(
            (old for old in candidates if old.label == new.label and times_agree(old, new)), None
        )


class Threads:
    """The conversations of a memory at one point of its log, by their sessions."""

    def __init__(self, store: Store, view: View) -> None:
        self._store = store
        self._view = view
        self._threads: dict[str, Thread] = {}

    def of_session(self, session: str) -> Thread:
        """Return the stored and the planned exchanges of a session."""
        if session not in self._threads:
            thread = self._threads[session] = Thread(session)
            earlier: dict[int, frozenset[Label]] = {}  # by the seq of the replacement
            for record, since in self.records([session]):
                entry = stored(record)
                entry.versions = earlier.pop(record.seq, frozenset())
                if since:
                    labels = earlier.get(since, frozenset()) | entry.versions
                    earlier[since] = labels | {entry.label}
                elif since is None:
                    thread.told.append(entry)
                else:
                    thread.deleted.setdefault(question(entry), []).append(entry)
        return self._threads[session]

    def records(self, sessions: Sequence[str] | None = None) -> Iterator[tuple[Record, int | None]]:
        """Yield the results of `Store.told` for sessions, or for all turns."""
        after = 0
        while self._view.spans:
            page = self._store.told(self._view, sessions=sessions, after=after, limit=PAGE)
            yield from page
            if len(page) < PAGE:
                return
            after = page[-1][0].seq

    def with_ids(self, ids: Sequence[str]) -> list[Record]:
        """Return the records with one of these ids, of which only the first `PAGE` are used."""
        if not ids or not self._view.memory:
            return []
        return list(self._store.find(self._view, ids[:PAGE]).values())
