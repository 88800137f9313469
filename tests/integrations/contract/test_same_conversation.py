"""One conversation with a call of a tool lands alike in the log, whichever adapter takes it."""

from __future__ import annotations

from typing import Any

import pytest

from evomem.adapter import Adapter

TALK: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What does a cost?"},
    {
        "role": "assistant",
        "content": "Let me look.",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "price", "arguments": "{}"}}
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "noise 42"},
    {"role": "assistant", "content": "It is 42 kroner."},
    {"role": "user", "content": "Thanks."},
    {"role": "user", "content": "And b?"},
    {"role": "assistant", "content": "43."},
]
SAID = [("What does a cost?", "Let me look.\nIt is 42 kroner."), ("Thanks.\nAnd b?", "43.")]


def said(memory):
    return [(record.turn.user, record.turn.assistant) for record in memory.history()]


def test_by_the_adapter_itself(db):
    Adapter(db.memory("a")).capture(TALK)
    assert said(db.memory("a")) == SAID


@pytest.mark.parametrize("together", [True, False])
def test_by_langchains_chat_history(db, together):
    messages = pytest.importorskip("langchain_core.messages").convert_to_messages(TALK)
    from evomem_integrations.langchain import EvoMemChatMessageHistory

    history = EvoMemChatMessageHistory(db.memory("a"), "s")
    for some in [messages] if together else [[message] for message in messages]:
        history.add_messages(some)
    assert history.messages == messages
    assert said(db.memory("a"))[0] == SAID[0]
    assert said(db.memory("a"))[-1][1] == SAID[-1][1]


def test_by_llamaindexs_memory(tmp_path):
    llms = pytest.importorskip("llama_index.core.llms")
    from evomem_integrations.llamaindex import EvoMemMemory

    memory = EvoMemMemory(
        location=str(tmp_path / "a.db"), namespace=("a",), session_id="s", encoder="hash"
    )
    for message in TALK:
        remaining = {key: message[key] for key in message if key not in ("role", "content")}
        role, content = message["role"], message["content"]
        memory.put(llms.ChatMessage(role=role, content=content, additional_kwargs=remaining))
    assert said(memory.memory) == SAID


def test_by_mem0s_stand_in(db):
    from evomem_integrations.mem0 import Memory

    Memory(database=db).add(TALK, user_id="a")
    assert said(db.memory("mem0", "mem0", "user_id", "a")) == SAID


def test_by_the_import(db):
    db.memory("a").import_chats(TALK)
    assert said(db.memory("a")) == SAID
