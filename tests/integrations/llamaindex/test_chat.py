"""A chat engine and agents of LlamaIndex with a scripted model, over a database on disk."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from llama_index.core.agent.workflow import FunctionAgent, ReActAgent
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.llms import ChatMessage
from llama_index.core.workflow import Context

from tests.integrations.llamaindex.scripted import (
    ScriptedLLM,
    asked,
    assistant,
    call,
    remembered,
    user,
)

pytestmark = pytest.mark.filterwarnings(  # llama-index-workflows looks at every attribute (2.26.1)
    "ignore::pydantic.warnings.PydanticDeprecationWarning"
)


def log(memory):
    return [(record.turn.session, record.text) for record in memory.memory.history()]


# chat engine -----------------------------------------------------------------------------------


def engine(memory, *replies):
    llm = ScriptedLLM.of(*replies)
    return SimpleChatEngine.from_defaults(llm=llm, memory=memory, system_prompt="Be kind."), llm


def test_a_chat_engine_remembers_across_sessions_and_restarts(make):
    chat, _ = engine(make("monday"), "A rainy place!", "Cute.")
    chat.chat("I live in Bergen.")
    chat.chat("My cat is called Miso.")

    chat, llm = engine(make("tuesday"), "In Bergen.")  # everything is opened anew
    assert str(chat.chat("Where do I live?")) == "In Bergen."
    [prompt] = llm.asked
    assert prompt[0] == ChatMessage(role="system", content="Be kind.")
    assert asked(prompt) == ["Where do I live?"]
    assert remembered(prompt).count("I live in Bergen.") == 1
    assert "Where do I live?" not in remembered(prompt)

    chat, llm = engine(make("monday"), "You are welcome.")  # monday goes on where it stopped
    chat.chat("Thank you.")
    assert asked(llm.asked[0]) == ["I live in Bergen.", "My cat is called Miso.", "Thank you."]
    assert "Where do I live?" in remembered(llm.asked[0])
    assert "Miso" not in remembered(llm.asked[0])  # the history shows it

    assert log(make()) == [
        ("monday", "User: I live in Bergen.\nAssistant: A rainy place!"),
        ("monday", "User: My cat is called Miso.\nAssistant: Cute."),
        ("tuesday", "User: Where do I live?\nAssistant: In Bergen."),
        ("monday", "User: Thank you.\nAssistant: You are welcome."),
    ]


def test_a_chat_engine_that_is_given_the_history_each_time_doubles_nothing(make):
    history: list[ChatMessage] = []
    for number in range(3):
        chat, _ = engine(make("s"), f"Answer {number}")
        chat.chat(f"Question {number}", chat_history=history)
        history = chat.chat_history
    assert [text for _, text in log(make())] == [
        f"User: Question {number}\nAssistant: Answer {number}" for number in range(3)
    ]


def test_a_streamed_answer_is_kept_when_it_is_over(make):
    memory = make()
    chat, _ = engine(memory, "A rainy place, that is.")
    stream = chat.stream_chat("I live in Bergen.")
    assert "".join(stream.response_gen) == "A rainy place, that is."
    assert log(memory) == [
        ("monday", "User: I live in Bergen.\nAssistant: A rainy place, that is.")
    ]


async def test_the_asynchronous_chat_engine_does_the_same(make):
    memory = make()
    chat, llm = engine(memory, "A rainy place!", "In Bergen.")
    await chat.achat("I live in Bergen.")
    await chat.achat("Where do I live?")
    assert remembered(llm.asked[1]) == "Be kind."  # the history shows it all
    chat.reset()
    assert memory.get_all() == []
    assert len(log(memory)) == 2


# agents ----------------------------------------------------------------------------------------


def weather(city: str) -> str:
    """Return the weather."""
    return f"Rain in {city}"


async def test_an_agent_with_a_tool_writes_one_turn_and_keeps_every_message(make):
    memory = make()
    llm = ScriptedLLM.of(call("weather", city="Bergen"), "Take an umbrella.")
    agent = FunctionAgent(llm=llm, tools=[weather], streaming=False)
    result = await agent.run("Shall I take an umbrella in Bergen?", memory=memory)
    assert str(result) == "Take an umbrella."
    assert log(memory) == [
        ("monday", "User: Shall I take an umbrella in Bergen?\nAssistant: Take an umbrella.")
    ]
    assert [message.role.value for message in memory.get_all()] == [
        "user", "assistant", "tool", "assistant",
    ]  # fmt: skip


async def test_an_agent_continues_from_a_serialised_context(make):
    memory = make("monday")
    agent = FunctionAgent(llm=ScriptedLLM.of("A rainy place!"), streaming=False)
    context = Context(agent)
    await agent.run("I live in Bergen.", memory=memory, ctx=context)
    saved = json.dumps(context.to_dict())
    del memory, context

    llm = ScriptedLLM.of("In Bergen.")
    agent = FunctionAgent(llm=llm, streaming=False)
    context = Context.from_dict(agent, json.loads(saved))
    await agent.run("Where do I live?", ctx=context)
    assert [m.content for m in llm.asked[0]] == [
        "I live in Bergen.", "A rainy place!", "Where do I live?",
    ]  # fmt: skip
    assert Counter(text for _, text in log(make())) == {
        "User: I live in Bergen.\nAssistant: A rainy place!": 1,
        "User: Where do I live?\nAssistant: In Bergen.": 1,
    }


@pytest.mark.parametrize("streaming", [True, False])
async def test_agents_in_several_sessions_share_what_was_said(make, streaming):
    for session, message, reply in [
        ("mon", "I live in Bergen.", "A rainy place!"),
        ("tue", "I moved to Oslo.", "Congratulations!"),
    ]:
        agent = FunctionAgent(llm=ScriptedLLM.of(reply), streaming=streaming)
        await agent.run(message, memory=make(session))
    llm = ScriptedLLM.of("In Oslo.")
    agent = FunctionAgent(llm=llm, streaming=streaming)
    await agent.run("Where do I live now?", memory=make("wed"))
    result = remembered(llm.asked[0])
    assert result.index("I live in Bergen.") < result.index("I moved to Oslo.")
    assert result.count("User:") == 2
    assert len(log(make())) == 3


async def test_an_agents_prompt_has_no_other_system_message_than_its_own(make):
    make("mon").put_messages([user("I live in Bergen."), assistant("A rainy place!")])
    llm = ScriptedLLM.of("In Bergen.")
    agent = FunctionAgent(llm=llm, streaming=False, system_prompt="Be kind.")
    await agent.run("Where do I live?", memory=make("tue"))
    [prompt] = llm.asked
    assert [m.content for m in prompt if m.role == "system"] == ["Be kind."]
    assert "I live in Bergen." in remembered(prompt)
    assert asked(prompt) == ["Where do I live?"]


@pytest.mark.filterwarnings("ignore:is_running called from within a step")  # ReActAgent's
async def test_a_reasoning_agent_is_not_in_the_way(make):
    memory = make()
    llm = ScriptedLLM.of("Thought: I know this.\nAnswer: In Bergen.")
    agent = ReActAgent(llm=llm, streaming=False)
    await agent.run("Where do I live?", memory=memory)
    [(_, exchange)] = log(memory)
    assert exchange.startswith("User: Where do I live?\nAssistant: Thought: I know this.")


async def test_a_history_that_an_agent_is_given_is_read_once(make):
    history = [user("I live in Bergen."), assistant("A rainy place!")]
    for reply in ("In Bergen.", "Still in Bergen."):
        agent = FunctionAgent(llm=ScriptedLLM.of(reply), streaming=False)
        await agent.run(f"Where? {reply}", chat_history=history, memory=make())
    assert len(log(make())) == 3
