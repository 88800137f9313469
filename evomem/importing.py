"""Importing: what is new in conversations goes behind what a memory holds of them.

conversation ─► exchanges ─► match with what is told ─► plan ─► one transaction a batch

A conversation is known by its name, which is the session of its turns; one without a name by its
message ids or its texts. What the memory holds of it is matched with it (`evomem.matching`):

- exchanges that the memory does not hold are added at the end of the log;
- an exchange that was completed, made anew or edited takes the place of the old one, which stays
  visible `at` earlier points;
- turns that were deleted stay deleted, and turns that were purged stay away unless asked for.

Another writer may be quicker at any time: then the conversations at hand are matched once more.
"""

from __future__ import annotations

import hashlib
import json
import random
import time as clock
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from itertools import count
from typing import TYPE_CHECKING, Any

from evomem.chats import Conversation
from evomem.errors import HeadMoved, InputError, TurnError
from evomem.matching import Label, Told, completed, is_earlier, is_part, match
from evomem.pairing import Exchange, Message, exchanges, joined
from evomem.reading import Pace
from evomem.records import MAX_CHARS, MAX_LABEL, MAX_RECALLED, Record, Turn
from evomem.store import View
from evomem.tombstones import MADE_UP, sought_by

if TYPE_CHECKING:
    from evomem.memory import Memory

BATCH = 64  # turns of one transaction
MANY = 4_096  # messages that are matched before what is new in them is written, at most
PAGE = 1_000  # records that are read from the log at once
SHOWN = 5  # new turns in `Imported.first`
TRIES = 100  # lost races against other processes before an import gives up
LIVE = timedelta(minutes=10)  # a time this close before that of storing may have been made up
CANDIDATES = 8  # conversations that a nameless one is compared with

Progress = Callable[[int], None]
"""Called with the number of messages that are done."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import added, or would add."""

    new: int = 0
    """Turns that were added."""
    replaced: int = 0
    """How many of these replaced earlier versions."""
    known: int = 0
    """Turns of the memory that were found again."""
    deleted: int = 0
    """Exchanges left out because their turns were deleted."""
    forgotten: int = 0
    """Exchanges left out because their turns were purged."""
    first: tuple[Turn, ...] = ()
    """The first new turns."""

    def __add__(self, other: Imported) -> Imported:
        """Return what both came to."""
        return Imported(
            self.new + other.new,
            self.replaced + other.replaced,
            self.known + other.known,
            self.deleted + other.deleted,
            self.forgotten + other.forgotten,
            (self.first + other.first)[:SHOWN],
        )


def import_conversations(
    memory: Memory,
    conversations: Iterable[Conversation],
    *,
    include_forgotten: bool = False,
    dry_run: bool = False,
    turn_source: str | None = None,
    progress: Progress | None = None,
) -> Imported:
    """Add to a memory what is new in conversations.

    Args:
        memory: Which one.
        conversations: Can be iterated twice, as those of `evomem.chats.read`: they are checked
            before anything is written.
        include_forgotten: Whether purged turns come back.
        dry_run: Whether to write nothing, and only say what would be written.
        turn_source: The source of the turns that are written, whatever the messages say.
        progress: Called now and then.

    Raises:
        InputError: An exchange cannot be a turn; the message says where it is. Nothing was written.
    """
    amount = 0
    for conversation in conversations:
        amount += 1
        for _, part in _parts(conversation):
            _entries(conversation, part, None)
    with nullcontext() if dry_run else memory._engine.lock(memory.namespace):
        run = _Import(memory, amount == 1, include_forgotten, dry_run, turn_source, progress)
        for conversation in conversations:
            run.take(conversation)
        return run.finish()


