"""A capability gives an agent of Pydantic AI a memory, and leaves its histories as they are."""

from __future__ import annotations

import asyncio
import json

import pytest

pytest.importorskip("pydantic_ai", reason="the extra [pydantic-ai] is not installed")

from pydantic import BaseModel
from pydantic_ai import Agent, DeferredToolRequests, DeferredToolResults, ImageUrl, ModelRetry
from pydantic_ai.capabilities import ProcessHistory
from pydantic_ai.messages import (
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    TextContent,
    TextPart,
    ToolCallPart,
    UserPromptPart,
)
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.models.test import TestModel

from evomem.adapter import counts
from evomem.adapter.contract import Call
from evomem.errors import QueryError
from evomem_integrations.pydantic_ai import EvoMemCapability
from tests.integrations.contract.pydantic_ai_host import Script

BLOCK = "<memory>"


def agent_of(script, *capabilities, **options):
    return Agent(script.model, capabilities=list(capabilities), **options)


def said(memory):
    return [(record.turn.user, record.turn.assistant) for record in memory.history()]


def as_json(result):
    return result.all_messages_json().decode()


@pytest.fixture
def memory(db):
    memory = db.memory("acme", "alice")
    memory.add("I live in Bergen.", reply="A rainy place!", session="before")
    return memory


async def test_recalled_turns_follow_the_system_prompt_and_are_in_no_history(memory):
    script = Script("In Bergen.", "Still there.")
    agent = agent_of(
        script,
        EvoMemCapability(memory),
        system_prompt="Be brief.",
        instructions="Be kind.",
    )
    first = await agent.run("Where do I live?")
    second = await agent.run("And now?", message_history=first.all_messages())
    for request in script.shown:
        system, block, *_ = request[0].parts
        assert system.content == "Be brief."
        assert BLOCK in block.content
        assert "I live in Bergen." in block.content
        assert request[-1].instructions == "Be kind."
    assert BLOCK not in as_json(second)
    assert "Be kind." in as_json(second)


async def test_a_processor_of_the_history_does_not_keep_what_is_recalled(memory):
    async def last_two(messages):
        return messages[-2:]

    for order in (1, -1):
        script = Script("In Bergen.", "Still there.")
        capabilities = [EvoMemCapability(memory), ProcessHistory(last_two)][::order]
        agent = agent_of(script, *capabilities)
        first = await agent.run("Where do I live?")
        second = await agent.run("And now?", message_history=first.all_messages())
        assert BLOCK in script.prompt()
        assert BLOCK not in as_json(second)


async def test_a_trimmed_history_loses_nothing_of_the_exchange(memory):
    async def last_only(messages):
        return messages[-1:]

    script = Script("One.", "Two.")
    agent = agent_of(script, EvoMemCapability(memory), ProcessHistory(last_only))
    first = await agent.run("First.")
    await agent.run("Second.", message_history=first.all_messages())
    assert said(memory)[1:] == [("First.", "One."), ("Second.", "Two.")]


async def test_the_turns_that_the_model_was_shown_are_named_and_marked(memory):
    agent = agent_of(Script("In Bergen."), EvoMemCapability(memory, turn_source="chat"))
    result = await agent.run("Where do I live?")
    shown, written = memory.history()
    assert written.turn.recalled == (shown.id,)
    assert written.turn.source == "chat"
    assert written.turn.session == result.conversation_id


async def test_turns_in_the_prompt_are_not_recalled(memory):
    script = Script("Noted.", "Fluffy.")
    agent = agent_of(script, EvoMemCapability(memory))
    first = await agent.run("My cat is called Fluffy.")
    await agent.run("What is my cat called?", message_history=first.all_messages())
    assert script.prompt().count("My cat is called Fluffy.") == 1


async def test_a_typed_output_is_written_as_json(memory):
    class City(BaseModel):
        name: str

    agent = Agent(
        TestModel(custom_output_args={"name": "Bergen"}),
        output_type=City,
        capabilities=[EvoMemCapability(memory)],
    )
    await agent.run("Where do I live?")
    assert said(memory)[-1] == ("Where do I live?", '{"name":"Bergen"}')


async def test_an_answer_that_was_rejected_or_changed_is_written_as_the_user_saw_it(memory):
    agent = agent_of(Script("Mallory's secret", "card 4242"), EvoMemCapability(memory))

    def check(text: str) -> str:
        if "secret" in text:
            raise ModelRetry("No secrets.")
        return text.replace("4242", "****")

    agent.output_validator(check)

    result = await agent.run("Which card?")
    assert said(memory)[-1] == ("Which card?", "card ****")
    assert result.output == "card ****"


