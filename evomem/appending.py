"""Appends turns: they are read at the end of the log and stored in one transaction.

If another process writes to the memory in the meantime, the call starts over after its turns.
"""

from __future__ import annotations

import random
import time as clock
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timezone
from types import MappingProxyType
from typing import NamedTuple

from evomem.checks import check_id
from evomem.engine import TRIES, Engine
from evomem.errors import DuplicateTurn, HeadMoved, NotFound
from evomem.reading import BLANK, Pace, read_until
from evomem.records import Record, Turn
from evomem.state import State
from evomem.store import EMPTY_VIEW, Namespace, Row, Store, View, WriteSlot, nobody_waits


class Draft(NamedTuple):
    """The turns to write in one transaction."""

    turns: Sequence[Turn]
    """The turns, with ids and times."""
    replaces: Mapping[str, Sequence[int]] = MappingProxyType({})
    """By id of a turn: the seqs of the turns that it replaces."""


def append(
    engine: Engine,
    namespace: Namespace,
    draft: Callable[[View], Draft],
    pace: Pace,
    *,
    queue: bool = False,
    whole: bool = False,
) -> list[Record]:
    """Write turns in one transaction; return their records, in order.

    Args:
        engine: The memory's engine; the caller holds the memory's lock.
        namespace: The memory, created if it does not exist.
        draft: Called with the current view, inside a snapshot; returns what to write. Called again
            if another process writes in the meantime.
        pace: How many turns to read before checking whether another writer waits.
        queue: Whether to wait for the write slot first. A few turns are read quickly, so they need
            it only if another process is writing.
        whole: Whether to write all turns of the draft at once; otherwise only the first of them are
            written if another writer waits.

    Raises:
        HeadMoved: Other processes kept writing first; nothing was written.
    """
    store = engine.store
    queue = queue or engine.is_contended(namespace)
    for attempt in range(TRIES):
        try:
            slot: AbstractContextManager[WriteSlot] = nullcontext(nobody_waits)
            if queue:
                number = store.find_memory(namespace)
                slot = store.write_slot(number or store.make_memory(namespace))
            with slot as is_wanted:
                with store.snapshot():
                    view = current_view(store, namespace)
                    drafted = draft(view)
                    if not drafted.turns:
                        return []
                    if not queue and view.memory and store.needs_lease(view.memory):
                        queue = True
                        continue
                    if not queue and view.memory and store.slot_is_taken(view.memory):
                        engine.note_contention(namespace)
                        queue = True
                        continue
                    state = engine.state(view)
                if not view.memory:
                    store.make_memory(namespace)
                    continue
                if whole:
                    is_wanted = nobody_waits
                return write(engine, view, state, drafted.turns, pace, is_wanted, drafted.replaces)
        except HeadMoved:  # another process wrote first: retry after its turns
            engine.note_contention(namespace)
            queue = True
            pace.slower()
            pause(attempt)
    raise HeadMoved(
        f"{_called(namespace)}: other processes wrote first {TRIES} times in a row; nothing was "
        "written"
    )


def write(
    engine: Engine,
    view: View,
    state: State[Turn],
    turns: Sequence[Turn],
    pace: Pace,
    is_wanted: WriteSlot,
    replaces: Mapping[str, Sequence[int]] = MappingProxyType({}),
    revived: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> list[Record]:
    """Read turns at the end of the log and append them in one transaction; return their records.

    If another writer wants the slot, only the first turns are written.

    Args:
        engine: The memory's engine.
        view: The memory's current view.
        state: The state at the view's end.
        turns: New turns, with ids and times.
        pace: How many turns to read before checking whether another writer waits.
        is_wanted: Returns whether another writer waits.
        replaces: By id of a turn: the seqs of the turns that it replaces.
        revived: By id of a turn: the facts that are no longer forgotten (`Store.append`).

    Raises:
        HeadMoved: The log has grown or changed since `view`; nothing was written.
    """
    added = datetime.now(timezone.utc)
    unread = [Row(view.seq + n, turn, added, BLANK, b"") for n, turn in enumerate(turns, 1)]
    rows, state = read_until(engine.reader, state, unread, pace, is_wanted)
    seqs = {id_of(row.turn): row.seq for row in rows}
    try:
        engine.store.append(
            view,
            rows,
            replaces={old: seq for id, seq in seqs.items() for old in replaces.get(id, ())},
            revived=[revived[id] for id in seqs if id in revived],
        )
    except HeadMoved:
        engine.note_wasted_read(len(rows))
        raise
    engine.remember(state, instead_of=view.key if view.spans else None)
    return [Record(row.seq, row.turn, added) for row in rows]


def current_view(store: Store, namespace: Namespace) -> View:
    """Return a memory's current view, an empty view if there is no such memory."""
    try:
        return store.view(namespace)
    except HeadMoved:
        return EMPTY_VIEW


def known_turns(
    store: Store,
    namespace: Namespace,
    view: View,
    turns: Sequence[Turn],
    ids: Collection[str | None],
) -> dict[str, Record]:
    """Return, by id, the log's records of those of `turns` whose ids are in `ids`.

    Raises:
        DuplicateTurn: The log has another text under one of the ids, or that turn was deleted.
    """
    sought = [id_of(turn) for turn in turns if turn.id in ids]
    known = store.find(view, sought) if sought else {}
    if not known:
        return {}
    visible = store.records(view, [record.seq for record in known.values()])
    for turn in turns:
        record = known.get(id_of(turn))
        if record is None:
            continue
        if record.turn.content != turn.content:
            raise DuplicateTurn(
                f"{_called(namespace)} already holds the id {turn.id!r}, with another text: "
                f"{record.text[:60]!r}; use a new id, or purge the old turn first"
            )
        if record.seq not in visible:
            raise DuplicateTurn(
                f"{_called(namespace)} held the id {turn.id!r} and it was deleted; use a new id, "
                "or purge the old turn first"
            )
    return known


def turn_to_replace(store: Store, namespace: Namespace, view: View, id: str) -> Record:
    """Return the turn with this id, unless it was deleted or replaced.

    Raises:
        NotFound: There is no such turn, or it was deleted or replaced.
        TurnError: The id is not a string.
    """
    check_id(id)
    record = store.find(view, [id]).get(id)
    if record is None or record.seq not in store.records(view, [record.seq]):
        raise NotFound(
            f"{_called(namespace)} has no current turn with the id {id!r}: it was deleted or "
            "replaced, or never added; history() lists the current turns"
        )
    return record


def pause(lost_races: int) -> None:
    """Wait briefly after losing races against other processes; longer after more losses."""
    clock.sleep(random.uniform(0, 0.002 * min(lost_races + 1, 25)))


def id_of(turn: Turn) -> str:
    """Return the id of a turn that has one."""
    return turn.id or ""


def _called(namespace: Namespace) -> str:
    return f"the memory {'/'.join(namespace)!r}"
