"""`EvoMemEmbeddings`: an evomem encoder as LangChain's `Embeddings`, without its memory."""

from __future__ import annotations

from langchain_core.embeddings import Embeddings

from evomem.encoder import Encoder
from evomem.plugins import load_encoder
from evomem.records import Turn
from evomem.state import State


class EvoMemEmbeddings(Embeddings):
    """Embeds every text with an empty memory.

    LangChain's interface has no notion of earlier texts, so the encoder starts from an empty memory
    for each text. For evolvable embeddings use `EvoMemRetriever` or `EvoMemVectorStore`.
    """

    def __init__(self, encoder: str | Encoder) -> None:
        """Wrap an encoder, or load one.

        Args:
            encoder: An encoder, or a name that `evomem.load_encoder` accepts.

        Raises:
            EncoderError: There is no encoder of this name.
        """
        self.encoder = load_encoder(encoder) if isinstance(encoder, str) else encoder

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed texts as turns of a user, each with an empty memory.

        Raises:
            TurnError: A text is empty.
        """
        turns = [Turn(user=text) for text in texts]
        spec = self.encoder.spec
        state: State[Turn] = State.empty(spec)
        if spec.capacity == 0:  # the encoder keeps no state between turns: read them in one batch
            readings = self.encoder.read(state, turns)
        else:
            readings = [self.encoder.read(state, [turn])[0] for turn in turns]
        return [reading.embedding.tolist() for reading in readings]

    def embed_query(self, text: str) -> list[float]:
        """Embed a question with an empty memory."""
        state: State[Turn] = State.empty(self.encoder.spec)
        vector: list[float] = self.encoder.embed_queries(state, [text])[0].tolist()
        return vector
