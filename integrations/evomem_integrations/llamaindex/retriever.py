"""`EvoMemRetriever`: a memory as a LlamaIndex retriever."""

from __future__ import annotations

from typing import Any

from llama_index.core.callbacks import CallbackManager
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from evomem.memory_view import MemoryView, Mode
from evomem.records import Hit

HIDDEN_FROM_LLM = ("seq", "role", "speaker", "session")  # metadata for programs


class EvoMemRetriever(BaseRetriever):
    """Finds the turns of a memory that answer a question; see `MemoryView.search`.

    A node has the turn's text and id. Its metadata is the turn's metadata with `time` (ISO 8601),
    `seq`, `role`, `speaker` and `session` added. Only the question's text is used: embeddings in a
    `QueryBundle` come from another model.
    """

    def __init__(
        self,
        memory: MemoryView,
        *,
        k: int = 5,
        mode: Mode = "evolvable",
        callback_manager: CallbackManager | None = None,
        verbose: bool = False,
        **filters: Any,
    ) -> None:
        """Choose the memory and how it is searched.

        Args:
            memory: The memory to search: a `Memory`, or a view of its past from `Memory.at`.
            k: The maximum number of nodes.
            mode: As in `MemoryView.search`.
            callback_manager: As in LlamaIndex's `BaseRetriever`.
            verbose: As in LlamaIndex's `BaseRetriever`.
            **filters: For `MemoryView.search`: `at`, `since`, `until`, `session`, `speaker`,
                `role`, `where`, `source`, `not_source`, `trust`, `now`, `zone`.
        """
        super().__init__(callback_manager=callback_manager, verbose=verbose)
        self.memory = memory
        self._search: dict[str, Any] = {"k": k, "mode": mode, **filters}

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [_node(hit) for hit in self.memory.search(query_bundle.query_str, **self._search)]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        hits = await self.memory.asearch(query_bundle.query_str, **self._search)
        return [_node(hit) for hit in hits]


def _node(hit: Hit) -> NodeWithScore:
    record = hit.record
    fields = {
        "time": record.time.isoformat(),
        "seq": record.seq,
        "role": record.turn.role,
        "speaker": record.turn.speaker,
        "session": record.turn.session,
    }
    node = TextNode(
        id_=record.id,
        text=hit.text,
        metadata={**record.turn.metadata, **fields},
        excluded_llm_metadata_keys=list(HIDDEN_FROM_LLM),
        excluded_embed_metadata_keys=[*record.turn.metadata, *fields],
    )
    return NodeWithScore(node=node, score=hit.score)