@dataclass(eq=False, slots=True)
class _Entry(Told):
    """An exchange of a conversation: stored, planned, or just read."""

    seq: int = 0
    """Of the stored turn; 0 for one that is not stored."""
    message_ids: tuple[str, ...] = ()
    """In order; the first that is free becomes the turn's id."""
    opening: tuple[Message, ...] = ()
    """The first messages, of one that was read."""
    replaces: tuple[int, ...] = ()
    """Seqs of the turns whose places it takes."""
    revived: bool = False
    versions: frozenset[Label] = frozenset()
    """What the turns said whose places it took."""
    parts: tuple[_Entry, ...] = ()
    """The messages that nobody has answered, of an entry that stands for several."""

    def each(self) -> tuple[_Entry, ...]:
        """Return the entries that this one stands for."""
        return self.parts or (self,)


@dataclass(slots=True)
class _Thread:
    """What the memory holds of a conversation, and what is planned."""

    session: str
    told: list[_Entry] = field(default_factory=list)
    deleted: dict[str, list[_Entry]] = field(default_factory=dict)
    """By what was asked."""

    def was_deleted(self, new: Told) -> _Entry | None:
        """Return the deleted turn that an exchange is."""
        asking = self.deleted.get(_question(new), ())
        return next((old for old in asking if old.label == new.label and _fit(old, new)), None)


