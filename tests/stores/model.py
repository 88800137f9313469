"""What memories must do, written down as plainly as possible: lists, and no database."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from evomem.encoder import HashEncoder
from evomem.records import Turn
from evomem.state import State
from evomem_stores.log.rows import searched
from evomem_stores.words.bm25 import K1, B
from evomem_stores.words.terms import query_terms, terms


@dataclass
class Entry:
    """A turn and its place in a log."""

    seq: int
    turn: Turn
    said: int
    """The same for a turn and its copies in forks, and for nothing else."""
    hidden: bool = False


class ModelMemory:
    """One log."""

    def __init__(self, encoder: HashEncoder) -> None:
        self.encoder = encoder
        self.entries: list[Entry] = []
        self.head = 0

    def add(self, turn: Turn, said: int) -> int:
        """Append a turn; return its seq."""
        self.head += 1
        self.entries.append(Entry(self.head, turn, said))
        return self.head

    def entry(self, id: str) -> Entry | None:
        """Return the entry with an id, hidden or not."""
        return next((entry for entry in self.entries if entry.turn.id == id), None)

    def at(self, seq: int) -> ModelMemory:
        """Return a copy that ends at `seq`; what is deleted now is deleted in it."""
        past = ModelMemory(self.encoder)
        past.entries = [replace(entry) for entry in self.entries if entry.seq <= seq]
        past.head = seq
        return past

    def said_by(self, time: datetime) -> ModelMemory:
        """Return a copy that ends at the last turn said by `time`, without those said later."""
        early = [entry.seq for entry in self.entries if entry.turn.time <= time]  # type: ignore[operator]
        past = self.at(max(early, default=0))
        for entry in past.entries:
            entry.hidden = entry.hidden or entry.seq not in early
        return past

    def purge(self, *said: int) -> None:
        """Forget turns."""
        self.entries = [entry for entry in self.entries if entry.said not in said]

    def visible(self) -> list[Entry]:
        """Return what may be seen."""
        return [entry for entry in self.entries if not entry.hidden]

    def state(self) -> State[Turn]:
        """Return the state of an encoder that read the turns, and only them, in one go."""
        state: State[Turn] = State.empty(self.encoder.spec)
        turns = [entry.turn for entry in self.entries]
        for turn, reading in zip(turns, self.encoder.read(state, turns), strict=True):
            state = state.after(turn, reading)
        return state

    def evolvable(self, query: str, allowed: Iterable[Entry]) -> dict[int, float]:
        """Return the cosine of each allowed turn."""
        turns = [entry.turn for entry in self.entries]
        readings = self.encoder.read(State.empty(self.encoder.spec), turns)
        vector = self.encoder.embed_queries(self.state(), [query])[0].astype(np.float64)
        seqs = {entry.seq for entry in allowed}
        return {
            entry.seq: float(np.float32((reading.embedding.astype(np.float64) * vector).sum()))
            for entry, reading in zip(self.entries, readings, strict=True)
            if entry.seq in seqs
        }

    def lexical(self, query: str, allowed: Iterable[Entry]) -> dict[int, float]:
        """Return the BM25 of each allowed turn; what is visible counts, filtered out or not."""
        words = {entry.seq: Counter(_terms(entry.turn)) for entry in self.visible()}
        scores = bm25(query_terms(query), words)
        seqs = {entry.seq for entry in allowed}
        return {seq: score for seq, score in scores.items() if seq in seqs}


def bm25(query: Mapping[str, float], words: Mapping[int, Counter[str]]) -> dict[int, float]:
    """Return the BM25 of the turns with these words, as Lucene has it; those without any are left out."""
    total = sum(count.total() for count in words.values())
    scores: dict[int, float] = {}
    for term, factor in query.items():
        having = sum(1 for count in words.values() if count[term])
        weight = factor * math.log(1 + (len(words) - having + 0.5) / (having + 0.5))
        for seq, count in words.items():
            if count[term]:
                length = B * count.total() * len(words) / total
                part = count[term] / (count[term] + K1 * (1 - B + length))
                scores[seq] = scores.get(seq, 0.0) + weight * part
    return scores


def _terms(turn: Turn) -> list[str]:
    return terms(searched(turn.speaker, turn.user, turn.assistant))
