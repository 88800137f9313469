"""`EmbeddingsEncoder`: any LangChain embedding model as an evomem encoder, without a memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from langchain_core.embeddings import Embeddings

from evomem.errors import EncoderError
from evomem.records import Turn
from evomem.rows import norms
from evomem.state import Reading, Spec, State, Vectors


class EmbeddingsEncoder:
    """An evomem encoder that uses a LangChain embedding model. It has no memory.

    A one-sided turn without a speaker is embedded as its plain text, so that a document and a query
    with the same text have the same vector. Other turns are embedded as evomem shows them. Vectors
    are normalised to length 1.

    To reopen a database that it wrote, call `evomem.open(path, EmbeddingsEncoder(model))`: evomem
    cannot create the model from a name.
    """

    def __init__(
        self, embeddings: Embeddings, *, name: str | None = None, dim: int | None = None
    ) -> None:
        """Wrap a model.

        Args:
            embeddings: The model.
            name: Identifies the model, so that a database is not read with a different one; derived
                from its class and its `model` or `model_name` if not given.
            dim: The dimension of its vectors; determined by embedding a word if not given.
        """
        self.embeddings = embeddings
        self._name = name or _name(embeddings)
        self._dim = dim

    @cached_property
    def spec(self) -> Spec:
        """Name, fingerprint and shapes."""
        dim = self._dim or len(self.embeddings.embed_query("length"))
        identity = json.dumps(["langchain-1", self._name, dim]).encode()
        fingerprint = hashlib.blake2b(identity, digest_size=16).hexdigest()
        return Spec(f"langchain:{self._name}", fingerprint, dim)

    def read(self, state: State[Turn], turns: Sequence[Turn]) -> list[Reading]:
        """See `Encoder.read`; the state is not used."""
        if not turns:
            return []
        vectors = self._unit(self.embeddings.embed_documents([_text(turn) for turn in turns]))
        if len(vectors) != len(turns):
            raise EncoderError(
                f"{self._name} returned {len(vectors)} vectors for {len(turns)} texts"
            )
        return [Reading(vector, np.zeros((0, 0), np.float32)) for vector in vectors]

    def embed_queries(self, state: State[Turn], queries: Sequence[str]) -> Vectors:
        """See `Encoder.embed_queries`; the state is not used."""
        return self._unit([self.embeddings.embed_query(query) for query in queries])

    def count_tokens(self, text: str) -> int:
        """Return an estimate, one token per four characters: LangChain models do not count tokens."""
        return -(-len(text) // 4)

    def _unit(self, rows: Sequence[Sequence[float]]) -> Vectors:
        dim = self.spec.dim
        if any(len(row) != dim for row in rows):
            raise EncoderError(
                f"{self._name} returned vectors of length {sorted({len(row) for row in rows})}, "
                f"expected {dim}"
            )
        vectors = np.array(rows, np.float64).reshape(len(rows), dim)
        lengths = norms(vectors)
        if not lengths.all():  # a zero vector has no direction: use a fixed one
            vectors[lengths == 0, :1] = lengths[lengths == 0] = 1.0
        vectors /= lengths[:, None]
        return vectors.astype(np.float32)


def _text(turn: Turn) -> str:
    plain = not turn.speaker and turn.role != "exchange"
    return (turn.user or turn.assistant) if plain else turn.text


def _name(embeddings: Embeddings) -> str:
    kind = type(embeddings)
    model = getattr(embeddings, "model", None) or getattr(embeddings, "model_name", None)
    name = f"{kind.__module__}.{kind.__qualname__}"
    return f"{name}:{model}" if isinstance(model, str) else name
