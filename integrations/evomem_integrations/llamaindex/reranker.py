"""`EvoMemReranker`: orders nodes by reading them one after another, as a memory would."""

from __future__ import annotations

from typing import Any

from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle

from evomem.encoder import Encoder
from evomem.plugins import load_encoder
from evomem.reranking import EncoderReranker


class EvoMemReranker(BaseNodePostprocessor):
    """Reads the nodes as a story, asks the question after it, and keeps the best answers.

    Each node is embedded in the context of those before it, the question in the context of all.
    The story is told in the order of the nodes' metadata `order_by`; nodes that lack it come first,
    in the order they are given. Scores are cosines. Nothing is stored.
    """

    encoder: str = Field(description="What evomem.load_encoder takes.")
    top_n: int = Field(default=5, ge=1, description="How many nodes are kept.")
    order_by: str = Field(default="time", description="Metadata that tells what came first.")

    _encoder: Encoder | None = PrivateAttr(default=None)

    @classmethod
    def class_name(cls) -> str:
        """Return the name that LlamaIndex serialises."""
        return "EvoMemReranker"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise ValueError("reranking needs the question: give query_bundle or query_str")
        if self._encoder is None:
            self._encoder = load_encoder(self.encoder)
        story = sorted(nodes, key=self._place)
        told = [node for node in story if node.node.get_content(MetadataMode.NONE).strip()]
        texts = [node.node.get_content(MetadataMode.NONE) for node in told]
        scores = EncoderReranker(self._encoder).scores(query_bundle.query_str, texts)
        scored = [
            NodeWithScore(node=node.node, score=float(score))
            for node, score in zip(told, scores, strict=True)
        ]
        return sorted(scored, key=lambda node: -(node.score or 0.0))[: self.top_n]

    def _place(self, node: NodeWithScore) -> tuple[bool, Any]:
        known = self.order_by in node.node.metadata
        return known, node.node.metadata[self.order_by] if known else 0