async def test_a_run_that_fails_writes_nothing_and_its_question_is_written_once(memory):
    agent = agent_of(Script(ConnectionError("down"), "42."), EvoMemCapability(memory))
    with pytest.raises(ConnectionError):
        await agent.run("Price?")
    assert len(memory.history()) == 1
    kept = [ModelRequest([UserPromptPart("Price?")])]
    await agent.run("Price?", message_history=kept)
    assert said(memory)[1:] == [("Price?", "42.")]


def pausing(script, memory):
    agent = agent_of(script, EvoMemCapability(memory), output_type=[str, DeferredToolRequests])

    def look(result: str) -> str:
        return result

    agent.tool_plain(requires_approval=True)(look)
    return agent


def call(model_messages, info):
    return ModelResponse([TextPart("May I?"), ToolCallPart("look", {"result": "noise"})])


async def paused_run(agent, **options):
    with agent.override(model=FunctionModel(call)):
        return await agent.run("Send it.", **options)


def decision(paused, approved):
    return DeferredToolResults(
        approvals={call.tool_call_id: approved for call in paused.output.approvals}
    )


@pytest.mark.parametrize("approved", [True, False])
async def test_a_paused_run_is_written_and_completed_by_the_run_that_resumes_it(memory, approved):
    agent = pausing(Script("Done."), memory)
    paused = await paused_run(agent)
    assert said(memory)[1:] == [("Send it.", "May I?")]
    history = ModelMessagesTypeAdapter.validate_json(paused.all_messages_json())
    await agent.run(message_history=history, deferred_tool_results=decision(paused, approved))
    assert said(memory)[1:] == [("Send it.", "May I?\nDone.")]
    assert memory.history()[-1].turn.recalled == (memory.history()[0].id,)


async def test_words_that_come_with_the_decision_are_a_turn_of_their_own(memory):
    agent = pausing(Script("Done."), memory)
    paused = await paused_run(agent)
    options = {"deferred_tool_results": decision(paused, True)}
    await agent.run("And quickly.", message_history=paused.all_messages(), **options)
    assert said(memory)[1:] == [("Send it.", "May I?"), ("And quickly.", "Done.")]


async def test_a_question_that_only_the_history_holds_is_the_users(memory):
    agent = agent_of(Script("In Bergen."), EvoMemCapability(memory))
    await agent.run(message_history=[ModelRequest.user_text_prompt("Where do I live?")])
    assert said(memory)[-1] == ("Where do I live?", "In Bergen.")


async def test_the_same_words_in_a_conversation_without_history_are_all_written(memory):
    agent = agent_of(Script("One.", "Two."), EvoMemCapability(memory))
    for _ in range(2):
        await agent.run("Again.", conversation_id="c")
    assert said(memory)[1:] == [("Again.", "One."), ("Again.", "Two.")]


async def test_examples_in_front_of_every_run_do_not_make_runs_replace_each_other(memory):
    examples = [ModelRequest.user_text_prompt("2 + 2?"), ModelResponse([TextPart("4")])]
    agent = agent_of(Script("6", "8"), EvoMemCapability(memory))
    for question in ("3 + 3?", "4 + 4?"):
        await agent.run(question, message_history=examples, conversation_id="sums")
    assert said(memory)[1:] == [("3 + 3?", "6"), ("4 + 4?", "8")]


async def test_a_fork_of_a_conversation_replaces_nothing(memory):
    agent = agent_of(Script("Hi.", "One.", "Two."), EvoMemCapability(memory))
    begun = (await agent.run("Hello.")).all_messages()
    await agent.run("First.", message_history=begun)
    await agent.run("Second.", message_history=begun, conversation_id="new")
    assert said(memory)[1:] == [("Hello.", "Hi."), ("First.", "One."), ("Second.", "Two.")]


async def test_an_answer_made_again_twice_may_be_the_first_one_again(memory):
    agent = agent_of(Script("Hi.", "A.", "B.", "A."), EvoMemCapability(memory))
    begun = (await agent.run("Hello.")).all_messages()
    for _ in range(3):
        await agent.run("Which?", message_history=begun)
    assert said(memory)[1:] == [("Hello.", "Hi."), ("Which?", "A.")]


