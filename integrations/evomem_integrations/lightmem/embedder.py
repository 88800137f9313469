"""LightMem's text embedder.

LightMem embeds a text first and then inserts or searches with the vector, so its store never sees
a query. Here the "vector" keeps its text: `EmbeddingRetriever` reads the text as a turn or searches
with it, and the numbers are computed only on access.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, overload

import numpy as np

from evomem import Encoder
from evomem._forking import reset_in_child
from evomem.state import State, Vectors
from evomem_integrations.documents import as_encoder


class TextVector(Sequence[float]):
    """A text as a vector, returned by `TextEmbedder.embed`.

    Its numbers, computed on first access, embed the text as a query with an empty memory, which is
    enough to compare two texts. `EmbeddingRetriever` uses the text instead.
    """

    def __init__(self, text: str, encoder: Encoder) -> None:
        self.text = text
        self._encoder = encoder
        self._values: list[float] | None = None

    def __len__(self) -> int:
        return self._encoder.spec.dim

    @overload
    def __getitem__(self, index: int) -> float: ...
    @overload
    def __getitem__(self, index: slice) -> list[float]: ...
    def __getitem__(self, index: int | slice) -> float | list[float]:
        if self._values is None:
            self._values = _embedded(self.text, self._encoder).tolist()
        return self._values[index]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.array(self[:], dtype or np.float32)


class TextEmbedder:
    """LightMem's embedder, for use with `EmbeddingRetriever`."""

    encoder: str | Encoder | None = None
    """The encoder that reads texts; `install` sets it."""

    def __init__(self, config: Any = None) -> None:
        """Keep LightMem's configuration; the model that it names is not used."""
        self.config = config
        self._encoder = as_encoder(self.encoder)
        self._make_lock()
        reset_in_child(self._make_lock)
        self._calls = self._tokens = 0

    def embed(self, text: str) -> Sequence[float]:
        """Return the text as a vector; nothing is read or written."""
        self._count(text)
        return TextVector(text, self._encoder)

    def get_stats(self) -> dict[str, int]:
        """Return the number of calls and of the encoder's tokens in their texts."""
        return {"total_calls": self._calls, "total_tokens": self._tokens}

    def _make_lock(self) -> None:
        self._lock = threading.Lock()

    def _count(self, text: str) -> None:
        tokens = self._encoder.count_tokens(text)
        with self._lock:
            self._calls, self._tokens = self._calls + 1, self._tokens + tokens


class PlainTextEmbedder(TextEmbedder):
    """LightMem's embedder for use with its own vector store: vectors do not depend on a memory."""

    def embed(self, text: str) -> list[float]:
        """Return the text's embedding as a query with an empty memory."""
        self._count(text)
        values: list[float] = _embedded(text, self._encoder).tolist()
        return values


def _embedded(text: str, encoder: Encoder) -> Vectors:
    vector: Vectors = encoder.embed_queries(State.empty(encoder.spec), [text])[0]
    return vector
