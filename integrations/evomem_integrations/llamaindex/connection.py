"""`Connection`: which memory an adapter uses, in fields that can be serialised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.bridge.pydantic import BaseModel, Field, PrivateAttr

from evomem.errors import DuplicateTurn, NotFound
from evomem.memory import Memory
from evomem.memory_view import Mode
from evomem.records import Turn
from evomem_integrations._databases import Handle, share
from evomem_integrations.llamaindex.turns import SAID, shown


class Connection(BaseModel):
    """A memory by its address, and how it is searched. It is opened when it is first needed."""

    location: str = Field(description="The database, as in evomem.open.")
    namespace: tuple[str, ...] = Field(description="The memory, such as ('acme', 'alice').")
    encoder: str | None = Field(
        default=None, description="For a new database; an existing one knows its own."
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="Further options of evomem.open, such as device."
    )
    k: int = Field(default=10, ge=1, description="How many turns are remembered at most.")
    max_tokens: int = Field(default=2000, ge=1, description="How long they may be together.")
    mode: Mode = Field(default="evolvable", description="How they are found.")

    _handle: Handle | None = PrivateAttr(default=None)

    @property
    def memory(self) -> Memory:
        """The memory itself: to search, import, delete, purge."""
        if self._handle is None:
            self._handle = share(self.location, self.encoder, **self.options)
        return self._handle.database.memory(*self.namespace)

    async def _recall(
        self, query: str, messages: Sequence[ChatMessage], session: str | None
    ) -> str:
        """Return the turns that answer `query` as text, without what `messages` show anyway."""
        return await self.memory.acontext(
            query,
            max_tokens=self.max_tokens,
            k=self.k,
            mode=self.mode,
            where={SAID: {"$nin": shown(messages, session)}},
        )

    async def _commit(self, turns: Sequence[Turn], grown: Sequence[Turn] = ()) -> None:
        """Write turns that the memory does not hold yet; the first takes the place of `grown`."""
        memory = self.memory
        for place, turn in enumerate(turns):
            old = grown[0].id if grown and not place else None
            try:
                await memory.aadd(
                    turn.user or turn.assistant,
                    role="user" if turn.user else "assistant",
                    reply=(turn.assistant or None) if turn.user else None,
                    id=turn.id,
                    session=turn.session,
                    metadata=turn.metadata,
                    supersedes=old,
                )
            except (DuplicateTurn, NotFound):  # ids are made of texts: it was deleted, and stays so
                continue