@pytest.mark.parametrize("kind", ["tools", "output_type"])
async def test_an_agent_that_a_function_calls_reads_and_does_not_write(memory, kind):
    inner = Script("Inside.")
    helper = agent_of(inner, EvoMemCapability(memory))

    async def look(result: str) -> str:
        """Ask another agent."""
        return str((await helper.run("Where does the user live?")).output)

    if kind == "tools":
        agent = agent_of(Script(Call("", "x"), "Inside."), EvoMemCapability(memory), tools=[look])
    else:
        agent = Agent(TestModel(), output_type=look, capabilities=[EvoMemCapability(memory)])
    await agent.run("Where do I live?")
    assert BLOCK in inner.prompt()
    assert said(memory)[1:] == [("Where do I live?", "Inside.")]


@pytest.mark.parametrize("how", ["run_stream", "run_stream_events", "iter"])
async def test_every_way_to_run_an_agent_writes_and_leaves_the_next_run_alone(memory, how):
    agent = agent_of(Script("One.", "Two."), EvoMemCapability(memory))
    if how == "run_stream":
        async with agent.run_stream("First.") as result:
            [_ async for _ in result.stream_text()]
            await agent.run("Second.")
    elif how == "run_stream_events":
        async with agent.run_stream_events("First.") as events:
            [_ async for _ in events]
        await agent.run("Second.")
    else:
        async with agent.iter("First.") as run:
            [_ async for _ in run]
            await agent.run("Second.")
    assert sorted(said(memory)[1:]) == [("First.", "One."), ("Second.", "Two.")]


async def test_runs_at_a_time_do_not_mix(memory):
    agent = Agent(TestModel(), capabilities=[EvoMemCapability(memory)])
    await asyncio.gather(*(agent.run(f"Question {n}.") for n in range(5)))
    assert sorted(user for user, _ in said(memory)[1:]) == [f"Question {n}." for n in range(5)]


async def test_an_agent_may_have_two_memories(db, memory):
    team = db.memory("acme", "team")
    team.add("The office in Bergen has a cat.")
    script = Script("Both.")
    agent = agent_of(script, EvoMemCapability(memory), EvoMemCapability(team, header="The team:"))
    await agent.run("What is in Bergen?")
    assert "I live in Bergen." in script.prompt()
    assert "The office in Bergen" in script.prompt()
    assert said(memory)[-1] == said(team)[-1] == ("What is in Bergen?", "Both.")


async def test_a_prompt_in_parts_is_written_without_pictures(memory):
    agent = agent_of(Script("A cat."), EvoMemCapability(memory))
    picture = ImageUrl("https://example.org/cat.png")
    await agent.run([TextContent("Look."), picture, "What is this?"])
    assert said(memory)[-1] == ("Look.\nWhat is this?", "A cat.")


async def test_an_imported_history_holds_what_the_capability_wrote(db):
    written, imported = db.memory("written"), db.memory("imported")

    def look(result: str) -> str:
        """Look something up."""
        return result

    script = Script(Call("Let me look.", "noise"), "42 kroner.", "Bye.")
    agent = agent_of(script, EvoMemCapability(written), tools=[look])
    first = await agent.run([TextContent("Price?"), "In kroner."])
    second = await agent.run("Thanks.", message_history=first.all_messages())
    imported.import_chats(json.loads(second.all_messages_json()))
    assert said(imported) == said(written)
    assert said(written)[0] == ("Price?\nIn kroner.", "Let me look.\n42 kroner.")


async def test_the_memory_may_depend_on_the_run(db):
    agent = Agent(
        TestModel(custom_output_text="Hi."),
        deps_type=str,
        capabilities=[EvoMemCapability[str](lambda ctx: db.memory("acme", ctx.deps))],
    )
    await agent.run("I am Bob.", deps="bob")
    assert said(db.memory("acme", "bob")) == [("I am Bob.", "Hi.")]


async def test_errors_of_the_memory_end_the_run_if_they_shall(db, memory):
    strict = agent_of(Script("Hi."), EvoMemCapability(memory, strict=True))
    lenient = agent_of(Script("Hi."), EvoMemCapability(memory))
    db.close()
    failed = counts.failed_writes
    assert (await lenient.run("Hello.")).output == "Hi."
    assert counts.failed_writes == failed + 1
    with pytest.raises(Exception, match="closed"):
        await strict.run("Hello.")


def test_an_option_that_makes_no_sense_is_refused_at_once(memory):
    with pytest.raises(QueryError, match="kk"):
        EvoMemCapability(memory, kk=3)