class _Import:
    def __init__(
        self,
        memory: Memory,
        alone: bool,
        include_forgotten: bool,
        dry_run: bool,
        turn_source: str | None,
        progress: Progress | None,
    ) -> None:
        self._memory, self._alone = memory, alone
        self._source, self._pace = turn_source, Pace()
        self._include_forgotten, self._dry_run = include_forgotten, dry_run
        self._progress = progress
        self._engine = memory._engine
        self._store = memory._engine.store
        self._done = 0
        self._mine: set[int] = set()  # seqs that this import wrote
        self._known: set[int] = set()
        self._deleted: set[int] = set()
        self._forgotten: set[tuple[str, str]] = set()
        self._written = Imported()
        self._waiting: list[Conversation] = []  # matched, and not written yet
        self._size = 0  # messages of these
        self._index: dict[int, set[str]] | None = None  # sessions by what was said
        self._start()

    def _start(self) -> None:
        """Look at the memory as it is now, and forget what was planned."""
        number = self._store.find_memory(self._memory.namespace)
        self._view = View(0, 0, b"", 0, ()) if number is None else self._store.view(number)
        self._threads: dict[str, _Thread] = {}
        self._planned: dict[_Entry, None] = {}

    def take(self, conversation: Conversation) -> None:
        """Plan what is new in a conversation; write if enough is planned."""
        with self._store.snapshot():
            self._plan(conversation)
        self._done += len(conversation.messages)
        if self._dry_run:
            return
        self._waiting.append(conversation)
        self._size += len(conversation.messages)
        if self._size >= MANY or len(self._planned) >= BATCH:
            self._write()

    def finish(self) -> Imported:
        """Write the rest; return what the import came to."""
        if self._dry_run:
            self._count(list(self._planned))
        else:
            self._write()
        return replace(
            self._written,
            known=len(self._known),
            deleted=len(self._deleted),
            forgotten=len(self._forgotten),
        )

    # writing -------------------------------------------------------------------------------

    def _write(self) -> None:
        """Write what is planned; plan it again if somebody else wrote meanwhile."""
        lost = 0  # races in a row
        while lost < TRIES:
            before = len(self._mine)
            try:
                self._append()
            except HeadMoved:
                if len(self._mine) > before:
                    lost = 0
                else:
                    lost += 1
                    self._pace.slower()
                self._engine.note_contention(self._memory.namespace)
                clock.sleep(random.uniform(0, 0.002 * min(lost + 1, 25)))
                self._index = None
                with self._store.snapshot():
                    self._start()
                    for conversation in self._waiting:
                        self._plan(conversation)
                continue
            self._waiting, self._size = [], 0
            self._start()
            if self._progress:
                self._progress(self._done)
            return
        raise HeadMoved(
            f"{self._memory!r}: other processes were quicker {TRIES} times in a row; "
            "import again what is missing"
        )

    def _append(self) -> None:
        planned = list(self._planned)
        if not planned:
            return
        if not self._view.memory:
            self._view = self._store.view(self._store.make_memory(self._memory.namespace))
            if self._view.seq:
                raise HeadMoved("somebody else made the memory")
        self._name(planned)
        now = datetime.now(timezone.utc)
        for entry in planned:
            if entry.turn.time is None:
                entry.turn = replace(entry.turn, time=now)
        while planned:
            written = self._write_some(planned[:BATCH])
            del planned[:written]

    def _write_some(self, batch: Sequence[_Entry]) -> int:
        """Write turns, or the first of them if another writer waits; return how many."""
        with self._store.write_slot(self._view.memory) as is_wanted:
            with self._store.snapshot(self._view):
                if self._store.view(self._view.memory) != self._view:
                    raise HeadMoved("somebody else wrote before the batch")
                state = self._engine.state(self._view)
            records = self._memory._write(
                self._view,
                state,
                [entry.turn for entry in batch],
                self._pace,
                is_wanted,
                {entry.turn.id or "": entry.replaces for entry in batch},
                {
                    entry.turn.id or "": sought_by(entry.turn, entry.message_ids)
                    for entry in batch
                    if entry.revived
                },
            )
        self._count(batch[: len(records)])
        self._mine.update(record.seq for record in records)
        self._view = self._store.view(self._view.memory)
        if self._view.seq != records[-1].seq:
            raise HeadMoved("somebody else wrote behind the batch")
        return len(records)

    def _count(self, batch: Sequence[_Entry]) -> None:
        replaced = sum(bool(entry.replaces) for entry in batch)
        first = tuple(entry.turn for entry in batch[:SHOWN])
        self._written += Imported(len(batch), replaced, first=first)

    def _name(self, planned: Sequence[_Entry]) -> None:
        """Give each planned turn an id that is free: a message's, or one made of the content."""
        wanted = {entry: list(_wanted_ids(entry)) for entry in planned}
        asked = list({id for ids in wanted.values() for id in ids})
        taken = set(self._store.find(self._view, asked))
        numbers: Counter[bytes] = Counter()  # of equal exchanges, so that their ids differ
        for entry, ids in wanted.items():
            content = entry.turn.content
            free = next((id for id in ids if id not in taken), None)
            while free is None:
                numbers[content] += 1
                id = _digest(content, entry.turn.session, numbers[content])
                if id not in taken and not self._store.find(self._view, [id]):
                    free = id
            entry.turn = replace(entry.turn, id=free)
            taken.add(free)

    # planning ------------------------------------------------------------------------------

    def _plan(self, conversation: Conversation) -> None:
        for name, part in _parts(conversation):
            new = _entries(conversation, part, name)
            thread = self._thread(name) if name else self._recognised(new)
            for entry in new:
                entry.turn = replace(entry.turn, session=thread.session, source=self._source)
            self._merge(thread, new)

    def _thread(self, session: str) -> _Thread:
        """Return what the memory holds of a session, with what is planned for it."""
        if session not in self._threads:
            thread = self._threads[session] = _Thread(session)
            earlier: dict[int, frozenset[Label]] = {}  # by the seq of what took their place
            for record, since in self._told([session]):
                entry = _stored(record)
                entry.versions = earlier.pop(record.seq, frozenset())
                if since:
                    labels = earlier.get(since, frozenset()) | entry.versions
                    earlier[since] = labels | {entry.label}
                else:
                    kept = thread.told
                    if since is not None:
                        kept = thread.deleted.setdefault(_question(entry), [])
                    kept.append(entry)
        return self._threads[session]

    def _told(self, sessions: Sequence[str] | None) -> Iterator[tuple[Record, int | None]]:
        after = 0
        while self._view.spans:
            page = self._store.told(self._view, sessions=sessions, after=after, limit=PAGE)
            yield from page
            if len(page) < PAGE:
                return
            after = page[-1][0].seq

    def _merge(self, thread: _Thread, new: Sequence[_Entry]) -> None:
        """Plan what is new of a conversation, behind what the memory holds of it."""
        purged = self._purged(thread, new)
        rest: list[_Entry] = []
        asked = {_question(old) for old in thread.told}
        for entry in new:
            if entry in purged and _question(entry) not in asked:
                self._leave_out(thread, entry)
            elif _question(entry) in asked or not self._was_deleted(thread, entry, new):
                rest.append(entry)
        self._match(thread, _gathered(_with_head(thread.told, rest)), purged)

    def _match(self, thread: _Thread, new: Sequence[_Entry], purged: set[_Entry]) -> None:
        told = _gathered(thread.told)
        places = match(told, new)
        free = set(range(len(told))) - set(places)
        _find_moved(told, new, places, free)
        beside = _beside(places)
        for j, entry in enumerate(new):
            place = places[j]
            old = [] if place is None else [told[place]]
            if old and self._is_known(thread, old[0], entry):
                self._recognise(thread, old[0], entry)
            elif not old and (entry in purged or thread.was_deleted(entry)):
                self._leave_out(thread, entry)
            else:
                for i in _replaced_with(told, new, places, j, beside[j], free):
                    free.discard(i)
                    old.append(told[i])
                self._add(thread, entry, [part for each in old for part in each.each()])

    def _purged(self, thread: _Thread, new: Sequence[_Entry]) -> set[_Entry]:
        """Return the exchanges that the memory has forgotten."""
        if not self._view.memory:
            return set()
        facts = [sought_by(entry.turn, entry.message_ids) for entry in new]
        found = self._store.forgotten(self._view, facts)
        purged = {entry for entry, gone in zip(new, found, strict=True) if gone}
        if self._include_forgotten:
            for entry in purged:
                entry.revived = True
            return set()
        return purged

    def _leave_out(self, thread: _Thread, entry: _Entry) -> None:
        gone = thread.was_deleted(entry)
        if gone is not None:
            self._deleted.add(gone.seq)
        else:
            self._forgotten.add((thread.session, _question(entry)))

    def _was_deleted(self, thread: _Thread, entry: _Entry, new: Sequence[_Entry]) -> bool:
        """Return whether an exchange is a deleted turn, or completes one; count it."""
        gone = thread.was_deleted(entry)
        for old in thread.deleted.get(_question(entry), ()) if gone is None else ():
            grew = is_earlier(old.turn, entry.turn) and _fit(old, entry)
            if grew and old.label not in {each.label for each in new}:
                gone = old
                break
        if gone is not None:
            self._deleted.add(gone.seq)
        return gone is not None

    def _is_known(self, thread: _Thread, old: _Entry, new: _Entry) -> bool:
        return (
            old.label == new.label
            or is_earlier(new.turn, old.turn)
            or bool((old.parts or new.parts) and not new.turn.assistant)
            or new.label in old.versions
        )

    def _recognise(self, thread: _Thread, old: _Entry, new: _Entry) -> None:
        """Count the turns that the memory holds; plan what the user said behind them."""
        labels = [part.label for part in old.each()]
        self._known.update(part.seq for part in old.each() if part.seq not in {0, *self._mine})
        for part in new.parts:
            if part.label not in labels:
                self._add(thread, part, [])

    def _add(self, thread: _Thread, entry: _Entry, old: Sequence[_Entry]) -> None:
        """Plan an exchange that takes the places of `old`."""
        for each in old:
            thread.told.remove(each)
            self._planned.pop(each, None)
        for part in entry.each():
            thread.told.append(part)
            self._planned[part] = None
            self._note(part.turn)
        last = entry.each()[-1]
        last.turn = _with_provenance(last.turn, [each.turn for each in old])
        for each in old:
            last.replaces += (each.seq,) if each.seq else each.replaces
            last.versions |= each.versions | {each.label}

    # conversations without a name ----------------------------------------------------------

    def _recognised(self, new: Sequence[_Entry]) -> _Thread:
        """Return the thread of a nameless conversation, a new one if the memory holds none of it."""
        names = _made_up_names(new[0])
        for session in self._candidates(new, names):
            thread = self._thread(session)
            if self._is_same(thread, new):
                return thread
        for number in count(1):
            session = names[0] if number == 1 else f"{names[0]}-{number}"
            thread = self._thread(session)
            if not (thread.told or thread.deleted):
                return thread
        raise AssertionError("unreachable")

    def _candidates(self, new: Sequence[_Entry], names: Sequence[str]) -> Iterator[str]:
        """Yield sessions that may be the conversation, the likelier ones first."""
        yield from names
        seen = set(names)
        ids = [id for entry in new for id in entry.message_ids]
        if ids and self._view.memory:
            records = self._store.find(self._view, ids[:PAGE]).values()
            sessions = Counter(record.turn.session for record in records if record.turn.session)
            for session, _ in sessions.most_common(CANDIDATES):
                if session not in seen:
                    seen.add(session)
                    yield session
        shared: Counter[str] = Counter()
        index = self._said()
        for key in (key for entry in new for key in _keys(entry.turn)):
            shared.update(index.get(key, ()))
        for session, _ in shared.most_common(CANDIDATES):
            if session not in seen:
                yield session

    def _said(self) -> dict[int, set[str]]:
        """Return in which nameless conversations something was said."""
        if self._index is None:
            self._index = {}
            for record, _ in self._told(None):
                self._note(record.turn)
            for entry in self._planned:
                self._note(entry.turn)
        return self._index

    def _note(self, turn: Turn) -> None:
        session = turn.session or ""
        if self._index is not None and session.startswith(MADE_UP):
            for key in _keys(turn):
                self._index.setdefault(key, set()).add(session)

    def _is_same(self, thread: _Thread, new: Sequence[_Entry]) -> bool:
        """Return whether a nameless conversation goes on with, or is a part of, a thread.

        From its first exchange on, the conversation has to agree with the thread until one of them
        ends; only the last exchange of the thread may have got another answer. If this is the only
        conversation of the import, it is enough that more than half agrees.
        """
        if not thread.told:
            return any(thread.was_deleted(entry) for entry in new)
        told, rest = _gathered(thread.told), _gathered(_with_head(thread.told, new))
        places = match(told, rest)
        pairs = [(told[i], entry) for i, entry in zip(places, rest, strict=True) if i is not None]
        asking = sum(old.turn.user == entry.turn.user for old, entry in pairs)
        if places[0] is None:
            return False
        length = min(len(told) - places[0], len(rest))
        if self._alone and 2 * asking > length:
            return True
        in_step = places[:length] == list(range(places[0], places[0] + length))
        return in_step and all(
            old.label == entry.label
            or (n == length - 1 and (not old.turn.assistant or _grew(old.turn, entry.turn)))
            for n, (old, entry) in enumerate(pairs[:length])
        )


