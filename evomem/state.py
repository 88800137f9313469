"""The state of a memory at one point of its log: a bounded queue of latents.

The queue is a first-in-first-out list of the newest `capacity` latents. A turn is embedded with the
queue *before* it and then adds its own latents. Both are stored with the turn, so the state after
turn *t* is a slice of the log.
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
    """The name by which `load_encoder` loads it, such as `"static:all-MiniLM-L6-v2"`."""
    fingerprint: str
    """A hash over what determines its output: weights, tokenizer, formatting, chunk policy, dtype."""
    dim: int
    """D, the length of an embedding."""
    latents: int = 0
    """L, the number of latents a turn adds; 0 for an encoder without memory."""
    width: int = 0
    """H, the length of a latent."""
    capacity: int = 0
    """Latents in the queue (512 = 32 turns of 16 in the reference configuration)."""
    dtype: Dtype = "float32"
    """The precision in which latents are computed and, without loss, stored."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The result of reading one turn; stored in the turn's row."""

    embedding: Vectors
    """(D,) float32, unit length: the turn in the context of everything before it. For a text that is
    too long for the encoder, its beginning."""
    latents: Vectors
    """(L, H) float32: the latents that the turn adds to the queue."""
    opens_chunk: bool = True
    """Whether the turn starts a new chunk (docs/reference/evoembedding-model.md, "Chunks"). The log
    records this, since later turns of the chunk see the raw text of the earlier ones."""
    passages: Vectors = field(default_factory=lambda: NO_PASSAGES)
    """(P, D) float32: the rest of a long text, passage by passage, in the same context as `embedding`.
    Rows have a length of at most 1; a shorter one gives a passage less weight than a turn. Empty if
    `embedding` covers the whole text."""

    @property
    def embeddings(self) -> Vectors:
        """(1 + P, D): all embeddings of the turn; its score is that of the closest to the query."""
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
    """An encoder's knowledge of the past. Immutable: reading returns a new state."""

    spec: Spec
    key: bytes
    """A digest of everything read so far; equal keys mean equal pasts, so it can be a cache key."""
    latents: Vectors
    """(k, H) float32, oldest first: the queue before the open chunk, then the chunk's latents."""
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
        """Return the state after `item`, without the oldest latents."""
        open_turns = (item,) if reading.opens_chunk else (*self.open, item)
        keep = self.spec.capacity + len(open_turns) * self.spec.latents
        latents = np.concatenate([self.latents, reading.latents])
        return State(
            self.spec, digest(self.key, item), latents[max(0, len(latents) - keep) :], open_turns
        )


def digest(key: bytes, item: Item) -> bytes:
    """Return the next link of the digest chain, `KEY_BYTES` long."""
    return hashlib.blake2b(key + item.content, digest_size=KEY_BYTES).digest()
