"""The memory store for Strands: real agents and managers, a model that follows a script."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip(
    "strands", reason="strands-agents is not installed: make test-newest installs it"
)

from pydantic import BaseModel
from strands import Agent, tool
from strands.agent.conversation_manager import SlidingWindowConversationManager
from strands.hooks import BeforeToolCallEvent
from strands.memory import ExtractionConfig, IntervalTrigger, MemoryManager
from strands.tools.executors import ConcurrentToolExecutor, SequentialToolExecutor

from evomem.adapter import counts
from evomem.adapter.contract import Call
from evomem.errors import QueryError
from evomem_integrations.strands import EvoMemMemoryStore
from tests.integrations.contract.strands_host import Model, Program, look


@pytest.fixture
def memory(db):
    memory = db.memory("acme", "alice")
    memory.add("I live in Bergen.", reply="A rainy place!", session="before")
    return memory


def agent_of(model, manager, **options) -> Any:
    options = {"tools": [look], "callback_handler": None, "retry_strategy": None} | options
    return Agent(model=model, memory_manager=manager, **options)


def log(memory):
    return [(record.turn.user, record.turn.assistant) for record in memory.history()][1:]


def test_recalled_turns_are_shown_with_their_time_and_not_stored_as_messages(memory):
    model = Model("In Bergen.")
    agent = agent_of(model, EvoMemMemoryStore(memory, session="now").manager())
    agent("Where do I live?")
    day = memory.history()[0].time
    assert f"[{day:%Y-%m-%d %H:%M}] User: I live in Bergen." in model.prompt()
    assert "Bergen?" not in str(agent.messages)
    assert "<memory>" not in str(agent.messages)
    written = memory.history()[-1]
    assert written.turn.recalled == (memory.history()[0].id,)


def test_turns_in_the_prompt_are_not_recalled(memory):
    model = Model("Noted.", "Fluffy.")
    agent = agent_of(model, EvoMemMemoryStore(memory, session="now").manager())
    agent("My cat is called Fluffy.")
    agent("What is my cat called?")
    assert model.prompt().count("My cat is called Fluffy.") == 1


def test_batches_that_cut_exchanges_lose_and_repeat_nothing(memory):
    """The manager's own default, every 5 turns; the program flushes between others."""
    store = EvoMemMemoryStore(memory, session="now", extraction=True)
    manager = MemoryManager(stores=[store])
    agent = agent_of(Model(*(f"Answer {n}." for n in range(12))), manager)

    async def talk():
        for n in range(12):
            await agent.invoke_async(f"Question {n}.")
            if n % 3 == 0:
                await manager.flush()
        await manager.flush()

    asyncio.run(talk())
    assert log(memory) == [(f"Question {n}.", f"Answer {n}.") for n in range(12)]


def test_an_exchange_that_two_batches_share_is_one_turn(memory):
    store = EvoMemMemoryStore(memory, session="now")

    async def batches():
        await store.add_messages([{"role": "user", "content": [{"text": "Price?"}]}])
        call: Any = {"role": "assistant", "content": [{"text": "Let me look."}, {"toolUse": {}}]}
        await store.add_messages([call])
        result: Any = {"role": "user", "content": [{"toolResult": {}}, {"text": "noise"}]}
        await store.add_messages([result])
        await store.add_messages([{"role": "assistant", "content": [{"text": "42 kroner."}]}])
        await store.add_messages([{"role": "user", "content": [{"text": "Thanks."}]}])

    asyncio.run(batches())
    assert log(memory) == [("Price?", "Let me look.\n42 kroner.")]


def test_an_edit_before_a_window_and_one_after_a_restart_take_the_old_place(tmp_path):
    program = Program(str(tmp_path / "agent.db"))
    for n in range(6):
        window = SlidingWindowConversationManager(window_size=4)
        agent = program.agent(Model(f"Answer {n}."), conversation_manager=window)
        program.run(agent, f"Question {n}.")
    program.edit("Question five.", "Answer five.")
    exchanges = [(f"Question {n}.", f"Answer {n}.") for n in range(5)]
    assert program.log() == [*exchanges, ("Question five.", "Answer five.")]
    program.close()

    other = Program(str(tmp_path / "other.db"))
    other.say("Hello.", "Hi.")
    other.say("Prise?", "What?")
    other = other.restart()
    other.edit("Price?", "42 kroner.")
    assert other.log() == [("Hello.", "Hi."), ("Price?", "42 kroner.")]
    other.close()


def test_a_cleared_conversation_replaces_nothing(memory):
    agent = agent_of(Model("One.", "Two."), EvoMemMemoryStore(memory, session="now").manager())
    agent("First.")
    agent.messages.clear()
    agent("First.")
    assert log(memory) == [("First.", "One."), ("First.", "Two.")]