# ---------------------------------------------------------------------------------------------


def _parts(conversation: Conversation) -> list[tuple[str | None, list[tuple[int, Message]]]]:
    """Return the messages of a conversation by their sessions, each with its position.

    A message without a session is the conversation's; an answer without one goes with the question.
    """
    parts: dict[str | None, list[tuple[int, Message]]] = {}
    session = conversation.id
    for position, message in enumerate(conversation.messages):
        if message["role"] == "user" or message.get("session"):
            session = message.get("session") or conversation.id
        parts.setdefault(session, []).append((position, message))
    return list(parts.items())


def _entries(
    conversation: Conversation, part: Sequence[tuple[int, Message]], session: str | None
) -> list[_Entry]:
    """Return the exchanges of messages.

    Raises:
        InputError: One cannot be a turn; the message says where it is.
    """
    ignored = {"session": None, "source": None, "recalled": None}
    groups = exchanges((position, {**message, **ignored}) for position, message in part)
    uses = Counter(id for group in groups for id in set(group.ids))
    return [_read(conversation, group, session, uses) for group in groups]


def _read(
    conversation: Conversation, group: Exchange, session: str | None, uses: Counter[str]
) -> _Entry:
    ids = tuple(dict.fromkeys(id for id in group.ids if uses[id] == 1))  # others are no ids
    try:
        turn = replace(group.turn(), id=None, session=session)
    except TurnError as error:
        places = [conversation.places[position] for position, _ in group.messages]
        where = places[0] if len(places) == 1 else f"{places[0]} to {places[-1]}"
        reason = str(error).partition(": ")[2]
        raise InputError(f"{where}: {reason}") from error
    opening = tuple(message for _, message in group.messages[:2])
    return _Entry(turn, frozenset(ids), turn.time is not None, 0, ids, opening)


