"""The encoder contract, and a deterministic encoder for tests and documentation.

An encoder turns a text and a state into an embedding, and a turn and a state into new latents.
It keeps no hidden state about a memory: losing its caches never changes a result.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np

from evomem.errors import EncoderError
from evomem.records import Turn
from evomem.state import Reading, Spec, State, Vectors

T = TypeVar("T")
Job = tuple[State[Turn], Sequence[T]]
"""A memory's state, with turns to read after it, or queries to embed in it."""


class Encoder(Protocol):
    """Turns text into vectors, given the state of a memory, which it never changes."""

    @property
    def spec(self) -> Spec:
        """Name, fingerprint and shapes."""
        ...

    def read(self, state: State[Turn], turns: Sequence[Turn]) -> list[Reading]:
        """Read `turns` in order, continuing from `state`; return one reading per turn.

        Any split of the turns over calls gives the same readings (within the encoder's stated
        tolerance), as does a state rebuilt from the log.
        """
        ...

    def embed_queries(self, state: State[Turn], queries: Sequence[str]) -> Vectors:
        """Embed `queries` given `state`, which is not changed: (Q, D) float32, unit rows."""
        ...

    def count_tokens(self, text: str) -> int:
        """Return the length of `text` in the encoder's tokens."""
        ...


class BatchEncoder(Encoder, Protocol):
    """An encoder that can do the work of several memories in one call.

    A job's result does not depend on the other jobs (within the encoder's stated tolerance).
    `evomem.batching` combines jobs; an encoder without these methods is called for one job at a time.
    """

    @property
    def batch_tokens(self) -> int:
        """The target number of tokens per call: enough to be efficient, and no more.

        Queries that arrive during a call wait for it.
        """
        ...

    @property
    def parallel(self) -> bool:
        """Whether two calls may run at the same time without waiting for each other.

        If so, queries are embedded while turns are read.
        """
        ...

    def measure(self, turn: Turn) -> int:
        """Return the approximate number of tokens of `turn`.

        Called on the caller's thread while other threads compute; the result may be cached.
        """
        ...

    def read_batch(self, jobs: Sequence[Job[Turn]]) -> list[list[Reading]]:
        """Call `read` for each state and its turns."""
        ...

    def embed_batch(self, jobs: Sequence[Job[str]]) -> list[Vectors]:
        """Call `embed_queries` for each state and its queries."""
        ...


@runtime_checkable
class Generator(Encoder, Protocol):
    """An encoder whose model can also write: retrieval and answer come from one model."""

    def generate(self, state: State[Turn], question: str, limit: int) -> str:
        """Return an answer of at most `limit` tokens, given the queue of `state` and no other text.

        The most likely token is taken each time, so that equal states give equal answers.
        """
        ...


def opens_chunk(sizes: Sequence[int], size: int, *, turns: int, tokens: int) -> bool:
    """Return whether a turn of `size` tokens starts a new chunk after a chunk with turns of `sizes`.

    Greedy, like the reference (docs/reference/evoembedding-model.md, "Chunks"): at most `turns` turns
    and `tokens` tokens; the first turn of a chunk may have any length.

    >>> opens_chunk([], 9000, turns=16, tokens=2048), opens_chunk([2000], 48, turns=16, tokens=2048)
    (True, False)
    >>> opens_chunk([2000], 49, turns=16, tokens=2048)
    True
    """
    return not sizes or len(sizes) >= turns or sum(sizes) + size > tokens


class HashEncoder:
    """Words hashed into buckets, with a small recurrent memory: deterministic, no download.

    Similar texts have similar embeddings, and it does everything that a recurrent encoder does, on a
    small scale: one latent per turn, a queue of 8, chunks of at most 4 turns or 64 words, embeddings
    that depend on the queue. For tests, doctests and notebooks, not for real use.
    """

    CHUNK_TURNS = 4
    CHUNK_WORDS = 64

    def __init__(self, dim: int = 256) -> None:
        self._spec = Spec(
            name="hash" if dim == 256 else f"hash:{dim}",
            fingerprint=f"hash-1-{dim}",
            dim=dim,
            latents=1,
            width=dim,
            capacity=8,
        )

    @property
    def spec(self) -> Spec:
        """Name, fingerprint and shapes."""
        return self._spec

    def read(self, state: State[Turn], turns: Sequence[Turn]) -> list[Reading]:
        """See `Encoder.read`. Exact: bitwise equal for any split."""
        readings = []
        for turn in turns:
            words = self._words(turn.text)
            opens = opens_chunk(
                [self.count_tokens(t.text) for t in state.open],
                self.count_tokens(turn.text),
                turns=self.CHUNK_TURNS,
                tokens=self.CHUNK_WORDS,
            )
            seen = [] if opens else [self._words(t.text) for t in state.open]
            past = state.queue if opens else state.chunk_queue
            latent = _unit(words + 0.3 * _mean(past) + 0.3 * sum(seen, np.zeros_like(words)))
            readings.append(Reading(self._embed(words, state), latent[None], opens))
            state = state.after(turn, readings[-1])
        return readings

    def embed_queries(self, state: State[Turn], queries: Sequence[str]) -> Vectors:
        """See `Encoder.embed_queries`."""
        rows = [self._embed(self._words(query), state) for query in queries]
        return np.stack(rows) if rows else np.zeros((0, self._spec.dim), np.float32)

    def count_tokens(self, text: str) -> int:
        """Return the number of words."""
        return len(_WORD.findall(text))

    def _embed(self, words: Vectors, state: State[Turn]) -> Vectors:
        return _unit(words + 0.05 * _mean(state.queue))

    def _words(self, text: str) -> Vectors:
        vector = np.zeros(self._spec.dim, np.float32)
        for word in _WORD.findall(text.lower()):
            value = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")
            vector[value % self._spec.dim] += 1.0 if value >> 63 else -1.0
        return _unit(vector)


_WORD = re.compile(r"\w+")


def _mean(rows: Vectors) -> Vectors:
    return rows.mean(axis=0) if len(rows) else np.zeros(rows.shape[1], np.float32)


def _unit(vector: Vectors) -> Vectors:
    length = float(np.linalg.norm(vector))
    if length == 0.0:  # no words, or words that cancel out: use a fixed direction
        vector = np.zeros_like(vector)
        vector[0] = length = 1.0
    return (vector / length).astype(np.float32)


def load_hash(
    argument: str = "", *, device: str | None = None, dtype: str | None = None
) -> Encoder:
    """Create a `HashEncoder`; the entry point `hash`, or `hash:<dim>`.

    Raises:
        EncoderError: The dimension is not a number, or the precision is not float32.
    """
    if dtype not in (None, "float32"):
        raise EncoderError(f"the hashing encoder computes in float32, not in {dtype!r}")
    if not argument:
        return HashEncoder()
    if not argument.isdecimal() or int(argument) < 1:
        raise EncoderError(
            f"hash:{argument} is not an encoder: write a dimension, as in 'hash:256'"
        )
    return HashEncoder(int(argument))
