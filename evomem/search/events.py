"""Events that a query counts from ("a year before I moved"): the turns that tell of them, and days."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta, tzinfo

import numpy as np

from evomem.engine import Engine
from evomem.records import Record
from evomem.search.candidates import Group, best_fused
from evomem.state import Vectors
from evomem.store import View
from evomem.times.date_words import Days
from evomem.times.dates import asked_days
from evomem.times.event_words import Event
from evomem.times.when import When, day_of

TURNS = 3  # turns per event: it may have happened more than once
CLOSE = 0.9  # least score of another turn, as a share of the best turn's score
LONGEST = 31  # days; longer spans do not say when something happened

_WHO = frozenset("i we you he she it they me us my our your his her its their a an the".split())
"""Words that many turns share."""


def with_events(
    when: When,
    engine: Engine,
    view: View,
    groups: Sequence[Group],
    events: Sequence[tuple[Event, Vectors]],
) -> When:
    """Add the days that are counted from events.

    A turn tells of an event if it shares a word with it, other than words such as "I", and is one
    of the best turns for it. An event of which no turn tells has no time.

    Args:
        when: The other times that the query names.
        engine: The engine of the memory.
        view: The turns to search.
        groups: The turns that may be found.
        events: The events that the query counts from, each with the embedding (D,) of its text.
    """
    spans, telling = list(when.spans), set(when.events)
    for event, vector in events:
        ranked, _ = best_fused(engine, view, event.text, vector, TURNS, groups, When())
        scores = {seq: sum(parts.values()) for seq, parts in ranked}
        words = [word for word in event.text.split() if word.lower() not in _WHO]
        candidates = np.array(sorted(scores), np.int64)
        shared = engine.store.lexical(view, " ".join(words), candidates) if words else ()
        sharing = {seq for seq, share in shared if share > 0}
        tellers = [seq for seq, _ in ranked if seq in sharing]
        tellers = [seq for seq in tellers if scores[seq] >= CLOSE * scores[tellers[0]]]
        records = engine.store.records(view, tellers)
        for seq in tellers:
            try:
                spans.append(event.offset.of(_happened(records[seq], when.zone)))
            except OverflowError:
                continue
            telling.add(seq)
    return replace(when, spans=tuple(dict.fromkeys(spans)), events=frozenset(telling))


def _happened(record: Record, zone: tzinfo) -> Days:
    """Return the days that a turn names ("I moved last week"), or the one on which it was said."""
    day = day_of(record.time, zone)
    turn = record.turn
    spans = [
        span
        for span in asked_days(turn.user or turn.assistant, [day], day)
        if span[0] != date.min and span[1] - span[0] <= timedelta(LONGEST)
    ]
    return spans[0] if len(spans) == 1 else (day, day)
