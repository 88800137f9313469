"""`ImportPlan`: the new turns of conversations that a memory lacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from evomem.chats import Conversation
from evomem.importing.entries import (
    Entry,
    by_session,
    entries_of,
    gathered,
    question,
    times_agree,
    with_head,
    with_provenance,
)
from evomem.importing.matching import is_earlier, match
from evomem.importing.nameless import Nameless
from evomem.importing.places import find_moved, matched_beside, replaced_with
from evomem.importing.result import Tally
from evomem.importing.threads import Thread, Threads
from evomem.store import Store, View
from evomem.tombstones import sought_by


class ImportPlan:
    """The turns to write at one point of a memory's log."""

    def __init__(
        self,
        store: Store,
        view: View,
        tally: Tally,
        nameless: Nameless,
        *,
        include_forgotten: bool,
        turn_source: str | None,
    ) -> None:
        self._store, self._view = store, view
        self._tally, self._nameless = tally, nameless
        self._include_forgotten = include_forgotten
        self._turn_source = turn_source
        self._threads = Threads(store, view)
        self._entries: dict[Entry, None] = {}

    @property
    def entries(self) -> list[Entry]:
        """The exchanges to write, in order."""
        return list(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, conversation: Conversation) -> None:
        """Plan the new exchanges of a conversation. Call this inside a snapshot."""
        for name, part in by_session(conversation):
            new = entries_of(conversation, part, name)
            if name:
                thread = self._threads.of_session(name)
            else:
                thread = self._nameless.recognised(new, self._threads, self._entries)
            for entry in new:
                entry.turn = replace(entry.turn, session=thread.session, source=self._turn_source)
            self._merge(thread, new)

    def _merge(self, thread: Thread, new: Sequence[Entry]) -> None:
        """Plan the part of a conversation that the memory lacks."""
        purged = self._purged(new)
        unmatched: list[Entry] = []
        questions = {question(old) for old in thread.told}
        for entry in new:
            if entry in purged and question(entry) not in questions:
                self._leave_out(thread, entry)
            elif question(entry) in questions or not self._was_deleted(thread, entry, new):
                unmatched.append(entry)
        self._match(thread, gathered(with_head(thread.told, unmatched)), purged)

    def _match(self, thread: Thread, new: Sequence[Entry], purged: set[Entry]) -> None:
        told = gathered(thread.told)
        places = match(told, new)
        free = set(range(len(told))) - set(places)
        find_moved(told, new, places, free)
        neighbours = matched_beside(places)
        for j, entry in enumerate(new):
            place = places[j]
            old = [] if place is None else [told[place]]
            if old and _is_known(old[0], entry):
                self._recognise(thread, old[0], entry)
            elif not old and (entry in purged or thread.was_deleted(entry)):
                self._leave_out(thread, entry)
            else:
                for i in replaced_with(told, new, places, j, neighbours[j], free):
                    free.discard(i)
                    old.append(told[i])
                self._plan(thread, entry, [part for entries in old for part in entries.each()])

    def _purged(self, new: Sequence[Entry]) -> set[Entry]:
        """Return the exchanges whose turns were purged."""
        if not self._view.memory:
            return set()
        facts = [sought_by(entry.turn, entry.message_ids) for entry in new]
        forgotten = self._store.forgotten(self._view, facts)
        purged = {entry for entry, is_gone in zip(new, forgotten, strict=True) if is_gone}
        if self._include_forgotten:
            for entry in purged:
                entry.revived = True
            return set()
        return purged

    def _leave_out(self, thread: Thread, entry: Entry) -> None:
        deleted = thread.was_deleted(entry)
        if deleted is not None:
            self._tally.deleted.add(deleted.seq)
        else:
            self._tally.forgotten.add((thread.session, question(entry)))

    def _was_deleted(self, thread: Thread, entry: Entry, new: Sequence[Entry]) -> bool:
        """Return whether an exchange is a deleted turn, or completes one; count it."""
        deleted = thread.was_deleted(entry)
        for old in thread.deleted.get(question(entry), ()) if deleted is None else ():
            has_grown = is_earlier(old.turn, entry.turn) and times_agree(old, entry)
            if has_grown and old.label not in {other.label for other in new}:
                deleted = old
                break
        if deleted is not None:
            self._tally.deleted.add(deleted.seq)
        return deleted is not None

    def _recognise(self, thread: Thread, old: Entry, new: Entry) -> None:
        """Count the turns that the memory has; plan the user's messages after them."""
        labels = [part.label for part in old.each()]
        seqs = {part.seq for part in old.each()}
        self._tally.known |= seqs - self._tally.own - {0}
        for part in new.parts:
            if part.label not in labels:
                self._plan(thread, part, [])

    def _plan(self, thread: Thread, entry: Entry, old: Sequence[Entry]) -> None:
        """Plan an exchange that replaces `old`."""
        for version in old:
            thread.told.remove(version)
            self._entries.pop(version, None)
        for part in entry.each():
            thread.told.append(part)
            self._entries[part] = None
            self._nameless.note(part.turn)
        last = entry.each()[-1]
        last.turn = with_provenance(last.turn, [version.turn for version in old])
        for version in old:
            last.replaces += (version.seq,) if version.seq else version.replaces
            last.versions |= version.versions | {version.label}


def _is_known(old: Entry, new: Entry) -> bool:
    """Return whether the memory already has everything in an exchange."""
    return (
        old.label == new.label
        or is_earlier(new.turn, old.turn)
        or bool((old.parts or new.parts) and not new.turn.assistant)
        or new.label in old.versions
    )
