"""The similarity map: how close a query is to every turn, at one point of the story after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np

from evomem.checks import check_query
from evomem.engine import TRIES, Engine
from evomem.errors import HeadMoved
from evomem.memory_view import MemoryView
from evomem.records import Record
from evomem.state import Vectors
from evomem.store import Filter, View

BEST = 3  # turns of each point that are among the rows of a large memory


@dataclass(frozen=True, slots=True)
class Map:
    """Cosines of a query with turns: a row for each turn, a column for each point."""

    points: list[tuple[int, datetime | None]]
    """The newest turn of each point, its seq and when it was said, oldest first; of one that was
    deleted since, None."""
    turns: list[Record]
    """Oldest first."""
    cosines: list[list[float | None]]
    """None if the turn had not been said yet."""

    def to_json(self) -> dict[str, Any]:
        """Return the map as plain JSON values."""
        return {
            "points": [
                {"seq": seq, "time": time and time.isoformat()} for seq, time in self.points
            ],
            "turns": [record.to_json() for record in self.turns],
            "cosines": self.cosines,
        }


def similarity(seen: MemoryView, query: str, *, points: int, turns: int) -> Map:
    """Embed a query with the memory's state at several points, and compare it with the turns so far.

    Args:
        seen: The memory.
        query: The question.
        points: The number of points, at most, evenly spaced.
        turns: The number of turns, at most: those closest to the query at one of the points.

    Raises:
        QueryError: The query is empty.
    """
    check_query(query)
    engine = seen._engine
    for _ in range(TRIES):
        try:
            with engine.store.snapshot():
                views = _views(engine, seen._view(), points)
                states = [engine.state(view) for view in views]
            vectors = [engine.reader.embed_queries(state, [query])[0] for state in states]
            return _compared(engine, views, vectors, turns)
        except HeadMoved:  # turns were purged in the meantime
            continue
    raise HeadMoved(f"{seen!r} keeps being purged while it is compared; try again later")


def _views(engine: Engine, view: View, points: int) -> list[View]:
    """Return the view and earlier ones of the same memory, oldest first."""
    places = sorted({int(seq) for seq in np.linspace(1, view.seq, points)}) if view.spans else []
    ends: dict[int, View] = {}
    for seq in places:
        earlier = engine.store.view(view.memory, seq=seq, time=view.time, added=view.added)
        if earlier.spans:  # seqs of purged turns end at the turn before them
            ends[earlier.spans[-1].last] = earlier
    return list(ends.values())


def _compared(engine: Engine, views: Sequence[View], vectors: Sequence[Vectors], most: int) -> Map:
    if not views:
        return Map([], [], [])
    store, index, newest = engine.store, engine.index, views[-1]
    pairs = list(zip(views, vectors, strict=True))
    with index.reading(newest), store.snapshot(newest):
        if store.count(newest) <= most:
            records = {record.seq: record for record in store.history(newest)}
        else:
            best: dict[int, float] = {}
            for view, vector in pairs:
                allowed, without = store.select(view, Filter())
                for seq, cosine in index.search(
                    view, vector, BEST, allowed=allowed, without=without
                ):
                    best[seq] = max(best.get(seq, -1.0), cosine)
            chosen = sorted(best, key=lambda seq: -best[seq])[:most]
            records = store.records(newest, chosen)
        seqs = sorted(records)
        columns = [
            index.score(view, vector, [seq for seq in seqs if seq <= view.seq])
            for view, vector in pairs
        ]
        ends = [view.spans[-1].last for view in views]
        ended = store.records(replace(newest, with_replaced=True), ends)
    return Map(
        [(end, ended[end].time if end in ended else None) for end in ends],
        [records[seq] for seq in seqs],
        [[_rounded(column.get(seq)) for column in columns] for seq in seqs],
    )


def _rounded(cosine: float | None) -> float | None:
    return None if cosine is None else round(cosine, 4)
