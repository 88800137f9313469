"""`EvoMemBlock`: a memory block, which gets the oldest messages of LlamaIndex's `Memory`."""

from __future__ import annotations

import re
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.bridge.pydantic import Field
from llama_index.core.memory import BaseMemoryBlock
from llama_index.core.utils import get_tokenizer

from evomem.pairing import as_turns
from evomem_integrations.llamaindex.connection import Connection
from evomem_integrations.llamaindex.turns import identified, question, spoken

_ENTRY = re.compile(
    r"^(?=\[\d{4}-\d\d-\d\d \d\d:\d\d [^]\n]+\] )", re.MULTILINE
)  # of `Memory.context`


class EvoMemBlock(Connection, BaseMemoryBlock[str]):
    """A memory as a block of `Memory.from_defaults(memory_blocks=[...])`.

    `Memory` passes messages to a block only when its own queue exceeds `token_limit *
    chat_history_token_ratio`, 21,000 tokens by default. To remember every exchange as soon as it is
    complete, use `EvoMemMemory`.
    """

    name: str = Field(default="evomem", description="The block's tag in the prompt.")

    async def _aget(self, messages: list[ChatMessage] | None = None, **block_kwargs: Any) -> str:
        query = question(messages or [])
        if not messages or query is None:
            return ""
        session = block_kwargs.get("session_id")
        context = await self._adapter().acontext(query, session=session, shown=spoken(messages))
        return self._note_shown(query, session, context)

    async def _aput(self, messages: list[ChatMessage]) -> None:
        # `Memory` stores the session in `additional_kwargs`; without it, a turn has no session.
        sessions = (message.additional_kwargs.get("session_id") for message in messages)
        session = next((name for name in sessions if name), None)
        await self._commit(identified(as_turns(spoken(messages)), session))

    async def atruncate(self, content: str, tokens_to_truncate: int) -> str | None:
        """Return the content without its oldest entries, at least that many tokens shorter, or None."""
        count = get_tokenizer()
        entries = [entry for entry in _ENTRY.split(content) if entry]
        while entries and tokens_to_truncate > 0:
            tokens_to_truncate -= len(count(entries.pop(0)))
        return "".join(entries) or None
