"""What is compared: each system reads a conversation and then ranks its turns for questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

import evomem
from evomem import Encoder, Turn
from evomem._extras import require
from evomem.memory_view import Mode
from evomem.state import State, Vectors

Rank = Callable[[str, int], Sequence[int]]
"""(question, k) → indices of the k best turns, best first; of equals, the newer one first."""
Scores = npt.NDArray[np.float64]


class System(Protocol):
    """One way of reading, and one or more ways of asking."""

    @property
    def rows(self) -> tuple[str, ...]:
        """Names of the ways of asking: the rows of a table."""
        ...

    def index(self, turns: Sequence[Turn]) -> Mapping[str, Rank]:
        """Forget everything, read `turns`, and return a way of asking for every row."""
        ...


class Bm25:
    """BM25 by the library bm25s (k1 1.5, b 0.75): English stemming and stop words."""

    rows = ("bm25",)

    def __init__(self) -> None:
        self._bm25s = require("bm25s", extra="benchmarks")
        self._stemmer = require("Stemmer", extra="benchmarks").Stemmer("english")

    def index(self, turns: Sequence[Turn]) -> Mapping[str, Rank]:
        """See `System.index`."""
        score = self.scorer(turns)
        return {"bm25": lambda question, k: best(score(question), k)}

    def scorer(self, turns: Sequence[Turn]) -> Callable[[str], Scores]:
        """Return what gives the BM25 of every turn for a question."""
        index = self._bm25s.BM25()
        index.index(self._tokens([turn.text for turn in turns]), show_progress=False)

        def score(question: str) -> Scores:
            words = self._tokens([question])[0]
            return np.asarray(index.get_scores(words) if words else [0.0] * len(turns), np.float64)

        return score

    def _tokens(self, texts: list[str]) -> Any:
        return self._bm25s.tokenize(
            texts,
            stopwords="en",
            stemmer=self._stemmer.stemWords,
            return_ids=False,
            show_progress=False,
        )


class Static:
    """Plain vector search with an encoder that ignores the past, alone and mixed with BM25."""

    ROWS = ("static", "hybrid", "rrf")

    def __init__(self, encoder: Encoder, rows: tuple[str, ...] = ROWS) -> None:
        self.rows = rows
        self._encoder = encoder
        self._bm25 = Bm25()
        self._past: State[Turn] = State.empty(encoder.spec)

    def index(self, turns: Sequence[Turn]) -> Mapping[str, Rank]:
        """See `System.index`."""
        readings = self._encoder.read(self._past, turns)
        vectors: Vectors = np.stack([reading.embedding for reading in readings])  # (N, D)
        lexical = self._bm25.scorer(turns)

        def cosine(question: str) -> Scores:
            query = self._encoder.embed_queries(self._past, [question])[0]
            return np.asarray(vectors @ query, np.float64)  # (N,)

        ranks: dict[str, Rank] = {
            "static": lambda question, k: best(cosine(question), k),
            "hybrid": lambda question, k: best(z_sum(cosine(question), lexical(question)), k),
            "rrf": lambda question, k: best(rrf(cosine(question), lexical(question)), k),
        }
        return {row: ranks[row] for row in self.rows}


class Evomem:
    """The product's own path: turns added to a memory, questions asked of it in its final state."""

    MODES: tuple[Mode, ...] = ("evolvable", "lexical", "hybrid")
    VECTOR_MODES: tuple[Mode, ...] = ("evolvable", "hybrid")
    """Those that depend on the encoder; the other need not be repeated for a second one."""

    def __init__(self, encoder: Encoder, modes: tuple[Mode, ...] = MODES) -> None:
        self._encoder = encoder
        self._db: evomem.Database | None = None
        name = _short(encoder.spec.name)
        self._names = {
            mode: "evomem lexical" if mode == "lexical" else f"evomem {mode} {name}"
            for mode in modes
        }
        self.rows = tuple(self._names.values())

    def index(self, turns: Sequence[Turn]) -> Mapping[str, Rank]:
        """See `System.index`."""
        if self._db:
            self._db.close()
        self._db = evomem.open(":memory:", encoder=self._encoder)
        memory = self._db.memory("bench")
        memory.add_many(turns)

        def asked(mode: Mode) -> Rank:
            return lambda question, k: [
                hit.seq - 1 for hit in memory.search(question, k, mode=mode)
            ]

        return {name: asked(mode) for mode, name in self._names.items()}


def best(scores: Scores, k: int) -> list[int]:
    """Return the indices of the `k` highest scores, of equals the later one.

    >>> best(np.array([0.5, 0.9, 0.5]), 2)
    [1, 2]
    """
    order: list[int] = np.lexsort((-np.arange(len(scores)), -scores))[:k].tolist()
    return order


def z_sum(cosine: Scores, lexical: Scores, share: float = 0.6) -> Scores:
    """Mix two scores after giving both mean 0 and deviation 1 over all turns."""

    def z(scores: Scores) -> Scores:
        standard: Scores = (scores - scores.mean()) / (scores.std() or 1.0)
        return standard

    return share * z(cosine) + (1 - share) * z(lexical)


def rrf(cosine: Scores, lexical: Scores, constant: int = 60) -> Scores:
    """Reciprocal rank fusion: 1 / (60 + rank), summed over both rankings."""
    total = np.zeros(len(cosine))
    for scores in (cosine, lexical):
        total[best(scores, len(scores))] += 1 / (constant + np.arange(1, len(scores) + 1))
    return total


def _short(name: str) -> str:
    kind, _, argument = name.partition(":")
    return f"{kind}:{argument.rstrip('/').rpartition('/')[2]}" if argument else kind
