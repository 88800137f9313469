"""The turns that a prompt already contains, and a quoted memory without them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import tzinfo
from typing import Any

from evomem.adapter.writing import MESSAGE, mark
from evomem.memory_view import MemoryView
from evomem.pairing import Message, exchanges
from evomem.quoting import quoted
from evomem.records import Context, Hit, Turn
from evomem.search.context_text import fit


class Shown:
    """The part of a conversation in the prompt, which must not be recalled."""

    def __init__(self, messages: Sequence[Message], session: str | None) -> None:
        groups = exchanges(enumerate(messages))
        self._session = session
        self._marks = {
            mark(session, message["id"]) for message in messages if message.get("id") is not None
        }
        self._texts = {(str(m["role"]), str(m["content"])) for m in messages}
        self._texts |= {("user", group.said("user")) for group in groups}
        self._whole = {(g.said("user"), g.said("assistant")) for g in groups if g.answered}

    def __len__(self) -> int:
        """Return the number of turns that may be left out."""
        return len(self._texts)

    def holds(self, turn: Turn) -> bool:
        """Return whether the prompt contains a turn.

        It does if it has both sides, or the first message of a turn of the same session.
        """
        if (turn.user, turn.assistant) in self._whole:
            return True
        if self._session is None or turn.session != self._session:
            return False
        first_message = ("user", turn.user) if turn.user else ("assistant", turn.assistant)
        return first_message in self._texts or turn.metadata.get(MESSAGE) in self._marks


class Quoted:
    """A memory for prompts: quoted, without the turns that the prompt already contains."""

    def __init__(
        self, memory: MemoryView, shown: Shown, quote: Callable[[Turn], Turn] = quoted
    ) -> None:
        self._memory = memory
        self._shown = shown
        self._quote = quote
        self._ids: dict[str, str] = {}

    def search(self, query: str, k: int, **options: Any) -> list[Hit]:
        """See `MemoryView.search`.

        It requests more turns than `k`, and removes those that the prompt contains: a filter that
        lists these turns would take longer.
        """
        count = k + len(self._shown)
        while True:
            hits = self._memory.search(query, count, **options)
            unseen = [hit for hit in hits if not self._shown.holds(hit.record.turn)]
            if len(unseen) >= k or len(hits) < count:
                return [self._quoted(hit) for hit in unseen[:k]]
            count *= 2  # the same text occurs in several turns

    def context(
        self,
        query: str,
        *,
        max_tokens: int = 2000,
        k: int = 50,
        count_tokens: Callable[[str], int] | None = None,
        zone: str | tzinfo | None = None,
        **options: Any,
    ) -> Context:
        """See `MemoryView.context`."""
        count = count_tokens or self._memory._token_counter()
        local = self._memory._zone(zone)
        return fit(self.search(query, k, zone=local, **options), query, max_tokens, count, local)

    async def acontext(self, query: str, **options: Any) -> Context:
        """Do as `context`, without blocking the event loop."""
        return await asyncio.to_thread(self.context, query, **options)

    def original(self, id: str) -> str:
        """Return the id of a turn whose id was quoted."""
        return self._ids.get(id, id)

    def _quoted(self, hit: Hit) -> Hit:
        turn = self._quote(hit.record.turn)
        self._ids[str(turn.id)] = hit.record.id
        return replace(hit, record=replace(hit.record, turn=turn))
