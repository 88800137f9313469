"""The systems to compare: each reads a conversation and then ranks its turns for questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

import evomem
from benchmarks.systems.encoders import ReadHistory
from evomem import Encoder, Turn
from evomem._extras import require
from evomem.memory_view import Mode
from evomem.reranking import load_reranker
from evomem.static import fingerprint_of

Hit = int | str
"""A turn's index, or a text from a system that rewrites what it reads."""
Scores = npt.NDArray[np.float64]
Fuse = Callable[[Scores, Scores], Scores]


class Rank(Protocol):
    """Ranks the turns of the conversation that a system has read."""

    def __call__(self, question: str, k: int, place: int | None = None) -> Sequence[Hit]:
        """Return the `k` best hits, best first; of turns with equal scores, the newer one first.

        Args:
            question: The question.
            k: The maximum number of hits.
            place: The number of turns before the question (`Question.place`); later turns are no hits,
                and the question is embedded as if they had not been read. None: after the last turn.
        """
        ...


class Score(Protocol):
    """Scores the turns of the conversation that a system has read."""

    def __call__(self, question: str, place: int | None = None) -> Scores:
        """Return the score of every turn before the question, (N,); `place` as in `Rank`."""
        ...


class System(Protocol):
    """A retrieval system: one row of a table."""

    @property
    def fingerprint(self) -> str:
        """What its rankings depend on besides its name: weights, versions."""
        ...

    def index(self, turns: Sequence[Turn]) -> Rank:
        """Discard earlier turns, read `turns`, and return the function that ranks them."""
        ...


class Scorer(System, Protocol):
    """A system that scores every turn, so that its scores can be combined with another system's."""

    def scorer(self, turns: Sequence[Turn]) -> Score:
        """Read `turns`, and return the function that scores them."""
        ...


class Bm25:
    """BM25 by the library bm25s (k1 1.5, b 0.75), with English stemming and stop words."""

    def __init__(self) -> None:
        self._bm25s = require("bm25s", extra="benchmarks")
        self._stemmer = require("Stemmer", extra="benchmarks").Stemmer("english")
        self.fingerprint = f"bm25s {version('bm25s')}"

    def index(self, turns: Sequence[Turn]) -> Rank:
        """See `System.index`."""
        return _ranked(self.scorer(turns))

    def scorer(self, turns: Sequence[Turn]) -> Score:
        """See `Scorer.scorer`."""
        tokens = self._tokens([turn.text for turn in turns])

        @lru_cache(maxsize=1)  # questions at one place follow each other
        def index_before(place: int) -> Any:
            index = self._bm25s.BM25()
            index.index(tokens[:place], show_progress=False)
            return index

        def score(question: str, place: int | None = None) -> Scores:
            count = len(turns) if place is None else place
            words = self._tokens([question])[0]
            scores = index_before(count).get_scores(words) if words else [0.0] * count
            return np.asarray(scores, np.float64)

        return score

    def _tokens(self, texts: list[str]) -> Any:
        return self._bm25s.tokenize(
            texts,
            stopwords="en",
            stemmer=self._stemmer.stemWords,
            return_ids=False,
            show_progress=False,
        )


