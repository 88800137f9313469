"""Vectors for memories of any size: those of real texts, followed by mixtures of them."""

from __future__ import annotations

import json
import lzma
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evomem.errors import InputError
from evomem.plugins import load_encoder
from evomem.records import Turn
from evomem.state import Reading, Spec, State, Vectors

MAX_TURNS, MAX_QUESTIONS = 30_000, 500
MIN_CHARS, MAX_CHARS = 20, 400  # shorter texts are left out, longer ones are cut
CANDIDATES, NOISE = (
    4,
    0.3,
)  # of a mixture: how many candidates for its second vector, how much noise


def seeds(path: Path, corpora: Path | None) -> tuple[Vectors, Vectors]:
    """Return embeddings of turns and of questions, (n, D) each; they are cached in `path`.

    all-MiniLM-L6-v2 computes them, which takes minutes.

    Raises:
        InputError: There is no cache, and there are no corpora (`*.jsonl.xz`) to read.
    """
    if not path.exists():
        turns: dict[str, None] = {}
        questions: dict[str, None] = {}
        for file in sorted(corpora.glob("*.jsonl.xz")) if corpora else ():
            for line in lzma.open(file, "rt", encoding="utf-8"):
                stream = json.loads(line)
                texts = [turn["text"] for turn in stream["turns"]]
                turns.update(
                    dict.fromkeys(text[:MAX_CHARS] for text in texts if len(text) >= MIN_CHARS)
                )
                questions.update(
                    dict.fromkeys(query["question"] for query in stream.get("queries", ()))
                )
        if not turns or not questions:
            raise InputError(
                f"{path} does not exist: pass --corpora, a folder of streams with turns and questions"
            )
        kinds = {"turns": (list(turns), MAX_TURNS), "questions": (list(questions), MAX_QUESTIONS)}
        rng = random.Random(0)
        for texts, _ in kinds.values():
            rng.shuffle(texts)
        encoder = load_encoder("static:all-MiniLM-L6-v2")
        state: State[Turn] = State.empty(encoder.spec)
        np.savez(
            path,
            allow_pickle=False,
            **{
                name: encoder.embed_queries(state, texts[:limit])
                for name, (texts, limit) in kinds.items()
            },
        )
    with np.load(path) as cached:
        return cached["turns"], cached["questions"]


def grown(seeds: Vectors, count: int, seed: int = 0) -> Vectors:
    """Return `count` unit vectors, (count, D): the seeds, then mixtures of two similar seeds.

    The first seed of a mixture is random, the second is the one nearest to it among four random seeds;
    noise is added. A sample that is grown threefold in this way needs as many cells of an inverted file
    to find the neighbours of a question as a real sample of the same size, and its neighbours have
    similar scores (docs/measurements/scale.md).
    """
    rng = np.random.default_rng(seed)
    vectors = np.empty((count, seeds.shape[1]), np.float32)
    vectors[: len(seeds)] = seeds[:count]
    for start in range(len(seeds), count, 2**14):
        rows = min(2**14, count - start)
        first = seeds[rng.integers(0, len(seeds), rows)]
        others = seeds[rng.integers(0, len(seeds), (rows, CANDIDATES))]
        similar = np.einsum("nd,nmd->nm", first, others).argmax(1)
        share = rng.uniform(0.5, 1, (rows, 1)).astype(np.float32)
        mixed = unit(share * first + (1 - share) * others[np.arange(rows), similar])
        noise = rng.standard_normal(mixed.shape, np.float32) / np.sqrt(mixed.shape[1])
        vectors[start : start + rows] = unit(mixed + np.float32(NOISE) * noise)
    return vectors


def unit(vectors: Vectors) -> Vectors:
    """Return the vectors scaled to length 1."""
    scaled: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


def nearest(vectors: Vectors, queries: Vectors, k: int) -> list[set[int]]:
    """Return the indices of the `k` nearest vectors of every query, by exact search."""
    best = np.zeros((len(queries), 0), np.float32)
    places = np.zeros((len(queries), 0), np.int64)
    for start in range(0, len(vectors), 2**16):
        scores = queries @ vectors[start : start + 2**16].T
        indices = np.broadcast_to(np.arange(start, start + scores.shape[1]), scores.shape)
        best, places = np.hstack([best, scores]), np.hstack([places, indices])
        top = np.argpartition(-best, k - 1)[:, :k]
        best, places = np.take_along_axis(best, top, 1), np.take_along_axis(places, top, 1)
    return [set(row.tolist()) for row in places]


class Stored:
    """An `Encoder` that looks up vectors, of turns by id and of queries by text."""

    def __init__(self, turns: Vectors, queries: dict[str, Vectors]) -> None:
        self._turns, self._queries = turns, queries
        self.spec = Spec("stored", "stored", dim=turns.shape[1])

    def read(self, state: State[Turn], turns: Sequence[Turn]) -> list[Reading]:
        """See `Encoder.read`."""
        nothing = np.zeros((0, 0), np.float32)
        return [Reading(self._turns[int(turn.id or 0)], nothing) for turn in turns]

    def embed_queries(self, state: State[Turn], queries: Sequence[str]) -> Vectors:
        """See `Encoder.embed_queries`."""
        return np.stack([self._queries[query] for query in queries])

    def count_tokens(self, text: str) -> int:
        """See `Encoder.count_tokens`."""
        return len(text.split()) * 4 // 3


class Texts:
    """Generates texts of any length with English word frequencies: stop words, and Zipf's law."""

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        letters = list("etaoinshrdlu")
        words = [
            "".join(self._rng.choice(letters, self._rng.integers(3, 9))) for _ in range(20_000)
        ]
        frequency = 1 / (np.arange(len(words)) + 50)
        content = self._rng.choice(words, (20_000, 9), p=frequency / frequency.sum())
        self._sentences = [
            " of the ".join((*sentence[:6], " ".join(sentence[6:]))) for sentence in content
        ]

    def text(self, tokens: int) -> str:
        """Return a text of about `tokens` tokens; a sentence has 25, 9 of them content words."""
        places = self._rng.integers(0, len(self._sentences), max(1, tokens // 25))
        return ". ".join(self._sentences[place] for place in places.tolist())

    def question(self) -> str:
        """Return four content words."""
        return " ".join(self.text(1).split()[:12:3])
