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
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from itertools import count
from typing import TYPE_CHECKING, Any

from evomem.chats import Conversation
from evomem.errors import HeadMoved, InputError, TurnError
from evomem.matching import Told, is_earlier, is_part, match, rest_of
from evomem.pairing import Exchange, Message, exchanges, joined
from evomem.records import MAX_LABEL, Record, Turn
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
    """What an import came to, or would come to."""

    new: int = 0
    """Turns that were added."""
    replaced: int = 0
    """How many of these took the place of earlier versions."""
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
    progress: Progress | None = None,
) -> Imported:
    """Add to a memory what is new in conversations.

    Args:
        memory: Which one.
        conversations: Can be iterated twice, as those of `evomem.chats.read`: they are checked
            before anything is written.
        include_forgotten: Whether purged turns come back.
        dry_run: Whether to write nothing, and only say what would be written.
        progress: Called now and then.

    Raises:
        InputError: An exchange cannot be a turn; the message says where it is. Nothing was written.
    """
    amount = 0
    for conversation in conversations:
        amount += 1
        for _, part in _parts(conversation):
            _entries(conversation, part, None)
    with memory._engine.lock(memory.namespace):
        run = _Import(memory, amount == 1, include_forgotten, dry_run, progress)
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


@dataclass(slots=True)
class _Thread:
    """What the memory holds of a conversation, and what is planned."""

    session: str
    told: list[_Entry] = field(default_factory=list)
    hidden: list[_Entry] = field(default_factory=list)

    def was_hidden(self, new: Told) -> _Entry | None:
        """Return the deleted or replaced turn that an exchange is."""
        return next((old for old in self.hidden if old.label == new.label and _fit(old, new)), None)


