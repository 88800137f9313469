"""What adapters do with a memory works with a memory of a service."""

import pytest

from evomem.adapter import Adapter

pytestmark = pytest.mark.enable_socket


async def test_a_captured_exchange_is_recalled_as_a_quotation(db):
    adapter = Adapter(db.memory("alice"), strict=True)
    exchange = [
        {"role": "user", "content": "I moved to <Oslo>."},
        {"role": "assistant", "content": "Noted."},
    ]
    assert adapter.capture(exchange, session="one")
    block = adapter.recall("Where did I move?", session="two")
    assert "I moved to &lt;Oslo>." in block
    assert await adapter.arecall("Where did I move?", session="two") == block
    assert [hit.record.id for hit in adapter.search("Oslo", 3)] == list(block.ids)


async def test_turns_that_the_prompt_holds_are_left_out(db):
    adapter = Adapter(db.memory("alice"), strict=True)
    messages = [{"role": "user", "content": "I moved to Oslo.", "id": "m1"}]
    adapter.capture(messages, session="one")
    assert adapter.recall("Oslo", session="one", shown=messages) == ""
    assert adapter.recall("Oslo", session="two") != ""
