"""The memory service for Google's ADK: real runners and sessions, a model that follows a script."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

pytest.importorskip(
    "google.adk", reason="google-adk is not installed: make test-newest installs it"
)

from google.adk.agents import LlmAgent
from google.adk.events import Event
from google.adk.memory.memory_entry import MemoryEntry
from google.adk.sessions.base_session_service import GetSessionConfig
from google.adk.tools.agent_tool import AgentTool
from google.genai.types import FunctionCall, Part

from evomem.adapter import counts
from evomem.adapter.contract import Call
from evomem.errors import QueryError
from evomem_integrations.google_adk import EvoMemMemoryService
from tests.integrations.contract.google_adk_host import Model, Program, answer, words

PLACE: Any = {"app_name": "program", "user_id": "alice"}


@pytest.fixture
def program(tmp_path):
    program = Program(str(tmp_path / "agent.db"))
    yield program
    program.close()


def session_of(program, **options):
    return asyncio.run(program.sessions.get_session(**PLACE, session_id="one", **options))


def add(program, session):
    asyncio.run(program.service.add_session_to_memory(session))


def find(program, query):
    return asyncio.run(program.service.search_memory(**PLACE, query=query)).memories


def test_a_search_leaves_out_what_the_session_that_asks_holds(program):
    program.say("My cat is called Fluffy.", "Noted.")
    prompt = program.say("What is my cat called?", "Fluffy.")
    assert prompt.count("My cat is called Fluffy.") == 1  # in the conversation itself
    assert "My cat is called Fluffy." in program.say("My cat?", "Fluffy.", thread="two")


def test_after_a_run_the_program_finds_everything(program):
    async def main():
        for text, reply in (("My cat is called Fluffy.", "Noted."), ("Hello.", OSError("down"))):
            runner = program.runner(Model(replies=[reply], shown=[]))
            run = runner.run_async(user_id="alice", session_id="one", new_message=words(text))
            with contextlib.suppress(OSError):
                [event async for event in run]
            result = await program.service.search_memory(**PLACE, query="cat")
            assert len(result.memories) == 1

    asyncio.run(main())


def test_a_session_that_is_added_again_adds_nothing(program):
    program.say("One.", "1.")
    program.say("Two.", "2.")
    before = program.memory("alice").history()
    add(program, session_of(program))
    assert program.memory("alice").history() == before


def test_a_session_that_is_loaded_in_part_adds_nothing(program):
    program.say("One.", Call("Looking.", "noise"), "1.")
    program.say("Two.", "2.")
    for count in range(1, 7):
        config = GetSessionConfig(num_recent_events=count)
        add(program, session_of(program, config=config))
    assert program.log() == [("One.", "Looking.\n1."), ("Two.", "2.")]


def test_a_rewind_removes_later_turns_and_new_ones_replace_them(program):
    for text in ("One.", "Two.", "Three."):
        program.say(text, "Yes.")
    runner = program.runner(Model(replies=["No."], shown=[]))
    second = [e for e in session_of(program).events if e.author == "user"][1]
    asyncio.run(
        runner.rewind_async(
            user_id="alice",
            session_id="one",
            rewind_before_invocation_id=second.invocation_id,
        )
    )
    program.run(runner, words("Zwei."))
    assert program.log() == [("One.", "Yes."), ("Zwei.", "No.")]
    assert [r.turn.user for r in program.memory("alice").history(all=True)][1] == "Two."


def test_turns_name_what_the_model_was_shown_and_where_they_come_from(tmp_path):
    program = Program(str(tmp_path / "agent.db"))
    program.service = EvoMemMemoryService(
        lambda app, user: program.memory(user), turn_source="chat"
    )
    program.say("I live in Bergen.", "A rainy place!")
    program.say("Where do I live?", "In Bergen.", thread="two")
    first, second = program.memory("alice").history()
    assert second.turn.recalled == (first.id,)
    assert (second.turn.session, second.turn.source) == ("two", "chat")
    assert second.time.timestamp() == pytest.approx(
        asyncio.run(program.sessions.get_session(**PLACE, session_id="two")).events[0].timestamp
    )
    program.close()


@pytest.mark.filterwarnings("ignore:The `plugins` argument:DeprecationWarning")  # AgentTool's own
def test_an_agent_that_a_tool_calls_writes_nothing(program):
    inner = LlmAgent(name="inner", model=Model(replies=["Inside."], shown=[]))

    class Calls(Model):
        async def generate_content_async(self, llm_request, stream=False):
            if self.replies[0] is None:
                self.replies.pop(0)
                call = FunctionCall(name="inner", args={"request": "Where does she live?"})
                yield answer(Part(function_call=call))
            else:
                yield answer(Part(text=self.replies.pop(0)))

    runner = program.runner(Calls(replies=[None, "In Bergen."], shown=[]), AgentTool(inner))
    program.run(runner, words("Where do I live?"))
    assert program.log() == [("Where do I live?", "In Bergen.")]


def test_a_deleted_memory_is_not_found_and_stays_deleted(program):
    program.say("My cat is called Fluffy.", "Noted.")
    [entry] = find(program, "cat")
    assert entry.custom_metadata["session"] == "one"
    asyncio.run(program.service.delete_memory(**PLACE, memory_id=entry.id))
    asyncio.run(program.service.delete_memory(**PLACE, memory_id=entry.id))
    add(program, session_of(program))
    assert find(program, "cat") == []


def test_events_and_entries_are_added_by_themselves(program):
    texts = [
        Event(author="user", invocation_id="i", content=words("I have a dog.")),
        Event(author="assistant", invocation_id="i", content=answer(Part(text="Nice.")).content),
    ]
    for _ in range(2):
        given = {"events": texts, "session_id": "s", "custom_metadata": {"topic": "dog"}}
        asyncio.run(program.service.add_events_to_memory(**PLACE, **given))
    entry = MemoryEntry(
        content=words("Bring an umbrella."), author="planner", timestamp="2026-05-01T10:00:00Z"
    )
    asyncio.run(program.service.add_memory(**PLACE, memories=[entry]))
    first, second = program.memory("alice").history()
    assert (first.text, first.turn.metadata["topic"]) == (
        "User: I have a dog.\nAssistant: Nice.",
        "dog",
    )
    assert (second.text, str(second.time)) == (
        "planner: Bring an umbrella.",
        "2026-05-01 10:00:00+00:00",
    )


def test_errors_of_the_memory_are_counted_or_raised(program):
    program.say("One.", "1.")
    session = session_of(program)
    program.close()
    failed = counts.failed_writes
    add(program, session)
    assert counts.failed_writes == failed + 1
    strict = EvoMemMemoryService(lambda app, user: program.memory(user), strict=True)
    with pytest.raises(Exception, match="closed"):
        asyncio.run(strict.add_session_to_memory(session))
    with pytest.raises(Exception, match="closed"):
        asyncio.run(strict.search_memory(**PLACE, query="x"))


def test_an_option_that_makes_no_sense_is_refused_at_once(program):
    with pytest.raises(QueryError, match="kk"):
        EvoMemMemoryService(lambda app, user: program.memory(user), kk=3)
