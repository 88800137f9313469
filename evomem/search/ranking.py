"""Ranking: pure functions from scores to an order, and the parts of a hybrid score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from evomem.records import Record, TimeAndSession
from evomem.search.current import (
    BEST,
    LIFT,
    Values,
    Wish,
    same_thing,
    standing_out,
    telling,
    wish_of,
    wished,
)
from evomem.times.when import When


class Look(Protocol):
    """Reads more about the candidates."""

    def records(self, seqs: Sequence[int]) -> Sequence[Record]:
        """Return these turns, in this order."""
        ...

    def likeness(self, seq: int, seqs: Sequence[int]) -> Mapping[int, float]:
        """Return the cosines of these turns with that one."""
        ...


WEIGHTS: Mapping[str, float] = {
    "evolvable": 1.0,
    "lexical": 0.22,
    "time": 1.0,
    "event": 0.31,
    "session": 0.29,
    "beside": 0.09,
}
"""The weights of the parts of a hybrid score, learned on REALTALK (docs/measurements/benchmarks.md).

Not learned, since no question there counts from an event: that of `event`, the one of a long span.
The learned weight of `time` is that of long spans (`evomem.times.when.BROAD`). There were too few
questions about a day to learn a weight; 1 was chosen on generated ones.
"""


def top_k(scores: Mapping[int, float], k: int) -> list[tuple[int, float]]:
    """Return the `k` best (seq, score), best first; of equals, the newer turn.

    >>> top_k({1: 0.5, 2: 0.9, 3: 0.5}, 2)
    [(2, 0.9), (3, 0.5)]
    """
    return sorted(scores.items(), key=lambda item: (-item[1], -item[0]))[:k]


def fuse(
    query: str,
    when: When,
    cosines: Mapping[int, float],
    words: Mapping[int, float],
    timeline: Mapping[int, TimeAndSession],
    beside: Mapping[int, tuple[int, int]],
    k: int,
    trust: Mapping[int, float] | None = None,
    look: Look | None = None,
) -> list[tuple[int, dict[str, float]]]:
    """Return the `k` best of `timeline` with the parts of their scores; a score is the sum of its parts.

    If the question asks for the newest or the oldest of several turns about the same thing, this
    turn is ranked first (`evomem.search.current`); the part `current` is the amount by which its
    score was raised.

    Args:
        query: The question.
        when: The time that the query names.
        cosines: The cosine of each of `timeline`.
        words: BM25 of those that share a word with the query.
        timeline: The candidates and the turns next to them.
        beside: The seqs directly before and after each candidate, 0 for none.
        k: The maximum number of results.
        trust: The weights of turns that have one. Such turns are never ranked first because of their
            time.
        look: Reads the best turns; None ignores whether the question asks for the newest or oldest.
    """
    signal_values = signals(when, cosines, words, timeline, beside)
    parts = {name: WEIGHTS[name] * values for name, values in signal_values.items()}
    if trust:
        weights = np.array([trust.get(seq, 1.0) for seq in timeline])
        parts["trust"] = penalty(np.sum(list(parts.values()), axis=0), weights)
    wish = wish_of(query, dated=bool(when)) if look else None
    if wish and look:
        parts["current"] = _current(
            wish, query, signal_values, parts, list(timeline), trust or {}, look
        )
    scores = np.sum(list(parts.values()), axis=0)
    times = [moment.time.timestamp() for moment in timeline.values()]
    order = np.lexsort((list(timeline), times, scores))[::-1][:k].tolist()  # ties: latest first
    seqs = list(timeline)
    return [
        (seqs[n], {name: float(values[n]) for name, values in parts.items() if values[n]})
        for n in order
    ]


def _current(
    wish: Wish,
    query: str,
    signal_values: Mapping[str, Values],
    parts: Mapping[str, Values],
    seqs: Sequence[int],
    trust: Mapping[int, float],
    look: Look,
) -> Values:
    """Return the amount to add to each score so that the wanted turn ranks first."""
    added = np.zeros(len(seqs))
    scores = np.sum(list(parts.values()), axis=0)
    order = np.lexsort((seqs, scores))[::-1].tolist()
    places = [place for place in order if seqs[place] not in trust][:BEST]
    if len(places) < 2:
        return added
    best = [seqs[place] for place in places]
    records = look.records(best)
    turns = [record.turn for record in records]
    near = signal_values["evolvable"][places]
    subject = telling(query, turns, near)
    if subject is None:
        return added
    likeness = look.likeness(best[subject], best)
    alike = standing_out(np.array([likeness.get(seq, 0.0) for seq in best]))
    same = same_thing(query, turns, subject, near, signal_values["lexical"][places], alike)
    wanted = wished(wish, query, records, same)
    if wanted is not None and places[wanted] != order[0]:
        added[places[wanted]] = scores[order[0]] + LIFT - scores[places[wanted]]
    return added


N = TypeVar("N", float, npt.NDArray[np.float64])


def penalty(score: N, weight: N) -> N:
    """Return what is added to the score of a turn whose source has this weight; 0 for a weight of 1.

    A share of the score's size, so that a negative score becomes lower, too.

    >>> penalty(0.8, 0.5), penalty(-0.8, 0.5)
    (-0.4, -0.4)
    """
    return -(1 - weight) * abs(score)


def signals(
    when: When,
    cosines: Mapping[int, float],
    words: Mapping[int, float],
    timeline: Mapping[int, TimeAndSession],
    beside: Mapping[int, tuple[int, int]],
) -> dict[str, npt.NDArray[np.float64]]:
    """Return the signals of every turn in `timeline`, in its order, before they are weighted.

    - `evolvable`, `lexical`: cosine and BM25, each as a share of its best for this query: cosines
      of one query lie close together and BM25 has no upper end, so neither can be added as it is.
    - `time`: the turn was said at a time or in a session that the query names, or in the week after
      it, or it writes the day that the query names (`When.share`).
    - `event`: the turn tells of something that the query counts from ("a year before I moved").
    - `session`: the best share of cosine in the turn's session, since turns of one session are
      related.
    - `beside`: the sum of the shares of BM25 of the turns directly before and after it: a reply
      seldom repeats the words of the question.

    Args:
        when: The time that the query names.
        cosines: The cosine of each of `timeline`.
        words: BM25 of those that share a word with the query; the best turn is one of them.
        timeline: The candidates, and turns next to them; only those of one session are neighbours.
        beside: The seqs directly before and after each candidate, 0 for none.
    """
    cosine, word = _best(cosines), _best(words)
    near = [cosines[seq] / cosine for seq in timeline]
    share = [words.get(seq, 0.0) / word for seq in timeline]
    sessions: dict[str | None, float] = {}
    for (_, name), value in zip(timeline.values(), near, strict=True):
        sessions[name] = max(value, sessions.get(name, value))
    sessions[None] = 0.0
    place = {seq: number for number, seq in enumerate(timeline)}
    neighbours = np.zeros(len(timeline))
    pairs = {
        pair for seq, (before, after) in beside.items() for pair in ((before, seq), (seq, after))
    }
    for left, right in pairs:
        if (
            left in timeline
            and right in timeline
            and timeline[left].session == timeline[right].session
        ):
            neighbours[place[left]] += share[place[right]]
            neighbours[place[right]] += share[place[left]]
    return {
        "evolvable": np.array(near),
        "lexical": np.array(share),
        "time": np.array([when.share(turn, seq) for seq, turn in timeline.items()]),
        "event": np.array([float(seq in when.events) for seq in timeline]),
        "session": np.array([sessions[name] for _, name in timeline.values()]),
        "beside": neighbours,
    }


def _best(scores: Mapping[int, float]) -> float:
    """Return the highest score, or 1 where none is positive."""
    best = max(scores.values(), default=0.0)
    return best if best > 0 else 1.0