class _Import:
    def __init__(
        self,
        memory: Memory,
        alone: bool,
        include_forgotten: bool,
        dry_run: bool,
        progress: Progress | None,
    ) -> None:
        self._memory, self._alone = memory, alone
        self._include_forgotten, self._dry_run = include_forgotten, dry_run
        self._progress = progress
        self._store = memory._engine.store
        self._done = 0
        self._mine: set[int] = set()  # seqs that this import wrote
        self._known: set[int] = set()
        self._deleted: set[int] = set()
        self._forgotten: set[tuple[str, str]] = set()
        self._written = Imported()
        self._waiting: list[Conversation] = []  # matched, and not written yet
        self._index: dict[int, set[str]] | None = None  # sessions in which a question is asked
        self._start()

    def _start(self) -> None:
        """Look at the memory as it is now, and forget what was planned."""
        number = self._store.find_memory(self._memory.namespace)
        self._view = View(0, 0, b"", 0, ()) if number is None else self._store.view(number)
        self._threads: dict[str, _Thread] = {}
        self._planned: dict[_Entry, None] = {}

    def take(self, conversation: Conversation) -> None:
        """Plan what is new in a conversation; write if enough is planned."""
        self._waiting.append(conversation)
        self._plan(conversation)
        self._done += len(conversation.messages)
        many = sum(len(each.messages) for each in self._waiting) >= MANY
        if (many or len(self._planned) >= BATCH) and not self._dry_run:
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
        for attempt in range(TRIES):
            try:
                self._append()
            except HeadMoved:
                clock.sleep(random.uniform(0, 0.002 * min(attempt + 1, 25)))
                self._index = None
                self._start()
                for conversation in self._waiting:
                    self._plan(conversation)
                continue
            self._waiting = []
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
        for start in range(0, len(planned), BATCH):
            batch = planned[start : start + BATCH]
            for entry in batch:
                if entry.turn.time is None:
                    entry.turn = replace(entry.turn, time=now)
            records = self._memory._write(
                self._view,
                [entry.turn for entry in batch],
                {entry.turn.id or "": entry.replaces for entry in batch},
                [sought_by(entry.turn, entry.message_ids) for entry in batch if entry.revived],
            )
            self._count(batch)
            self._mine.update(record.seq for record in records)
            self._view = self._store.view(self._view.memory)
            if self._view.seq != records[-1].seq:
                raise HeadMoved("somebody else wrote behind the batch")

    def _count(self, batch: Sequence[_Entry]) -> None:
        replaced = sum(bool(entry.replaces) for entry in batch)
        first = tuple(entry.turn for entry in batch[:SHOWN])
        self._written += Imported(len(batch), replaced, first=first)

    def _name(self, planned: Sequence[_Entry]) -> None:
        """Give each planned turn an id that is free: a message's, or one made of the content."""
        wanted = {entry: list(_wanted_ids(entry)) for entry in planned}
        asked = list({id for ids in wanted.values() for id in ids})
        taken = set(self._store.find(self._view, asked))
        for entry, ids in wanted.items():
            free = next((id for id in ids if id not in taken), None)
            for number in count(1) if free is None else ():
                id = _digest(entry.turn.content, entry.turn.session, number)
                if id not in taken and not self._store.find(self._view, [id]):
                    free = id
                    break
            entry.turn = replace(entry.turn, id=free)
            taken.add(free or "")

    # planning ------------------------------------------------------------------------------

    def _plan(self, conversation: Conversation) -> None:
        for name, part in _parts(conversation):
            new = _entries(conversation, part, name)
            thread = self._thread(name) if name else self._recognised(new)
            for entry in new:
                entry.turn = replace(entry.turn, session=thread.session)
            self._merge(thread, new)

    def _thread(self, session: str) -> _Thread:
        """Return what the memory holds of a session, with what is planned for it."""
        if session not in self._threads:
            thread = self._threads[session] = _Thread(session)
            for record, visible in self._told([session]):
                (thread.told if visible else thread.hidden).append(_stored(record))
        return self._threads[session]

    def _told(self, sessions: Sequence[str] | None) -> Iterator[tuple[Record, bool]]:
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
        rest = _with_head(thread.told, rest)
        places = match(thread.told, rest)
        told = list(thread.told)
        free = set(range(len(told))) - set(places)
        self._find_moved(told, rest, places, free)
        for j, entry in enumerate(rest):
            place = places[j]
            old = [] if place is None else [told[place]]
            if old and self._is_known(thread, old[0], entry):
                self._recognise(old[0])
                continue
            if place is None:
                if entry in purged:
                    self._leave_out(thread, entry)
                    continue
                if gone := thread.was_hidden(entry):
                    self._deleted.add(gone.seq)
                    continue
            for i in _replaced_with(told, rest, places, j, free):
                free.discard(i)
                old.append(told[i])
            self._add(thread, entry, old)

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
        self._forgotten.add((thread.session, _question(entry)))

    def _was_deleted(self, thread: _Thread, entry: _Entry, new: Sequence[_Entry]) -> bool:
        """Return whether an exchange is a deleted turn, or completes one; count it."""
        gone = thread.was_hidden(entry)
        if gone is None:
            labels = {each.label for each in new}
            gone = next(
                (
                    old
                    for old in thread.hidden
                    if is_earlier(old.turn, entry.turn)
                    and _fit(old, entry)
                    and old.label not in labels
                ),
                None,
            )
        if gone is not None:
            self._deleted.add(gone.seq)
        return gone is not None

    @staticmethod
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

    def _is_known(self, thread: _Thread, old: _Entry, new: _Entry) -> bool:
        return (
            old.label == new.label
            or is_earlier(new.turn, old.turn)
            or thread.was_hidden(new) is not None  # an earlier version that was replaced
        )

    def _recognise(self, old: _Entry) -> None:
        if old.seq and old.seq not in self._mine:
            self._known.add(old.seq)

    def _add(self, thread: _Thread, entry: _Entry, old: Sequence[_Entry]) -> None:
        """Plan an exchange that takes the places of `old`."""
        for each in old:
            thread.told.remove(each)
            self._planned.pop(each, None)
            entry.replaces += (each.seq,) if each.seq else each.replaces
            if each.seq:
                thread.hidden.append(each)
        thread.told.append(entry)
        self._planned[entry] = None
        if self._index is not None:
            self._index.setdefault(hash(_question(entry)), set()).add(thread.session)

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
            if not (thread.told or thread.hidden):
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
        index = self._questions()
        for entry in new:
            shared.update(index.get(hash(_question(entry)), ()))
        for session, _ in shared.most_common(CANDIDATES):
            if session not in seen:
                yield session

    def _questions(self) -> dict[int, set[str]]:
        if self._index is None:
            self._index = {}
            for record, _ in self._told(None):
                session = record.turn.session or ""
                if session.startswith(MADE_UP):
                    question = _question(_stored(record))
                    self._index.setdefault(hash(question), set()).add(session)
            for entry in self._planned:
                session = entry.turn.session or ""
                if session.startswith(MADE_UP):
                    self._index.setdefault(hash(_question(entry)), set()).add(session)
        return self._index

    def _is_same(self, thread: _Thread, new: Sequence[_Entry]) -> bool:
        """Return whether a nameless conversation goes on with, or is a part of, a thread.

        From its first exchange on, the conversation has to agree with the thread until one of them
        ends; only the last exchange of the thread may have got another answer. If this is the only
        conversation of the import, it is enough that more than half agrees.
        """
        if not thread.told:
            return any(thread.was_hidden(entry) for entry in new)
        told, rest = thread.told, _with_head(thread.told, new)
        if not rest:
            return True
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
            old.label == entry.label or (n == length - 1 and _grew(old.turn, entry.turn))
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
    groups = exchanges((position, {**message, "session": None}) for position, message in part)
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


