"""A client answers with a language model of its own; the latents stay with the service."""

import pytest

from evomem.errors import QueryError

pytestmark = pytest.mark.enable_socket  # to a service of this process, on loopback


async def test_a_language_model_answers_and_latents_are_refused(db):
    memory = db.memory("alice")
    memory.add("I live in Oslo.", id="t1")
    assert memory.answer("Where?", lambda _: "Oslo [t1]").cited == ("t1",)
    assert (await memory.aanswer("Where?", lambda _: "Oslo [t1]")).cited == ("t1",)
    with pytest.raises(QueryError, match="a service does not answer from latents"):
        memory.answer("Where?", "encoder")
    with pytest.raises(QueryError, match="a service does not answer from latents"):
        await memory.aanswer("Where?", "encoder")
