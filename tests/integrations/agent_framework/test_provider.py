"""An agent with the context provider reads and writes a memory, and leaves its session as it is."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("agent_framework", reason="the extra [agent-framework] is not installed")

from agent_framework import Agent, AgentSession, InMemoryHistoryProvider, Message, WorkflowBuilder
from pydantic import BaseModel

from evomem.adapter import counts
from evomem.adapter.contract import Call
from evomem.errors import QueryError
from evomem_integrations.agent_framework import EvoMemContextProvider
from tests.integrations.contract.agent_framework_host import Model

BLOCK = "<memory>"


@pytest.fixture
def memory(db):
    memory = db.memory("acme", "alice")
    memory.add("I live in Bergen.", reply="A rainy place!", session="before")
    return memory


@pytest.fixture
def session():
    return AgentSession(session_id="now")


def agent_of(model, memory, *, tools=(), search=(), providers=(), **options) -> Any:
    own = EvoMemContextProvider(memory, **dict(search))
    return Agent(
        model, "Be brief.", tools=list(tools), context_providers=[*providers, own], **options
    )


def log(memory):
    return [(record.turn.user, record.turn.assistant) for record in memory.history()][1:]


async def test_recalled_turns_follow_the_instructions_and_are_in_no_session(memory, session):
    model = Model("In Bergen.")
    await agent_of(model, memory).run("Where do I live?", session=session)
    assert str(model.shown[-1][1]).startswith("Be brief.\n")
    assert "I live in Bergen." in str(model.shown[-1][1])
    assert BLOCK not in str(session.to_dict())


async def test_the_turns_that_the_model_was_shown_are_named_and_marked(memory, session):
    agent = agent_of(Model("In Bergen."), memory, search={"turn_source": "chat"})
    await agent.run("Where do I live?", session=session)
    shown, written = memory.history()
    assert written.turn.recalled == (shown.id,)
    assert (written.turn.source, written.turn.session) == ("chat", "now")


@pytest.mark.parametrize("providers", [(), (InMemoryHistoryProvider(),)], ids=["behind", "before"])
async def test_turns_in_the_prompt_are_not_recalled(memory, session, providers):
    model = Model("Noted.", "Fluffy.")
    agent = agent_of(model, memory, providers=providers)
    await agent.run("My cat is called Fluffy.", session=session)
    await agent.run("What is my cat called?", session=session)
    assert model.prompt().count("My cat is called Fluffy.") == 1


async def test_without_a_session_every_run_adds_a_turn(memory):
    agent = agent_of(Model("One.", "Two."), memory)
    await agent.run("First.")
    await agent.run([Message("user", ["First."]), Message("user", ["Second."])])
    assert log(memory) == [("First.", "One."), ("First.\nSecond.", "Two.")]


async def test_a_cleared_session_replaces_nothing(memory, session):
    agent = agent_of(Model("One.", "Two."), memory)
    await agent.run("First.", session=session)
    session.state["in_memory"]["messages"].clear()
    await agent.run("First.", session=session)
    assert log(memory) == [("First.", "One."), ("First.", "Two.")]


async def test_a_typed_answer_is_written_as_json(memory, session):
    class City(BaseModel):
        name: str

    agent = agent_of(Model('{"name": "Bergen"}'), memory)
    await agent.run("Where do I live?", session=session, options={"response_format": City})
    assert log(memory) == [("Where do I live?", '{"name": "Bergen"}')]


async def test_an_agent_that_a_tool_calls_reads_and_does_not_write(memory, session):
    inner = Model("Inside.")
    helper = agent_of(inner, memory, name="look")
    tool = helper.as_tool(name="look", arg_name="result")
    agent = agent_of(Model(Call("", "Where does she live?"), "In Bergen."), memory, tools=[tool])
    await agent.run("Where do I live?", session=session)
    assert BLOCK in inner.prompt()
    assert log(memory) == [("Where do I live?", "In Bergen.")]


async def test_a_workflow_with_the_provider_writes_what_all_its_agents_said(memory, session):
    writer = Agent(Model("Ride on!", "Roll on!"), "Write.", name="writer")
    critic = Agent(Model("Too short.", "Good."), "Judge.", name="critic")
    workflow = WorkflowBuilder(start_executor=writer).add_edge(writer, critic).build()
    team = workflow.as_agent("team", context_providers=[EvoMemContextProvider(memory)])
    await team.run("A slogan for a bike.", session=session)
    await team.run("Another.", session=session)
    assert log(memory) == [
        ("A slogan for a bike.", "Ride on!\nToo short."),
        ("Another.", "Roll on!\nGood."),
    ]


async def test_two_memories_in_one_agent(db, memory, session):
    team = db.memory("acme", "team")
    team.add("The office is in Oslo.")
    model = Model("Here.")
    shared = EvoMemContextProvider(team, source_id="team", header="What the team knows:")
    agent = agent_of(model, memory, providers=[shared])
    await agent.run("Where do I live, and where is the office?", session=session)
    assert "The office is in Oslo." in model.prompt()
    assert "I live in Bergen." in model.prompt()
    assert len(log(memory)) == len(team.history()[1:]) == 1


async def test_errors_of_the_memory_end_the_run_if_they_shall(db, memory, session):
    agent = agent_of(Model("Hi."), memory)
    strict = agent_of(Model("Hi."), memory, search={"strict": True})
    db.close()
    failed = counts.failed_writes
    assert (await agent.run("Hello.", session=session)).text == "Hi."
    assert counts.failed_writes == failed + 1
    with pytest.raises(Exception, match="closed"):
        await strict.run("Hello.", session=session)


def test_an_option_that_makes_no_sense_is_refused_at_once(memory):
    with pytest.raises(QueryError, match="kk"):
        EvoMemContextProvider(memory, kk=3)
