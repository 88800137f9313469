"""A run of the OpenAI Agents SDK reads and writes a memory, and leaves its session as it is."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("agents", reason="the extra [openai-agents] is not installed")

from agents import (
    Agent,
    GuardrailFunctionOutput,
    OutputGuardrailTripwireTriggered,
    RunConfig,
    Runner,
    SessionSettings,
    SQLiteSession,
    function_tool,
    output_guardrail,
)
from agents.run_config import ModelInputData
from agents.testing import ScriptedModel, function_call
from pydantic import BaseModel

from evomem.adapter import counts
from evomem.adapter.contract import Call
from evomem.errors import QueryError
from evomem_integrations.openai_agents import run_options
from tests.integrations.contract.openai_agents_host import look, prompt, scripted, step

BLOCK = "<memory>"
CONFIG = RunConfig(tracing_disabled=True)


@pytest.fixture
def memory(db):
    memory = db.memory("acme", "alice")
    memory.add("I live in Bergen.", reply="A rainy place!", session="before")
    return memory


@pytest.fixture
def session():
    session = SQLiteSession("now")
    yield session
    session.close()


def said(memory):
    return [(record.turn.user, record.turn.assistant) for record in memory.history()]


def agent_of(model, **options):
    return Agent("assistant", model=model, instructions="Be brief.", **options)


def run(agent, given, memory, session=None, *, run_config=CONFIG, **options):
    return Runner.run(
        agent, given, **run_options(memory, session, run_config=run_config, **options)
    )


async def test_recalled_turns_follow_the_instructions_and_are_in_no_session(memory, session):
    model = scripted("In Bergen.")
    result = await run(agent_of(model), "Where do I live?", memory, session)
    assert model.last_call
    instructions = str(model.last_call.system_instructions)
    assert instructions.startswith("Be brief.\n\n")
    assert "I live in Bergen." in instructions
    assert BLOCK not in str(await session.get_items())
    assert BLOCK not in str(result.to_input_list())


async def test_the_turns_that_the_model_was_shown_are_named_and_marked(memory, session):
    model = scripted("In Bergen.")
    await run(agent_of(model), "Where do I live?", memory, session, turn_source="chat")
    shown, written = memory.history()
    assert written.turn.recalled == (shown.id,)
    assert (written.turn.source, written.turn.session) == ("chat", "now")


async def test_turns_in_the_prompt_are_not_recalled(memory, session):
    model = scripted("Noted.", "Fluffy.")
    agent = agent_of(model)
    await run(agent, "My cat is called Fluffy.", memory, session)
    await run(agent, "What is my cat called?", memory, session)
    assert prompt(model).count("My cat is called Fluffy.") == 1


async def test_a_typed_output_is_written_as_json(memory, session):
    class City(BaseModel):
        name: str

    agent = agent_of(scripted('{"name": "Bergen"}'), output_type=City)
    await run(agent, "Where do I live?", memory, session)
    assert said(memory)[-1] == ("Where do I live?", '{"name":"Bergen"}')


async def test_without_a_session_every_run_adds_a_turn(memory):
    agent = agent_of(scripted("One.", "Two."))
    first = await run(agent, "First.", memory)
    again: Any = [*first.to_input_list(), {"role": "user", "content": "Second."}]
    await run(agent, again, memory)
    assert said(memory)[1:] == [("First.", "One."), ("Second.", "Two.")]


async def test_a_cleared_session_replaces_nothing(memory, session):
    agent = agent_of(scripted("One.", "Two."))
    await run(agent, "First.", memory, session)
    await session.clear_session()
    await run(agent, "First.", memory, session)
    assert said(memory)[1:] == [("First.", "One."), ("First.", "Two.")]


async def test_a_session_that_shows_little_of_itself_replaces_nothing(memory, session):
    config = RunConfig(tracing_disabled=True, session_settings=SessionSettings(limit=1))
    agent = agent_of(scripted("Done.", "Done.", "Done."))
    for text in ("One.", "Two.", "Three."):
        await run(agent, text, memory, session, run_config=config)
    assert said(memory)[1:] == [("One.", "Done."), ("Two.", "Done."), ("Three.", "Done.")]


async def test_an_agent_that_takes_over_answers_the_same_question(memory, session):
    helper = Agent("helper", model=scripted("42 kroner."))
    model = ScriptedModel(
        [[*step("I hand over."), function_call("transfer_to_helper", {}, call_id="c")]]
    )
    await run(agent_of(model, handoffs=[helper]), "Price?", memory, session)
    assert said(memory)[-1] == ("Price?", "I hand over.\n42 kroner.")


async def test_an_agent_that_a_tool_calls_reads_and_does_not_write(memory, session):
    inner = scripted("Inside.")
    tool = Agent("inner", model=inner).as_tool("ask", "Ask another agent.")
    model = ScriptedModel(
        [
            [function_call("ask", {"input": "Where does the user live?"}, call_id="c")],
            step("In Bergen."),
        ]
    )
    await run(agent_of(model, tools=[tool]), "Where do I live?", memory, session)
    assert BLOCK in prompt(inner)
    assert said(memory)[1:] == [("Where do I live?", "In Bergen.")]


async def test_a_tool_that_ends_a_resumed_run_gives_the_answer(memory, session):
    tools = [function_tool(look, needs_approval=True)]
    model = scripted(Call("May I?", "42 kroner."))
    agent = agent_of(model, tools=tools, tool_use_behavior="stop_on_first_tool")
    paused = await run(agent, "Price?", memory, session)
    state = paused.to_state()
    state.approve(paused.interruptions[0])
    await run(agent, state, memory, session)
    assert said(memory)[-1] == ("Price?", "May I?\n42 kroner.")


async def test_options_that_are_used_again_mix_nothing(memory, session):
    options = run_options(memory, session, run_config=CONFIG)
    agent = agent_of(scripted("One.", ConnectionError("down"), "Three."))
    await Runner.run(agent, "First.", **options)
    with pytest.raises(ConnectionError):
        await Runner.run(agent, "Second.", **options)
    await session.pop_item()
    await Runner.run(agent, "Third.", **options)
    assert said(memory)[1:] == [("First.", "One."), ("Third.", "Three.")]


async def test_a_filter_of_the_program_is_called_too(memory, session):
    def last_only(data):
        return ModelInputData(data.model_data.input[-1:], "Filtered.")

    config = RunConfig(tracing_disabled=True, call_model_input_filter=last_only)
    model = scripted("One.", "Two.")
    agent = agent_of(model)
    for text in ("First.", "Where do I live?"):
        await run(agent, text, memory, session, run_config=config)
    assert model.last_call
    assert len(model.last_call.input) == 1
    assert str(model.last_call.system_instructions).startswith("Filtered.\n\n")
    assert said(memory)[1:] == [("First.", "One."), ("Where do I live?", "Two.")]


@pytest.mark.parametrize("where", ["agent", "run"])
@pytest.mark.parametrize("streamed", [False, True])
async def test_an_answer_is_written_only_if_guardrails_let_it_pass(memory, where, streamed):
    @output_guardrail
    def block(context: Any, agent: Any, output: Any) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(None, tripwire_triggered=output == "secret")

    config = RunConfig(tracing_disabled=True, output_guardrails=[block] if where == "run" else [])
    agent = agent_of(scripted("secret", "public"))
    agent.output_guardrails = [block] if where == "agent" else []
    session = SQLiteSession("now")
    for text in ("Tell me.", "Tell me more."):
        options = run_options(memory, session, run_config=config)
        try:
            if streamed:
                result = Runner.run_streamed(agent, text, **options)
                [_ async for _ in result.stream_events()]
            else:
                await Runner.run(agent, text, **options)
        except OutputGuardrailTripwireTriggered:
            assert text == "Tell me."
    session.close()
    assert said(memory)[1:] == [("Tell me.\nTell me more.", "public")]


async def test_errors_of_the_memory_end_the_run_if_they_shall(db, memory, session):
    db.close()
    agent = agent_of(scripted("Hi.", "Hi."))
    failed = counts.failed_writes
    assert (await run(agent, "Hello.", memory, session)).final_output == "Hi."
    assert counts.failed_writes == failed + 1
    with pytest.raises(Exception, match="closed"):
        await run(agent, "Hello.", memory, session, strict=True)


def test_an_option_that_makes_no_sense_is_refused_at_once(memory):
    with pytest.raises(QueryError, match="kk"):
        run_options(memory, kk=3)