def _stored(record: Record) -> _Entry:
    session = record.turn.session or ""
    ids = frozenset((record.id, record.id.removeprefix(f"{session}/")))
    made_up = timedelta(0) <= record.added - record.time < LIVE
    return _Entry(record.turn, ids, not made_up, record.seq)


def _question(entry: Told) -> str:
    return entry.turn.user or entry.turn.assistant


def _fit(old: Told, new: Told) -> bool:
    """Return whether the times of two exchanges allow that they are the same."""
    return not (old.timed and new.timed) or old.turn.time == new.turn.time


def _grew(old: Turn, new: Turn) -> bool:
    """Return whether one of two is the other at an earlier time."""
    return is_earlier(old, new) or is_earlier(new, old)


def _with_head(told: Sequence[_Entry], new: Sequence[_Entry]) -> list[_Entry]:
    """Return `new` with its beginning completed, where it begins in the middle of an exchange.

    An export of the newest messages may begin with the rest of an answer, or with the second of two
    messages that a user sent in a row.
    """
    news = list(new)
    if not told or not news:
        return news
    heads = 0
    while heads < len(news) and not news[heads].turn.user and not news[heads].turn.speaker:
        heads += 1
    if heads and all(old.label != news[0].label for old in told):
        texts = [entry.turn.assistant for entry in news[:heads]]
        if any(rest_of(old.turn.assistant, texts) == heads for old in told):
            return news[heads:]
        last = told[-1].turn
        known = rest_of(last.assistant, texts)
        if last.user and not last.speaker and (known or not last.assistant):
            answer = joined([last.assistant, *texts[known:]])
            return [_rejoined(news[:heads], last.user, answer), *news[heads:]]
        return news
    first = news[0].turn
    if first.user and first.assistant and not first.speaker:
        if all(old.turn.user != first.user for old in told):
            whole = next((old.turn for old in reversed(told) if _ends_in(old.turn, first)), None)
            if whole is not None:
                return [_rejoined(news[:1], whole.user, first.assistant), *news[1:]]
        waiting = _waiting_users(told)
        for place in range(1, len(waiting)):
            shown = joined(waiting[place:])
            if first.user == shown or first.user.startswith(f"{shown}\n"):
                user = joined([*waiting[:place], first.user])
                return [_rejoined(news[:1], user, first.assistant), *news[1:]]
    return news


def _ends_in(whole: Turn, part: Turn) -> bool:
    return (
        whole.user.endswith(f"\n{part.user}")
        and not whole.speaker
        and (_grew(replace(whole, user=part.user), part) or not whole.assistant)
    )


def _waiting_users(told: Sequence[_Entry]) -> list[str]:
    """Return the user's messages at the end that nobody has answered."""
    texts: list[str] = []
    for old in reversed(told):
        if old.turn.assistant or old.turn.speaker:
            break
        texts.insert(0, old.turn.user)
    return texts


def _rejoined(entries: Sequence[_Entry], user: str, assistant: str) -> _Entry:
    ids = tuple(id for entry in entries for id in entry.message_ids)
    turn = replace(entries[0].turn, user=user, assistant=assistant)
    return replace(entries[0], turn=turn, ids=frozenset(ids), message_ids=ids)


def _replaced_with(
    told: Sequence[_Entry],
    new: Sequence[_Entry],
    places: Sequence[int | None],
    j: int,
    free: set[int],
) -> list[int]:
    """Return the unmatched places of `told` whose turns go with the one that exchange `j` replaces.

    These are parts of it (a question and its answer that were stored apart), and what stood in its
    place between two exchanges that both have.
    """
    before = next((i for i in reversed(places[:j]) if i is not None), None)
    after = next((i for i in places[j + 1 :] if i is not None), None)
    place = places[j]
    low = -1 if before is None else before
    high = len(told) if after is None else after
    if place is None:
        gap = [i for i in range(low + 1, high) if i in free]
        parts = []
        for i in reversed(gap):
            if not is_part(told[i].turn, new[j].turn):
                break
            parts.append(i)
        if parts or before is None:
            return parts
        beside = [n for n in range(j, len(new))]
        stretch = next((n for n in beside if places[n] is not None), len(new)) - j
        named = (
            all(_has_ids(told[i]) for i in gap)
            and bool(new[j].ids)
            and bool(
                told[before].ids & next(e.ids for n, e in enumerate(new) if places[n] == before)
            )
        )
        if named:
            return gap
        return gap[:1] if after is not None and len(gap) == stretch else []
    parts = []
    for i in range(place + 1, high):
        if i not in free or not is_part(told[i].turn, new[j].turn):
            break
        parts.append(i)
    for i in range(place - 1, low, -1):
        if i not in free or not is_part(told[i].turn, new[j].turn):
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
