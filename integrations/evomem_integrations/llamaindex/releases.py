"""Warns about a combination of LlamaIndex and pydantic releases that loses messages."""

from __future__ import annotations

import warnings
from importlib.metadata import version

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.storage.chat_store import SimpleChatStore


def warn_of_lost_messages() -> None:
    """Warn if LlamaIndex cannot write its chat store as JSON, which then empties the store's file.

    This affects llama-index-core 0.14.25 with pydantic 2.14. `EvoMemMemory` stores its messages in SQL
    and is not affected.
    """
    try:
        SimpleChatStore(store={"a": [ChatMessage(role="user", content="text")]}).model_dump_json()
    except Exception as error:  # whatever their serialisers raise
        warnings.warn(
            f"llama-index-core {version('llama-index-core')} with pydantic {version('pydantic')} cannot "
            f"write a message as JSON ({type(error).__name__}): SimpleChatStore.persist leaves an empty "
            "file. Install 'pydantic<2.14', as the extra [llamaindex] does",
            RuntimeWarning,
            stacklevel=4,
        )


warn_of_lost_messages()
