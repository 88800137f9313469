"""`EvoMemRetriever`: a memory as a LlamaIndex retriever."""

from __future__ import annotations

from typing import Any

from llama_index.core.callbacks import CallbackManager
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from evomem.memory_view import MemoryView, Mode
from evomem.records import Hit

FACTS = ("seq", "role", "speaker", "session")  # for programs; a model reads time and metadata


class EvoMemRetriever(BaseRetriever):
    """Finds the turns of a memory that answer a question; see `MemoryView.search`.

    A node's text and id are the turn's; its metadata is the turn's with `time` (ISO 8601), `seq`,
    `role`, `speaker` and `session` added to it. Only the question's text counts: embeddings that a
    `QueryBundle` brings along are another model's.
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
            k: How many nodes at most.
            mode: As in `MemoryView.search`.
            callback_manager: LlamaIndex's.
            verbose: LlamaIndex's.
            **filters: Of `MemoryView.search`: `at`, `since`, `until`, `session`, `speaker`,
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
    facts = {
        "time": record.time.isoformat(),
        "seq": record.seq,
        "role": record.turn.role,
        "speaker": record.turn.speaker,
        "session": record.turn.session,
    }
    node = TextNode(
        id_=record.id,
        text=hit.text,
        metadata={**record.turn.metadata, **facts},
        excluded_llm_metadata_keys=list(FACTS),
        excluded_embed_metadata_keys=[*record.turn.metadata, *facts],
    )
    return NodeWithScore(node=node, score=hit.score)
