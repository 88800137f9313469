"""The retriever of A-MEM's evaluation code (`memory_layer.SimpleEmbeddingRetriever`).

It identifies notes by position: the i-th text is the i-th note, and a search returns positions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evomem import Encoder, Turn
from evomem.errors import FingerprintMismatch, StoreError
from evomem_integrations.documents import Documents, InMemory

FORMAT = "evomem notes 1"
Positions = npt.NDArray[np.int64]


class SimpleEmbeddingRetriever:
    """Texts in memory, identified by position. `model_name` is accepted and ignored."""

    encoder: str | Encoder | None = None
    """The encoder to use if the constructor gets none; `amem.install` sets it."""

    def __init__(
        self, model_name: str | None = None, *, encoder: str | Encoder | None = None
    ) -> None:
        """Start without texts; `encoder` reads them, the default encoder if not given."""
        self.corpus: list[str] = []
        self.document_ids: dict[str, int] = {}
        self._documents = Documents(InMemory, encoder or self.encoder, "amem")
        self.model = self._documents.encoder

    def add_documents(self, documents: Sequence[str]) -> None:
        """Append texts, in order."""
        self._documents.memory.add_many([Turn(user=text) for text in documents])
        for text in documents:
            self.document_ids[text] = len(self.corpus)
            self.corpus.append(text)

    def search(self, query: str, k: int = 5) -> Positions | list[int]:
        """Return the positions of the `k` best texts, best first; of all texts if `k` is 0.

        Like the original, it returns an empty list if there is no text.
        """
        if not self.corpus:
            return []
        hits = self._documents.search(query, k or len(self.corpus))
        return np.array([hit.seq - 1 for hit in hits], np.int64)

    def save(self, retriever_cache_file: str, retriever_cache_embeddings_file: str) -> None:
        """Write the texts and the encoder's name to the first file; the second is not used."""
        cache = {
            "format": FORMAT,
            "encoder": self.model.spec.name,
            "fingerprint": self.model.spec.fingerprint,
            "corpus": self.corpus,
        }
        Path(retriever_cache_file).write_text(json.dumps(cache), "utf-8")

    def load(
        self, retriever_cache_file: str, retriever_cache_embeddings_file: str
    ) -> SimpleEmbeddingRetriever:
        """Read the texts of a file written by `save`, in their order; return the retriever.

        Raises:
            StoreError: The file was not written by `save`; it may be a pickle of A-MEM.
            FingerprintMismatch: It was written with a different encoder.
        """
        try:
            cache = json.loads(Path(retriever_cache_file).read_bytes())
            fingerprint, name, corpus = cache["fingerprint"], cache["encoder"], cache["corpus"]
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{retriever_cache_file} was not written by evomem (A-MEM's own caches hold another "
                "model's vectors): delete the cache folder and build the memories again"
            ) from error
        if fingerprint != self.model.spec.fingerprint:
            raise FingerprintMismatch(
                f"{retriever_cache_file} was written with the encoder {name!r}, not "
                f"{self.model.spec.name!r}: install the encoder {name!r}, or delete the cache folder"
            )
        loaded = type(self)(encoder=self.model)
        loaded.add_documents(corpus)
        self.__dict__.update(loaded.__dict__)
        return self

    @classmethod
    def load_from_local_memory(
        cls, memories: Mapping[str, Any], model_name: str | None = None
    ) -> SimpleEmbeddingRetriever:
        """Return a retriever of A-MEM's notes: the content, then context, keywords and tags."""
        retriever = cls(model_name)
        retriever.add_documents(
            [
                " ".join([note.content, ",", note.context, *note.keywords, *note.tags])
                for note in memories.values()
            ]
        )
        return retriever
