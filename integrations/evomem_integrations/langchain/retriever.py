"""`EvoMemRetriever`: a memory as a LangChain retriever."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from langchain_core.callbacks import (
    AsyncCallbackManagerForRetrieverRun,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict

from evomem.memory_view import MemoryView, Mode
from evomem.records import Hit


class EvoMemRetriever(BaseRetriever):
    """Finds the turns of a memory that answer a question; see `MemoryView.search`.

    Every field except `memory` can be overridden in a call: `retriever.invoke("...", k=1)`. A document
    has the turn's text and `id`. Its metadata is the turn's metadata with `id`, `seq`, `time` (ISO
    8601), `session`, `speaker`, `role` and `score` added.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    memory: MemoryView
    """The memory to search: a `Memory`, or a view of its past from `Memory.at`."""
    k: int = 4
    """How many documents at most."""
    mode: Mode = "evolvable"
    at: int | datetime | str | None = None
    since: datetime | str | None = None
    until: datetime | str | None = None
    session: str | None = None
    role: str | None = None
    now: datetime | str | None = None
    zone: str | None = None
    where: Mapping[str, Any] | None = None
    """Conditions on metadata. (`metadata` of a LangChain retriever is passed to its callbacks.)"""

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **overrides: Any
    ) -> list[Document]:
        return [_document(hit) for hit in self.memory.search(query, **self._options(overrides))]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **overrides: Any
    ) -> list[Document]:
        hits = await self.memory.asearch(query, **self._options(overrides))
        return [_document(hit) for hit in hits]

    def _options(self, overrides: Mapping[str, Any]) -> dict[str, Any]:
        names = ("k", "mode", "at", "since", "until", "session", "role", "now", "zone", "where")
        return {**{name: getattr(self, name) for name in names}, **overrides}


def _document(hit: Hit) -> Document:
    record = hit.record
    fields = {
        "id": record.id,
        "seq": record.seq,
        "time": record.time.isoformat(),
        "session": record.turn.session,
        "speaker": record.turn.speaker,
        "role": record.turn.role,
        "score": hit.score,
    }
    return Document(
        page_content=hit.text, id=record.id, metadata={**record.turn.metadata, **fields}
    )