def _with_provenance(turn: Turn, old: Sequence[Turn]) -> Turn:
    """Return a turn with what those whose places it takes were recalled from, and their source."""
    sources = (each.source for each in (turn, *old) if each.source is not None)
    ids = dict.fromkeys(id for each in (turn, *old) for id in each.recalled)
    return replace(turn, source=next(sources, None), recalled=[*ids][-MAX_RECALLED:])


def _stored(record: Record) -> _Entry:
    session = record.turn.session or ""
    ids = frozenset((record.id, record.id.removeprefix(f"{session}/")))
    made_up = timedelta(0) <= record.added - record.time < LIVE
    return _Entry(record.turn, ids, not made_up, record.seq)


def _question(entry: Told) -> str:
    return entry.turn.user or entry.turn.assistant


def _keys(turn: Turn) -> set[int]:
    """Return what a turn is found by again, also by an export that begins in the middle of it."""
    sides = [side for side in (turn.user, turn.assistant) if side]
    texts = ((side, side.partition("\n")[0], side.rpartition("\n")[2]) for side in sides)
    return {hash(text) for each in texts for text in each}


def _fit(old: Told, new: Told) -> bool:
    """Return whether the times of two exchanges allow that they are the same."""
    return not (old.timed and new.timed) or old.turn.time == new.turn.time


