"""`EvoMemBlock` in LlamaIndex's own `Memory`."""

from __future__ import annotations

import pytest
from llama_index.core.memory import Memory

from evomem_integrations.llamaindex import EvoMemBlock
from evomem_integrations.llamaindex.chats import Chats
from tests.integrations.llamaindex.scripted import assistant, remembered, user


@pytest.fixture
def block(tmp_path):
    return EvoMemBlock(
        location=str(tmp_path / "agent.db"), namespace=("acme", "alice"), encoder="hash"
    )


def short(tmp_path, block, session="s1"):
    """A memory of LlamaIndex's whose queue is over its limit at once."""
    store = Chats(str(tmp_path / "queue"), None).open(("acme",), session, 40).sql_store
    return Memory.from_defaults(
        session_id=session,
        token_limit=40,
        chat_history_token_ratio=0.5,
        token_flush_size=5,
        memory_blocks=[block],
        chat_store=store,
    )


async def test_flushed_messages_are_read_and_found_again(tmp_path, block):
    memory = short(tmp_path, block)
    await memory.aput_messages([user("I live in Bergen."), assistant("A rainy place!")])
    assert len(block.memory) == 0  # they are in the queue
    for number in range(6):
        await memory.aput_messages([user(f"Count on from {number}"), assistant(f"{number + 1}")])
    records = block.memory.history()
    assert records[0].text == "User: I live in Bergen.\nAssistant: A rainy place!"
    assert {record.turn.session for record in records} == {"s1"}
    await memory.aput(user("Where do I live, in Bergen?"))
    result = remembered(await memory.aget())
    assert result.count("I live in Bergen.") == 1
    assert "<evomem>" in result
    assert "Where do I live" not in result


async def test_a_session_id_leaves_no_trace_in_what_is_read(block):
    message = user("I live in Bergen.")
    await block.aput([message, assistant("Nice.")], session_id="s7")
    [record] = block.memory.history()
    assert (record.turn.session, "s7" in record.text) == ("s7", False)


async def test_messages_put_twice_are_stored_once_and_an_empty_list_is_accepted(block):
    await block.aput([])
    for _ in range(2):
        await block.aput([user("I live in Bergen."), assistant("Nice.")], session_id="s")
    assert len(block.memory) == 1


async def test_without_a_question_there_is_no_content(block):
    await block.aput([user("I live in Bergen."), assistant("Nice.")])
    assert await block.aget() == await block.aget([]) == await block.aget([assistant("Hi")]) == ""


async def test_truncation_drops_the_oldest_entries_whole(block):
    for place in ("Bergen", "Oslo", "Rome"):
        await block.aput([user(f"I live in {place}.\n[sic]"), assistant("Nice.")])
    content = await block.aget([user("I live in")])
    shorter = await block.atruncate(content, 1)
    first = "Bergen.\n  [sic]"  # lines after the first are indented
    second = content.index("\n[", content.index(first) + len(first)) + 1
    assert shorter == content[second:]
    assert "Bergen" not in shorter
    assert await block.atruncate(content, 10_000) is None
    assert await block.atruncate(content, 0) == content


def test_a_block_is_serialised_with_its_address(block):
    assert EvoMemBlock(**block.model_dump()).memory.namespace == ("acme", "alice")
    assert (block.name, block.priority) == ("evomem", 0)
