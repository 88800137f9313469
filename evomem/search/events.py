"""When something happened that a query counts from: the turns that tell of it, and their days."""

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

TURNS = 3  # that may tell of an event: it may have happened more than once
CLOSE = 0.9  # of the best turn's score, that others need
LONGEST = 31  # days of a span that tells when something happened

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

    A turn tells of an event if it shares a word with it, besides "I" and the like, and is one of
    the best for it. An event of which no turn tells has no time.

    Args:
        when: What else the query names.
        engine: Of the memory.
        view: The turns to search.
        groups: The turns that may be found.
        events: What is counted from, with the embedding (D,) of its text.
    """
    spans, telling = list(when.spans), set(when.events)
    for event, vector in events:
        ranked, _ = best_fused(engine, view, event.text, vector, TURNS, groups, When())
        scores = {seq: sum(parts.values()) for seq, parts in ranked}
        words = [word for word in event.text.split() if word.lower() not in _WHO]
        candidates = np.array(sorted(scores), np.int64)
        shared = engine.store.lexical(view, " ".join(words), candidates) if words else ()
        sharing = {seq for seq, share in shared if share > 0}
        told = [seq for seq, _ in ranked if seq in sharing]
        told = [seq for seq in told if scores[seq] >= CLOSE * scores[told[0]]]
        records = engine.store.records(view, told)
        for seq in told:
            try:
                spans.append(event.offset.of(_happened(records[seq], when.zone)))
            except OverflowError:
                continue
            telling.add(seq)
    return replace(when, spans=tuple(dict.fromkeys(spans)), events=frozenset(telling))


def _happened(record: Record, zone: tzinfo) -> Days:
    """Return the days that a turn names ("I moved last week"), or the one on which it was said."""
    said = day_of(record.time, zone)
    turn = record.turn
    named = [
        span
        for span in asked_days(turn.user or turn.assistant, [said], said)
        if span[0] != date.min and span[1] - span[0] <= timedelta(LONGEST)
    ]
    return named[0] if len(named) == 1 else (said, said)
