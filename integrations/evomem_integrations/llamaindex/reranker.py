"""`EvoMemReranker`: reranks nodes by reading them one after another, as a memory does."""

from __future__ import annotations

from typing import Any

from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle

from evomem.encoder import Encoder
from evomem.plugins import load_encoder
from evomem.reranking import EncoderReranker


class EvoMemReranker(BaseNodePostprocessor):
    """Reads the nodes in order, embeds the question after them, and keeps the best nodes.

    Each node is embedded in the context of the nodes before it, the question in the context of all
    nodes. Nodes are ordered by their metadata `order_by`; nodes without it come first, in the order
    they are given. Scores are cosines. Nothing is stored.
    """

    encoder: str = Field(description="A name that evomem.load_encoder accepts.")
    top_n: int = Field(default=5, ge=1, description="The number of nodes to keep.")
    order_by: str = Field(default="time", description="The metadata key to order nodes by.")

    _encoder: Encoder | None = PrivateAttr(default=None)

    @classmethod
    def class_name(cls) -> str:
        """Return the name that LlamaIndex serialises."""
        return "EvoMemReranker"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise ValueError("reranking needs a question: pass query_bundle or query_str")
        if self._encoder is None:
            self._encoder = load_encoder(self.encoder)
        ordered = sorted(nodes, key=self._sort_key)
        ordered = [node for node in ordered if node.node.get_content(MetadataMode.NONE).strip()]
        texts = [node.node.get_content(MetadataMode.NONE) for node in ordered]
        scores = EncoderReranker(self._encoder).scores(query_bundle.query_str, texts)
        scored = [
            NodeWithScore(node=node.node, score=float(score))
            for node, score in zip(ordered, scores, strict=True)
        ]
        return sorted(scored, key=lambda node: -(node.score or 0.0))[: self.top_n]

    def _sort_key(self, node: NodeWithScore) -> tuple[bool, Any]:
        has_key = self.order_by in node.node.metadata
        return has_key, node.node.metadata[self.order_by] if has_key else 0