def _grew(old: Turn, new: Turn) -> bool:
    """Return whether one of two is the other at an earlier time."""
    return is_earlier(old, new) or is_earlier(new, old)


def _with_head(told: Sequence[_Entry], new: Sequence[_Entry]) -> list[_Entry]:
    """Return `new` with its beginning completed, where it begins in the middle of an exchange."""
    found = completed(told, new)
    if found is None:
        return list(new)
    parts, whole = found
    ids = tuple(id for entry in new[:parts] for id in entry.message_ids)
    old = told[whole.place]
    turn = replace(
        new[0].turn,
        user="\n".join(whole.user),
        assistant="\n".join(whole.answer),
        time=old.turn.time if old.timed else new[0].turn.time,
    )
    timed = old.timed or new[0].timed
    first = replace(new[0], turn=turn, ids=old.ids.union(ids), message_ids=ids, timed=timed)
    return [first, *new[parts:]]


def _gathered(entries: Sequence[_Entry]) -> list[_Entry]:
    """Return entries with one for all user messages at the end that nobody has answered."""
    start = len(entries)
    while start and entries[start - 1].turn.user:
        turn = entries[start - 1].turn
        if turn.assistant or turn.speaker:
            break
        start -= 1
    parts = tuple(entries[start:])
    if len(parts) < 2:
        return list(entries)
    turn = replace(parts[0].turn, user=joined([part.turn.user for part in parts])[:MAX_CHARS])
    ids = frozenset(id for part in parts for id in part.ids)
    return [*entries[:start], _Entry(turn, ids, parts[0].timed, parts=parts)]


