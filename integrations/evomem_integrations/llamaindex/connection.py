"""`Connection`: which memory an adapter uses, in fields that can be serialised."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.bridge.pydantic import BaseModel, Field, PrivateAttr

from evomem.errors import DuplicateTurn
from evomem.memory import Memory
from evomem.memory_view import Mode
from evomem.records import Turn
from evomem_integrations._databases import Handle, share
from evomem_integrations.llamaindex.log import Unshown
from evomem_integrations.llamaindex.turns import shown

QUESTIONS = 64  # for which it is kept, until they are answered, which turns were shown


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
    turn_source: str | None = Field(
        default=None, description="The source of the turns that are written (Turn.source)."
    )

    _handle: Handle | None = PrivateAttr(default=None)
    _opened_for: tuple[Any, ...] | None = PrivateAttr(default=None)
    _shown: dict[tuple[object, ...], tuple[str, ...]] = PrivateAttr(default_factory=dict)

    @property
    def memory(self) -> Memory:
        """The memory itself: to search, import, delete, purge."""
        return self._open().database.memory(*self.namespace)

    def _open(self) -> Handle:
        wanted = (self.location, self.encoder, dict(self.options))
        if self._handle is None or self._opened_for != wanted:  # fields can be changed
            self._handle = share(self.location, self.encoder, **self.options)
            self._opened_for = wanted
        return self._handle

    async def _recall(
        self, query: str, messages: Sequence[ChatMessage], session: str | None
    ) -> str:
        """Return the turns that answer `query` as text, without what `messages` show anyway."""
        unshown = Unshown(self.memory, shown(messages, session))
        text = await unshown.acontext(query, max_tokens=self.max_tokens, k=self.k, mode=self.mode)
        self._shown[self._question(session, query)] = text.ids
        while len(self._shown) > QUESTIONS:
            self._shown.pop(next(iter(self._shown)))
        return text

    async def _commit(self, turns: Sequence[Turn]) -> None:
        """Write turns that the memory does not hold yet."""
        if not turns:
            return
        labelled = [
            replace(
                turn,
                source=self.turn_source,
                recalled=self._shown.pop(self._question(turn.session, turn.user), ()),
            )
            for turn in turns
        ]
        memory = self.memory
        with contextlib.suppress(DuplicateTurn):
            await memory.aadd_many(labelled)
            return
        for turn in labelled:
            # Ids are made of texts: a turn that is refused was deleted, and stays so.
            with contextlib.suppress(DuplicateTurn):
                await memory.aadd_many([turn])

    def _question(self, session: str | None, text: str) -> tuple[object, ...]:
        """Return what the turns that were shown for a question are kept under."""
        return self.location, tuple(self.namespace), session, text