class Dense:
    """An encoder alone: cosines of the turns with the question."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.fingerprint = encoder.spec.fingerprint

    def index(self, turns: Sequence[Turn]) -> Rank:
        """See `System.index`."""
        return _ranked(self.scorer(turns))

    def scorer(self, turns: Sequence[Turn]) -> Score:
        """See `Scorer.scorer`."""
        history = ReadHistory(self._encoder, turns)

        def score(question: str, place: int | None = None) -> Scores:
            query = self._encoder.embed_queries(history.state(place), [question])[0]
            return np.asarray(history.vectors[:place] @ query, np.float64)

        return score


class Mixed:
    """Two systems whose scores are combined by `fuse`."""

    def __init__(self, first: Scorer, second: Scorer, fuse: Fuse) -> None:
        self._first, self._second, self._fuse = first, second, fuse
        self.fingerprint = f"{first.fingerprint} + {second.fingerprint}"

    def index(self, turns: Sequence[Turn]) -> Rank:
        """See `System.index`."""
        first, second = self._first.scorer(turns), self._second.scorer(turns)

        def score(question: str, place: int | None = None) -> Scores:
            return self._fuse(first(question, place), second(question, place))

        return _ranked(score)


class Recency:
    """The newest turns for every question, as with a sliding window."""

    fingerprint = ""

    def index(self, turns: Sequence[Turn]) -> Rank:
        """See `System.index`."""
        newest = range(len(turns) - 1, -1, -1)
        return lambda question, k, place=None: newest[_later(turns, place) :][:k]


class Full:
    """Every turn for every question, whatever `k` is: the whole history as context."""

    fingerprint = ""

    def index(self, turns: Sequence[Turn]) -> Rank:
        """See `System.index`."""
        newest = range(len(turns) - 1, -1, -1)
        return lambda question, k, place=None: newest[_later(turns, place) :]


class Shuffled:
    """A system that reads the turns in random order, which shows what their order is worth.

    No question has a place in that order: all are asked after the last turn, and later turns are left out.
    """

    SEED = 0

    def __init__(self, system: System) -> None:
        self._system = system
        self.fingerprint = f"shuffled by seed {self.SEED}: {system.fingerprint}"

    def index(self, turns: Sequence[Turn]) -> Rank:
        """See `System.index`. Rankings hold indices of the original order."""
        order = list(range(len(turns)))
        Random(self.SEED).shuffle(order)
        rank = self._system.index([turns[place] for place in order])

        def ranked(question: str, k: int, place: int | None = None) -> list[Hit]:
            hits = rank(question, k if place is None else len(turns))
            original = [order[hit] if isinstance(hit, int) else hit for hit in hits]
            return before(original, place)[:k]

        return ranked


class Evomem:
    """The product itself: turns are added to a memory, which is then searched in its final state.

    A message of the conversation is searched in the memory as it was before that message.
    """

    def __init__(self, encoder: Encoder, mode: Mode, reranker: str | None = None) -> None:
        self.encoder, self.mode = encoder, mode
        self._reranker = None if reranker is None else load_reranker(reranker)
        self._db: evomem.Database | None = None
        self.fingerprint = f"evomem {version('evomem-engine')}, {encoder.spec.fingerprint}"
        if reranker is not None:
            folder = Path(reranker).expanduser()
            self.fingerprint += f" + {fingerprint_of(folder) if folder.is_dir() else reranker}"

    def index(self, turns: Sequence[Turn]) -> Rank:
        """See `System.index`."""
        if self._db:
            self._db.close()
        self._db = evomem.open(":memory:", encoder=self.encoder, reranker=self._reranker)
        memory = self._db.memory("bench")
        memory.add_many(turns)

        def rank(question: str, k: int, place: int | None = None) -> list[Hit]:
            then = memory if place is None else memory.at(seq=place)
            rerank = self._reranker is not None
            return [hit.seq - 1 for hit in then.search(question, k, mode=self.mode, rerank=rerank)]

        return rank


def before(hits: Sequence[Hit], place: int | None) -> list[Hit]:
    """Return the hits that are turns before `place`; all of them if it is None.

    >>> before([4, 1, 3], 4)
    [1, 3]
    """
    return [hit for hit in hits if place is None or (isinstance(hit, int) and hit < place)]


def best(scores: Scores, k: int) -> list[int]:
    """Return the indices of the `k` highest scores, highest first; of equal scores, the later first.

    >>> best(np.array([0.5, 0.9, 0.5]), 2)
    [1, 2]
    """
    order: list[int] = np.lexsort((-np.arange(len(scores)), -scores))[:k].tolist()
    return order


def z_sum(cosine: Scores, lexical: Scores, share: float = 0.6) -> Scores:
    """Return the weighted sum of two scores, each scaled to mean 0 and deviation 1 over all turns."""

    def z(scores: Scores) -> Scores:
        standard: Scores = (scores - scores.mean()) / (scores.std() or 1.0)
        return standard

    return share * z(cosine) + (1 - share) * z(lexical)


def rrf(cosine: Scores, lexical: Scores, constant: int = 60) -> Scores:
    """Return the reciprocal rank fusion: 1 / (60 + rank), summed over both rankings."""
    total = np.zeros(len(cosine))
    for scores in (cosine, lexical):
        total[best(scores, len(scores))] += 1 / (constant + np.arange(1, len(scores) + 1))
    return total


def _ranked(score: Score) -> Rank:
    return lambda question, k, place=None: best(score(question, place), k)


def _later(turns: Sequence[Turn], place: int | None) -> int:
    """Return the number of turns after `place`."""
    return 0 if place is None else len(turns) - place