def _find_moved(
    told: Sequence[_Entry], new: Sequence[_Entry], places: list[int | None], free: set[int]
) -> None:
    """Pair what stands elsewhere: a turn that took the place of another is behind the rest."""
    first = min((place for place in places if place is not None), default=len(told))
    behind: dict[object, list[int]] = defaultdict(list)
    for i in sorted(free, reverse=True):
        if i > first:
            behind[told[i].label].append(i)
    for j, entry in enumerate(new):
        same = behind.get(entry.label) if places[j] is None else None
        if same and _fit(told[same[-1]], entry):
            places[j] = same.pop()
            free.discard(places[j] or 0)


def _beside(places: Sequence[int | None]) -> list[tuple[int, int]]:
    """Return, for each exchange, the nearest matched ones before and after it; -1 and the end if none."""
    before, result = -1, [(-1, len(places))] * len(places)
    for j, place in enumerate(places):
        result[j] = (before, len(places))
        before = before if place is None else j
    after = len(places)
    for j in range(len(places) - 1, -1, -1):
        result[j] = (result[j][0], after)
        after = after if places[j] is None else j
    return result


def _replaced_with(
    told: Sequence[_Entry],
    new: Sequence[_Entry],
    places: Sequence[int | None],
    j: int,
    beside: tuple[int, int],
    free: set[int],
) -> list[int]:
    """Return the unmatched places of `told` whose turns go with the one that exchange `j` replaces.

    These are parts of it (a question and its answer that were stored apart), and what stood in its
    place between two exchanges that both have.
    """
    before, after = beside
    low = -1 if before < 0 else places[before]
    high = len(told) if after == len(new) else places[after]
    assert low is not None  # both are matched
    assert high is not None
    place = places[j]
    if place is not None:
        onward = _parts_of(told, range(place + 1, high), new[j], free)
        return onward + _parts_of(told, range(place - 1, low, -1), new[j], free)
    gap = [i for i in range(low + 1, high) if i in free]
    parts = _parts_of(told, gap[::-1], new[j], free)
    if parts or before < 0:
        return parts
    if new[j].ids and told[low].ids & new[before].ids and all(_has_ids(told[i]) for i in gap):
        return gap  # the export names its messages, and these are no longer among them
    return gap[:1] if after < len(new) and len(gap) == after - j else []


def _parts_of(
    told: Sequence[_Entry], places: Iterable[int], new: _Entry, free: set[int]
) -> list[int]:
    """Return the first of `places`, as long as their turns are parts of an exchange."""
    parts = []
    for i in places:
        if i not in free or not is_part(told[i].turn, new.turn):
            break
        parts.append(i)
    return parts


def _has_ids(entry: _Entry) -> bool:
    return not all(len(id) == 32 for id in entry.ids)


def _wanted_ids(entry: _Entry) -> Iterator[str]:
    """Yield ids that a turn may have, the best first."""
    session = entry.turn.session
    yield from entry.message_ids
    yield from (
        id for id in (f"{session}/{id}" for id in entry.message_ids) if len(id) <= MAX_LABEL
    )
    yield _digest(entry.turn.content, session, 0)


def _made_up_names(first: _Entry) -> list[str]:
    """Return what a nameless conversation may be called that begins with this exchange.

    The first name depends on the first message alone; the others are what earlier versions made of
    the first message and, if there was one, its answer.
    """
    message = first.opening[0]
    names = [_digest(json.dumps([message["role"], message["content"]]).encode())[:12]]
    for messages in (first.opening, first.opening[:1]):
        sides = {each["role"]: each["content"] for each in messages}
        turn = Turn(**sides, speaker=message.get("name"))
        names.append(hashlib.blake2b(b"[]" + turn.content, digest_size=16).hexdigest()[:12])
    return [MADE_UP + name for name in dict.fromkeys(names)]


def _digest(content: bytes, *more: Any) -> str:
    data = json.dumps(more).encode() + content
    return hashlib.blake2b(data, digest_size=16).hexdigest()