def test_the_models_own_tools_search_and_add(memory):
    store = EvoMemMemoryStore(memory, session="now", turn_source="chat")
    manager = store.manager(add_tool_config=True, injection=False)
    agent = agent_of(Model(), manager)
    result = agent.tool.search_memory(query="Where does the user live?")
    assert "I live in Bergen." in str(result)
    agent.tool.add_memory(entries=["The user has a cat."])
    last = memory.history()[-1].turn
    assert (last.user, last.session, last.source) == ("The user has a cat.", None, "chat")


def test_a_failed_write_is_repeated_later(memory):
    full = [OSError("full")] * 3  # reading; writing after the run, and at its end

    def opened():
        if full:
            raise full.pop()
        return memory

    store = EvoMemMemoryStore(opened, session="now")
    agent = agent_of(Model("One.", "Two."), store.manager())
    before = counts.to_json()
    agent("First.")
    assert not full
    assert counts.failed_reads == before["failed_reads"] + 1
    assert counts.failed_writes == before["failed_writes"] + 2
    agent("Second.")
    assert log(memory) == [("First.", "One."), ("Second.", "Two.")]


def test_calls_of_tools_every_two_turns(memory):
    trigger = ExtractionConfig(trigger=IntervalTrigger(turns=2))
    store = EvoMemMemoryStore(memory, session="now", extraction=trigger)
    agent = agent_of(Model(Call("Looking.", "noise"), "1.", "2.", "3."), store.manager())

    async def talk():
        for text in ("One.", "Two.", "Three."):
            await agent.invoke_async(text)
        await agent.memory_manager.flush()

    asyncio.run(talk())
    assert log(memory) == [("One.", "Looking.\n1."), ("Two.", "2."), ("Three.", "3.")]


class Fare(BaseModel):
    result: str


class Typed(Model):
    """Calls the tool of the typed answer where it would call `look`."""

    async def stream(self, *args: Any, **kwargs: Any):
        async for event in super().stream(*args, **kwargs):
            start = event.get("contentBlockStart", {}).get("start", {})
            if "toolUse" in start:
                start["toolUse"]["name"] = "Fare"
            yield event


def test_a_typed_answer_is_written_as_json_and_the_request_for_it_is_not_the_users(memory):
    model = Typed(Call("", "41"), "It is 42.", Call("", "42"), "Bye.")
    agent = agent_of(model, EvoMemMemoryStore(memory, session="now").manager())
    agent("Fare on Monday?", structured_output_model=Fare)
    agent("Fare on Tuesday?", structured_output_model=Fare)
    agent("Thanks.")
    assert len(model.shown) == 4
    assert log(memory) == [
        ("Fare on Monday?", '{"result": "41"}'),
        ("Fare on Tuesday?", 'It is 42.\n{"result": "42"}'),
        ("Thanks.", "Bye."),
    ]


@pytest.mark.parametrize("executor", [ConcurrentToolExecutor, SequentialToolExecutor])
def test_an_agent_that_a_tool_calls_reads_and_does_not_write(memory, executor):
    inner = Model("In Bergen.", "In Oslo.")

    def ask(result: str) -> str:
        """Ask another agent."""
        sub = EvoMemMemoryStore(memory, session="sub").manager()
        return str(agent_of(inner, sub)(f"Where does the user live? {result}"))

    model = Model(Call("Let me ask.", "now"), "In Bergen.", "You're welcome.")
    manager = EvoMemMemoryStore(memory, session="now").manager()
    agent = agent_of(model, manager, tools=[tool(name="look")(ask)], tool_executor=executor())
    agent("Where do I live?")
    assert "I live in Bergen." in inner.prompt()
    agent("Thanks.")
    assert log(memory) == [
        ("Where do I live?", "Let me ask.\nIn Bergen."),
        ("Thanks.", "You're welcome."),
    ]


async def test_a_pause_of_one_agent_does_not_silence_another(memory):
    """In a program whose agents all run in one task, one call after another."""
    waiting = agent_of(
        Model(Call("May I?", "sent"), "Done."),
        EvoMemMemoryStore(memory, session="one").manager(),
        tool_executor=SequentialToolExecutor(),
    )
    waiting.add_hook(lambda event: event.interrupt("look", reason="May it?"), BeforeToolCallEvent)
    other = EvoMemMemoryStore(memory, session="two").manager()
    await waiting.invoke_async("Send it.")
    await agent_of(Model("Hi."), other).invoke_async("Hello.")
    await other.flush()
    assert ("Hello.", "Hi.") in log(memory)


def test_an_option_that_makes_no_sense_is_refused_at_once(memory):
    with pytest.raises(QueryError, match="kk"):
        EvoMemMemoryStore(memory, kk=3)
