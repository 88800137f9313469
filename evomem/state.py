"""The state of a memory at one point of its log: a bounded queue of latents.

The queue is a first-in-first-out list of the newest `capacity` latents. A turn is embedded with the
queue *before* it and then adds its own latents. Because both are stored with
the turn, the state after turn *t* is a slice of the log: nothing else is kept.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Generic, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Dtype = Literal["float32", "bfloat16", "float16"]

KEY_BYTES = 16
"""The length of a key of the digest chain."""

NO_PASSAGES: Vectors = np.zeros((0, 0), np.float32)


@dataclass(frozen=True, slots=True)
class Spec:
    """The properties of an encoder that a store needs."""

    name: str
    """How to load it again, such as `"static:all-MiniLM-L6-v2"`."""
    fingerprint: str
    """Hash of what determines its output: weights, tokenizer, formatting, chunk policy, dtype."""
    dim: int
    """D, the length of an embedding."""
    latents: int = 0
    """L, the number of latents a turn adds; 0 for an encoder without memory."""
    width: int = 0
    """H, the length of a latent."""
    capacity: int = 0
    """Latents in the queue (512 = 32 turns of 16 in the reference configuration)."""
    dtype: Dtype = "float32"
    """The precision latents are computed in, and therefore stored in without loss."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The result of reading one turn; stored in the turn's row."""

    embedding: Vectors
    """(D,) float32, unit length: the turn in the context of everything before it; for a text
    that is longer than the encoder reads at once, its beginning."""
    latents: Vectors
    """(L, H) float32: what the turn adds to the queue."""
    opens_chunk: bool = True
    """Whether the turn starts a new chunk (docs/reference/evoembedding-model.md, "Chunks"). A later turn of the same chunk sees
    the raw text of the earlier ones, so the boundary is part of the log."""
    passages: Vectors = field(default_factory=lambda: NO_PASSAGES)
    """(P, D) float32: the rest of a long text, passage by passage, each in the same context as
    `embedding`. Rows have a length of at most 1, and less if a passage counts for less than a
    whole turn. Empty if `embedding` covers the whole text."""

    @property
    def embeddings(self) -> Vectors:
        """(1 + P, D): all embeddings of the turn; the one closest to a query counts."""
        if not len(self.passages):
            return self.embedding[None]
        return np.concatenate([self.embedding[None], self.passages])


class Item(Protocol):
    """An item that can be read: a `Turn`, or its tokens."""

    @property
    def content(self) -> bytes:
        """The bytes that determine an encoder's output."""
        ...


T = TypeVar("T", bound=Item)


@dataclass(frozen=True, slots=True)
class State(Generic[T]):
    """What an encoder knows of the past. Immutable: reading returns a new state."""

    spec: Spec
    key: bytes
    """Digest of everything read so far; equal keys mean equal pasts, so caches may use it."""
    latents: Vectors
    """(k, H) float32, oldest first: the queue as the open chunk found it, then the chunk's own."""
    open: tuple[T, ...]
    """The turns of the open chunk, oldest first."""

    @classmethod
    def empty(cls, spec: Spec) -> State[T]:
        """Return the state of a memory that has read nothing."""
        return cls(spec, b"", np.zeros((0, spec.width), np.float32), ())

    @property
    def queue(self) -> Vectors:
        """The newest `capacity` latents, (≤ capacity, H), with which a text is embedded."""
        return self.latents[max(0, len(self.latents) - self.spec.capacity) :]

    @property
    def chunk_queue(self) -> Vectors:
        """The queue as it stood when the open chunk began, (≤ capacity, H)."""
        before = len(self.latents) - len(self.open) * self.spec.latents
        return self.latents[max(0, before - self.spec.capacity) : before]

    def after(self, item: T, reading: Reading) -> State[T]:
        """Return the state after `item`; the oldest latents drop out."""
        open_turns = (item,) if reading.opens_chunk else (*self.open, item)
        keep = self.spec.capacity + len(open_turns) * self.spec.latents
        latents = np.concatenate([self.latents, reading.latents])
        return State(
            self.spec, digest(self.key, item), latents[max(0, len(latents) - keep) :], open_turns
        )


def digest(key: bytes, item: Item) -> bytes:
    """Return the next link of the digest chain, `KEY_BYTES` long."""
    return hashlib.blake2b(key + item.content, digest_size=KEY_BYTES).digest()
