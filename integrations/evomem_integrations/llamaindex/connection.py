"""`Connection`: which memory an adapter uses, in fields that can be serialised."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.bridge.pydantic import BaseModel, Field, PrivateAttr

from evomem.errors import DuplicateTurn, NotFound
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
    zone: str | None = Field(
        default=None,
        description="The user's time zone: days are counted and times shown in it (UTC if not given).",
    )
    turn_source: str | None = Field(
        default=None, description="The source of the turns that are written (Turn.source)."
    )

    _handle: Handle | None = PrivateAttr(default=None)
    _opened_for: tuple[Any, ...] | None = PrivateAttr(default=None)
    _shown: dict[tuple[object, ...], tuple[str, ...]] = PrivateAttr(default_factory=dict)

    @property
    def memory(self) -> Memory:
        """The memory itself: to search, import, delete, purge."""
        return self._open().database.memory(*self.namespace, zone=self.zone)

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

    async def _commit(self, turns: Sequence[Turn], grown: Sequence[Turn] = ()) -> None:
        """Write turns that the memory does not hold yet; the first takes the place of `grown`."""
        labelled = [
            replace(turn, source=self.turn_source, recalled=self._take_shown(turn))
            for turn in turns
        ]
        memory = self.memory
        if grown and labelled:
            await self._grow(labelled.pop(0), grown[0])
        if not labelled:
            return
        with contextlib.suppress(DuplicateTurn):
            await memory.aadd_many(labelled)
            return
        for turn in labelled:
            # Ids are made of texts: a turn that is refused was deleted, and stays so.
            with contextlib.suppress(DuplicateTurn):
                await memory.aadd_many([turn])

    async def _grow(self, turn: Turn, old: Turn) -> None:
        """Write a turn in the place of what it was before more was said in it."""
        # Ids are made of texts: what is refused, or not there, was deleted, and stays so.
        with contextlib.suppress(DuplicateTurn, NotFound):
            before = await self.memory.aget(old.id or "")
            await self.memory.aadd(
                turn.user or turn.assistant,
                role="user" if turn.user else "assistant",
                reply=(turn.assistant or None) if turn.user else None,
                id=turn.id,
                session=turn.session,
                metadata=turn.metadata,
                source=turn.source,
                recalled=list(dict.fromkeys([*before.turn.recalled, *turn.recalled])),
                supersedes=old.id,
            )

    def _take_shown(self, turn: Turn) -> list[str]:
        """Return the ids of the turns that were shown for the questions of a turn, and forget them."""
        ids: dict[str, None] = {}
        for key in list(self._shown):
            *place, text = key
            asked = f"\n{text}\n" in f"\n{turn.user}\n"
            if asked and tuple(place) == self._question(turn.session, "")[:-1]:
                ids |= dict.fromkeys(self._shown.pop(key))
        return list(ids)

    def _question(self, session: str | None, text: str) -> tuple[object, ...]:
        """Return what the turns that were shown for a question are kept under."""
        return self.location, tuple(self.namespace), session, text
