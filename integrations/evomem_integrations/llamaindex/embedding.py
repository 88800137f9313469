"""`EvoMemEmbedding`: an evomem encoder as LlamaIndex's `BaseEmbedding`, without its memory."""

from __future__ import annotations

import asyncio
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr

from evomem.encoder import Encoder
from evomem.plugins import load_encoder
from evomem.records import Turn
from evomem.state import State


class EvoMemEmbedding(BaseEmbedding):
    """Embeds every text with an empty memory.

    LlamaIndex embeds texts in batches, in parallel and from a cache, so texts have no order. The
    encoder therefore starts from an empty memory for each text. For evolvable embeddings use
    `EvoMemMemory` or `EvoMemRetriever`.
    """

    _encoder: Encoder | None = PrivateAttr(default=None)

    def __init__(self, encoder: str | Encoder | None = None, **fields: Any) -> None:
        """Wrap an encoder.

        Args:
            encoder: A name that `evomem.load_encoder` accepts, or an encoder such as `db.encoder`;
                to serialise the embedding, the encoder's name must be loadable.
            **fields: The fields of `BaseEmbedding`; `model_name` is the encoder's name.
        """
        if isinstance(encoder, str):
            fields["model_name"], encoder = encoder, None
        elif encoder is not None:
            fields["model_name"] = encoder.spec.name
        super().__init__(**fields)
        self._encoder = encoder or load_encoder(self.model_name)

    @classmethod
    def class_name(cls) -> str:
        """Return the name that LlamaIndex serialises."""
        return "EvoMemEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        encoder = self._loaded()
        state: State[Turn] = State.empty(encoder.spec)
        vector: list[float] = encoder.embed_queries(state, [query])[0].tolist()
        return vector

    def _get_text_embedding(self, text: str) -> list[float]:
        encoder = self._loaded()
        [reading] = encoder.read(State.empty(encoder.spec), [Turn(user=text)])
        vector: list[float] = reading.embedding.tolist()
        return vector

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    def _loaded(self) -> Encoder:
        if self._encoder is None:  # a serialised copy holds only the name
            self._encoder = load_encoder(self.model_name)
        return self._encoder
