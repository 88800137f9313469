"""Vectors for memories of any size: real texts where there are enough, mixtures of them beyond."""

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

TURNS, QUESTIONS = 30_000, 500
SHORT, LONG = 20, 400  # characters: shorter texts are left out, longer ones cut
MIXED, NOISE = 4, 0.3


def seeds(path: Path, corpora: Path | None) -> tuple[Vectors, Vectors]:
    """Return embeddings of turns and of questions, (n, D) each; kept in `path` for the next run.

    They are made by all-MiniLM-L6-v2, which takes minutes.

    Raises:
        InputError: They are not kept there, and there are no corpora (`*.jsonl.xz`) to read.
    """
    if not path.exists():
        turns: dict[str, None] = {}
        questions: dict[str, None] = {}
        for file in sorted(corpora.glob("*.jsonl.xz")) if corpora else ():
            for line in lzma.open(file, "rt", encoding="utf-8"):
                stream = json.loads(line)
                texts = [turn["text"] for turn in stream["turns"]]
                turns.update(dict.fromkeys(text[:LONG] for text in texts if len(text) >= SHORT))
                questions.update(
                    dict.fromkeys(query["question"] for query in stream.get("queries", ()))
                )
        if not turns or not questions:
            raise InputError(f"{path} is not there: name --corpora with turns and questions")
        kinds = {"turns": (list(turns), TURNS), "questions": (list(questions), QUESTIONS)}
        drawn = random.Random(0)
        for texts, _ in kinds.values():
            drawn.shuffle(texts)
        encoder = load_encoder("static:all-MiniLM-L6-v2")
        state: State[Turn] = State.empty(encoder.spec)
        np.savez(
            path,
            allow_pickle=False,
            **{
                name: encoder.embed_queries(state, texts[:most])
                for name, (texts, most) in kinds.items()
            },
        )
    with np.load(path) as cached:
        return cached["turns"], cached["questions"]


def grown(seeds: Vectors, count: int, seed: int = 0) -> Vectors:
    """Return `count` unit vectors, (count, D): the seeds, then mixtures of two that are alike.

    The second is the nearest of four drawn at random; some noise comes on top. Grown threefold so,
    a sample needs as many cells of an inverted file for the neighbours of a question as a real one
    of the same size does, and its neighbours score alike (docs/measurements/scale.md).
    """
    rng = np.random.default_rng(seed)
    vectors = np.empty((count, seeds.shape[1]), np.float32)
    vectors[: len(seeds)] = seeds[:count]
    for start in range(len(seeds), count, 2**14):
        rows = min(2**14, count - start)
        first = seeds[rng.integers(0, len(seeds), rows)]
        others = seeds[rng.integers(0, len(seeds), (rows, MIXED))]
        alike = np.einsum("nd,nmd->nm", first, others).argmax(1)
        share = rng.uniform(0.5, 1, (rows, 1)).astype(np.float32)
        mixed = unit(share * first + (1 - share) * others[np.arange(rows), alike])
        noise = rng.standard_normal(mixed.shape, np.float32) / np.sqrt(mixed.shape[1])
        vectors[start : start + rows] = unit(mixed + np.float32(NOISE) * noise)
    return vectors


def unit(vectors: Vectors) -> Vectors:
    """Return vectors scaled to length 1."""
    scaled: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


def nearest(vectors: Vectors, queries: Vectors, k: int) -> list[set[int]]:
    """Return the places of the `k` nearest vectors of every query, by NumPy."""
    best = np.zeros((len(queries), 0), np.float32)
    places = np.zeros((len(queries), 0), np.int64)
    for start in range(0, len(vectors), 2**16):
        scores = queries @ vectors[start : start + 2**16].T
        here = np.broadcast_to(np.arange(start, start + scores.shape[1]), scores.shape)
        best, places = np.hstack([best, scores]), np.hstack([places, here])
        chosen = np.argpartition(-best, k - 1)[:, :k]
        best, places = np.take_along_axis(best, chosen, 1), np.take_along_axis(places, chosen, 1)
    return [set(row.tolist()) for row in places]


class Stored:
    """An `Encoder` that knows every vector: a turn's by its id, a query's by its text."""

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
    """Made-up texts of any length, with words as frequent as in English: stop words, then Zipf."""

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        letters = list("etaoinshrdlu")
        words = [
            "".join(self._rng.choice(letters, self._rng.integers(3, 9))) for _ in range(20_000)
        ]
        frequency = 1 / (np.arange(len(words)) + 50)
        drawn = self._rng.choice(words, (20_000, 9), p=frequency / frequency.sum())
        self._sentences = [
            " of the ".join((*sentence[:6], " ".join(sentence[6:]))) for sentence in drawn
        ]

    def text(self, tokens: int) -> str:
        """Return a text of about so many tokens; a sentence has 25, of which 9 are no stop words."""
        places = self._rng.integers(0, len(self._sentences), max(1, tokens // 25))
        return ". ".join(self._sentences[place] for place in places.tolist())

    def question(self) -> str:
        """Return four words, none of them a stop word."""
        return " ".join(self.text(1).split()[:12:3])
