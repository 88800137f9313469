"""The retriever of A-MEM's evaluation code (`memory_layer.SimpleEmbeddingRetriever`).

It knows notes by position: the i-th text is the i-th note, and a search returns positions.
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
    """Texts in memory, found by position. `model_name` is accepted and not used."""

    encoder: str | Encoder | None = None
    """What reads texts if the constructor is not given an encoder; `amem.install` sets it."""

    def __init__(
        self, model_name: str | None = None, *, encoder: str | Encoder | None = None
    ) -> None:
        """Begin without texts; `encoder` reads them, the default one if not given."""
        self.corpus: list[str] = []
        self.document_ids: dict[str, int] = {}
        self._documents = Documents(InMemory, encoder or self.encoder, "amem")
        self.model = self._documents.encoder

    def add_documents(self, documents: Sequence[str]) -> None:
        """Read texts, in order, after the existing ones."""
        self._documents.memory.add_many([Turn(user=text) for text in documents])
        for text in documents:
            self.document_ids[text] = len(self.corpus)
            self.corpus.append(text)

    def search(self, query: str, k: int = 5) -> Positions | list[int]:
        """Return the positions of the `k` best texts, best first; of all of them if `k` is 0.

        An empty list where there is no text, as the original.
        """
        if not self.corpus:
            return []
        hits = self._documents.search(query, k or len(self.corpus))
        return np.array([hit.seq - 1 for hit in hits], np.int64)

    def save(self, retriever_cache_file: str, retriever_cache_embeddings_file: str) -> None:
        """Write the texts to the first file, and which encoder read them; the second is not used."""
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
        """Return a retriever that has read the texts of a file written by `save`, in their order.

        Raises:
            StoreError: The file was not written by `save`; it may be the original's pickle.
            FingerprintMismatch: Another encoder wrote it.
        """
        try:
            cache = json.loads(Path(retriever_cache_file).read_bytes())
            written, name, corpus = cache["fingerprint"], cache["encoder"], cache["corpus"]
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{retriever_cache_file} was not written by evomem (A-MEM's own caches hold another "
                "model's vectors): delete the cache folder and build the memories again"
            ) from error
        if written != self.model.spec.fingerprint:
            raise FingerprintMismatch(
                f"{retriever_cache_file} was written by the encoder {name!r}, not by "
                f"{self.model.spec.name!r}: install that one, or delete the cache folder"
            )
        loaded = type(self)(encoder=self.model)
        loaded.add_documents(corpus)
        self.__dict__.update(loaded.__dict__)
        return self

    @classmethod
    def load_from_local_memory(
        cls, memories: Mapping[str, Any], model_name: str | None = None
    ) -> SimpleEmbeddingRetriever:
        """Return a retriever that has read A-MEM's notes: what was said, then what is said of it."""
        retriever = cls(model_name)
        retriever.add_documents(
            [
                " ".join([note.content, ",", note.context, *note.keywords, *note.tags])
                for note in memories.values()
            ]
        )
        return retriever
