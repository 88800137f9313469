"""`EvoMemEmbeddings`: an evomem encoder as LangChain's `Embeddings`, without its memory."""

from __future__ import annotations

from langchain_core.embeddings import Embeddings

from evomem.encoder import Encoder
from evomem.plugins import load_encoder
from evomem.records import Turn
from evomem.state import State


class EvoMemEmbeddings(Embeddings):
    """Embeds every text as the first one ever read.

    LangChain's interface has no place for earlier texts, so the encoder starts without a memory for
    each text. For evolvable embeddings use `EvoMemRetriever` or `EvoMemVectorStore`.
    """

    def __init__(self, encoder: str | Encoder) -> None:
        """Wrap an encoder, or load one.

        Args:
            encoder: An encoder, or what `evomem.load_encoder` takes.

        Raises:
            EncoderError: There is no such encoder.
        """
        self.encoder = load_encoder(encoder) if isinstance(encoder, str) else encoder

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed texts as turns of a user, each of them alone.

        Raises:
            TurnError: A text is empty.
        """
        turns = [Turn(user=text) for text in texts]
        spec = self.encoder.spec
        state: State[Turn] = State.empty(spec)
        if spec.capacity == 0:  # nothing is handed from turn to turn: read them together
            readings = self.encoder.read(state, turns)
        else:
            readings = [self.encoder.read(state, [turn])[0] for turn in turns]
        return [reading.embedding.tolist() for reading in readings]

    def embed_query(self, text: str) -> list[float]:
        """Embed a question, as it is asked of an empty memory."""
        state: State[Turn] = State.empty(self.encoder.spec)
        vector: list[float] = self.encoder.embed_queries(state, [text])[0].tolist()
        return vector
