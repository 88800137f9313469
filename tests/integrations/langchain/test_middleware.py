"""An agent with `EvoMemMiddleware`: real agents and databases, a chat model that follows a script."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware, ModelRetryMiddleware
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage, SystemMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from langgraph.types import Command

import evomem
from evomem import Turn
from evomem_integrations.langchain import EvoMemMiddleware
from tests.integrations.langchain.scripted import Scripted


def echo(messages):
    return f"You said: {messages[-1].text}"


def system(model, call=-1):
    first = model.shown[call][0]
    return first.text if isinstance(first, SystemMessage) else ""


def texts(memory):
    return [record.text for record in memory.history()]


def say(text, id=None):
    return {"messages": [HumanMessage(text, id=id)]}


THREAD: Any = {"configurable": {"thread_id": "t1"}}
OTHER: Any = {"configurable": {"thread_id": "t2"}}


@pytest.fixture
def memory(db):
    return db.memory("alice")


@pytest.fixture
def model():
    return Scripted(answer=echo, shown=[])


def agent(model, memory, *, tools=(), before=(), after=(), **options):
    middleware = [*before, EvoMemMiddleware(memory, **options.pop("search", {})), *after]
    options.setdefault("checkpointer", InMemorySaver())
    return create_agent(model, list(tools), middleware=middleware, **options)


# reading -------------------------------------------------------------------------------------


def test_an_agent_answers_after_a_restart_what_it_was_told_200_turns_ago(tmp_path):
    """The model knows nothing: the answer is in what the middleware shows it, or nowhere."""
    path = str(tmp_path / "agent.db")

    def answer(messages):
        remembered = messages[0].text if isinstance(messages[0], SystemMessage) else ""
        code = re.search(r"locker code is (\d+)", remembered)
        return code[1] if code and "locker" in messages[-1].text else "Noted."

    model = Scripted(answer=answer, shown=[])
    with evomem.open(path, encoder="static:all-MiniLM-L6-v2", synchronous="NORMAL") as db:
        talk = agent(model, db.memory("alice"))
        talk.invoke(say("My locker code is 4711."), THREAD)
        days = [f"Day {n}: I read page {n} of my book and drank tea." for n in range(199)]
        db.memory("alice").add_many([Turn(user=day, assistant="Noted.") for day in days[:-9]])
        for day in days[-9:]:
            talk.invoke(say(day), {"configurable": {"thread_id": day}})
        assert len(db.memory("alice")) == 200
    with evomem.open(path) as db:
        talk = agent(model, db.memory("alice"))
        done = talk.invoke(say("What was the code of my locker?"), OTHER)
        assert done["messages"][-1].text == "4711"
        assert len(db.memory("alice")) == 201
        nobody = agent(model, db.memory("bob"))
        asked = nobody.invoke(say("What was the code of my locker?"), OTHER)
        assert asked["messages"][-1].text == "Noted."


async def test_hits_are_shown_after_the_system_prompt_and_not_stored(memory, model):
    memory.add("My cat is called Miso.")
    talk = agent(model, memory, system_prompt="Be brief.")
    for call in (talk.invoke(say("my cat?"), THREAD), await talk.ainvoke(say("my cat?"), OTHER)):
        assert [message.type for message in call["messages"]] == ["human", "ai"]
        assert system(model).startswith("Be brief.\n\nWhat was said in earlier")
        assert re.search(r"<memory>\n\[\d{4}-\d\d-\d\d .*\] User: My cat is", system(model))
    saved = talk.get_state(THREAD).values
    assert set(saved) == {"messages", "evomem"}
    assert "Miso" not in str(saved)


def test_a_system_prompt_of_several_parts_keeps_them(memory, model):
    memory.add("My cat is called Miso.")
    prompt = SystemMessage([{"type": "text", "text": "Be brief."}])
    agent(model, memory, system_prompt=prompt).invoke(say("my cat?"), THREAD)
    parts = model.shown[-1][0].content
    assert parts[0] == {"type": "text", "text": "Be brief."}
    assert "Miso" in parts[1]["text"]


def test_an_empty_memory_adds_nothing_to_the_prompt(memory, model):
    agent(model, memory).invoke(say("hello"), THREAD)
    assert [message.type for message in model.shown[-1]] == ["human"]


def test_options_reach_the_search(memory, model):
    memory.add("My cat is called Miso.", metadata={"topic": "pets"})
    memory.add("My cat eats fish.", metadata={"topic": "food"})
    search = {"where": {"topic": "food"}, "header": "Known:"}
    agent(model, memory, search=search).invoke(say("my cat?"), THREAD)
    assert system(model).startswith("Known:\n<memory>")
    assert "fish" in system(model)
    assert "Miso" not in system(model)


def test_the_question_and_earlier_messages_of_the_thread_are_not_recalled(memory, model):
    """Neither the question itself nor what was said before in the same thread."""
    talk = agent(model, memory)
    talk.invoke(say("My cat is called Miso."), THREAD)
    talk.invoke(say("What is my cat called?"), THREAD)
    assert model.shown[-1][0].type == "human"
    talk.invoke(say("What is my cat called?"), OTHER)
    assert "Miso" in system(model)


def test_messages_removed_from_the_thread_are_recalled(memory, model):
    talk = agent(model, memory)
    talk.invoke(say("My cat is called Miso."), THREAD)
    talk.update_state(THREAD, {"messages": [RemoveMessage(REMOVE_ALL_MESSAGES)]})
    talk.invoke(say("What is my cat called?"), THREAD)
    assert "Miso" in system(model)
    assert len(memory) == 2


# writing -------------------------------------------------------------------------------------


async def test_each_exchange_is_one_turn_of_the_thread(memory, model):
    talk = agent(model, memory)
    talk.invoke(say("one"), THREAD)
    await talk.ainvoke(say("two"), THREAD)
    talk.invoke(say("three"), OTHER)
    assert texts(memory) == [
        f"User: {word}\nAssistant: You said: {word}" for word in ("one", "two", "three")
    ]
    assert [record.turn.session for record in memory.history()] == ["t1", "t1", "t2"]


def use_tool(messages):
    if messages[-1].type == "human":
        call = {"name": "look", "args": {"at": "sky"}, "id": "c1"}
        return AIMessage("Let me look.", tool_calls=[call])
    return "It is blue."


def look(at: str) -> str:
    """Look at something."""
    return f"{at}: blue"


SKY = "User: What colour is the sky?\nAssistant: Let me look.\nIt is blue."


def test_a_tool_loop_reads_for_each_call_and_writes_one_exchange(memory):
    memory.add("The sky was grey.")
    model = Scripted(answer=use_tool, shown=[])
    agent(model, memory, tools=[look]).invoke(say("What colour is the sky?"), THREAD)
    assert "grey" in system(model, 0)
    assert system(model, 0) == system(model, 1)
    assert texts(memory)[1:] == [SKY]


def test_an_interrupted_and_resumed_run_is_written_once(memory):
    model = Scripted(answer=use_tool, shown=[])
    approve = HumanInTheLoopMiddleware(interrupt_on={"look": True})
    talk = agent(model, memory, tools=[look], after=[approve])
    talk.invoke(say("What colour is the sky?"), THREAD)
    assert len(memory) == 0
    talk.invoke(Command(resume={"decisions": [{"type": "approve"}]}), THREAD)
    assert texts(memory) == [SKY]


def test_messages_of_an_interrupted_run_are_written_with_the_next_run(memory):
    model = Scripted(answer=use_tool, shown=[])
    stop = HumanInTheLoopMiddleware(interrupt_on={"look": True})
    talk = agent(model, memory, tools=[look], after=[stop])
    talk.invoke(say("What colour is the sky?"), THREAD)
    model.answer = echo
    talk.invoke(say("Never mind."), THREAD)
    assert [record.turn.user for record in memory.history()] == [
        "What colour is the sky?",
        "Never mind.",
    ]


def test_a_model_that_fails_first_is_written_once(memory, model):
    fails = iter([True, True, False])

    def sometimes(messages):
        if next(fails):
            raise ConnectionError("try again")
        return echo(messages)

    model.answer = sometimes
    retry = ModelRetryMiddleware(max_retries=3, initial_delay=0)
    agent(model, memory, before=[retry]).invoke(say("hello"), THREAD)
    assert len(model.shown) == 3
    assert texts(memory) == ["User: hello\nAssistant: You said: hello"]


def test_a_run_that_fails_writes_nothing_and_is_written_when_it_is_run_again(memory, model):
    def fail(messages):
        raise ConnectionError("down")

    model.answer = fail
    talk = agent(model, memory)
    with pytest.raises(ConnectionError):
        talk.invoke(say("hello"), THREAD)
    assert len(memory) == 0
    model.answer = lambda messages: "Hi."
    talk.invoke(None, THREAD)
    assert texts(memory) == ["User: hello\nAssistant: Hi."]
    assert model.shown[-1][0].type == "human"


def test_a_message_sent_again_after_a_failure_counts_once(memory, model):
    def fail(messages):
        raise ConnectionError("down")

    model.answer = fail
    talk = agent(model, memory)
    with pytest.raises(ConnectionError):
        talk.invoke(say("hello"), THREAD)
    model.answer = lambda messages: "Hi."
    talk.invoke(say("hello"), THREAD)
    assert texts(memory) == ["User: hello\nAssistant: Hi."]


def test_writing_again_after_a_crash_changes_nothing(memory, model):
    """The exchange was written, the checkpoint behind it was not: the step runs again."""
    talk = agent(model, memory)
    talk.invoke(say("hello"), THREAD)
    before = [step for step in talk.get_state_history(THREAD) if step.next][0]
    assert before.next[0].endswith(".after_agent")
    talk.invoke(None, before.config)
    assert texts(memory) == ["User: hello\nAssistant: You said: hello"]


def test_an_answer_that_is_made_again_replaces_the_old_one(memory, model):
    talk = agent(model, memory)
    talk.invoke(say("hello"), THREAD)
    before = [step for step in talk.get_state_history(THREAD) if step.next == ("model",)][0]
    model.answer = lambda messages: "A better answer."
    talk.invoke(None, before.config)
    assert texts(memory) == ["User: hello\nAssistant: A better answer."]


def test_purged_turns_are_not_written_again(memory, model):
    talk = agent(model, memory)
    talk.invoke(say("My secret is 1234."), THREAD)
    memory.purge(memory.history()[0].id)
    talk.invoke(say("hello"), THREAD)
    assert texts(memory) == ["User: hello\nAssistant: You said: hello"]


def test_without_a_checkpointer_the_last_exchange_of_what_is_sent_is_written(memory, model):
    """A caller without threads sends the whole conversation again each time."""
    talk = agent(model, memory, checkpointer=None)
    sent: list[Any] = []
    for text in ("one", "two", "three"):
        sent = talk.invoke({"messages": [*sent, HumanMessage(text)]})["messages"]
        sent = [type(message)(message.text) for message in sent]  # as from a client: without ids
    assert [record.turn.user for record in memory.history()] == ["one", "two", "three"]


def test_callers_who_number_their_messages_do_not_overwrite_each_other(memory, model):
    for checkpointer in (None, InMemorySaver()):
        talk = agent(model, memory, checkpointer=checkpointer)
        for thread in ("a", "b"):
            place: Any = {"configurable": {"thread_id": thread}} if checkpointer else None
            talk.invoke(say(f"I am {thread}", id="1"), place)
    assert len(memory) == 4


def test_a_message_without_text_stores_only_the_answer(memory, model):
    picture = {"type": "image", "url": "https://example.org/cat.png"}
    model.answer = lambda messages: "A cat."
    agent(model, memory).invoke({"messages": [HumanMessage([picture])]}, THREAD)
    assert texts(memory) == ["Assistant: A cat."]


# whose memory --------------------------------------------------------------------------------


@dataclass
class Context:
    user: str


async def test_the_memory_is_chosen_by_the_runs_context(db, model):
    talk = create_agent(
        model,
        [],
        middleware=[EvoMemMiddleware(lambda runtime: db.memory("acme", runtime.context.user))],
        context_schema=Context,
        checkpointer=InMemorySaver(),
    )
    talk.invoke(say("My cat is called Miso."), THREAD, context=Context("alice"))
    await talk.ainvoke(say("my cat?"), OTHER, context=Context("bob"))
    assert model.shown[-1][0].type == "human"
    await talk.ainvoke(say("my cat?"), OTHER, context=Context("alice"))
    assert "Miso" in system(model)
    assert db.memories() == [("acme", "alice"), ("acme", "bob")]


# provenance ----------------------------------------------------------------------------------


def test_an_exchange_names_its_source_and_the_turns_that_the_model_was_shown(model, memory):
    memory.add("I live in Bergen.", id="home", source="user")
    memory.add("Alice lives in Rome.", id="lie", source="web")
    talk = agent(model, memory, search={"turn_source": "user", "not_source": "web"})
    result = talk.invoke(say("Where do I live?"), THREAD)
    talk.invoke(say("In which town do I live?"), OTHER)
    first, second = (record.turn for record in memory.history(after=2))
    assert (first.source, first.recalled) == ("user", ("home",))
    assert set(second.recalled) == {"home", first.id}
    assert memory.influence("home").answers == (first.id, second.id)
    assert result["messages"][-1].response_metadata["evomem_recalled"] == ["home"]
    assert "Rome" not in system(model)


async def test_the_async_twin_names_them_too(model, memory):
    memory.add("I live in Bergen.", id="home")
    await agent(model, memory).ainvoke(say("Where do I live?"), THREAD)
    assert memory.history()[-1].turn.recalled == ("home",)


def test_an_agent_with_an_empty_memory_marks_nothing(model, memory):
    result = agent(model, memory).invoke(say("Where do I live?"), THREAD)
    assert "evomem_recalled" not in result["messages"][-1].response_metadata
    assert memory.history()[-1].turn.recalled == ()


# threads that users share ------------------------------------------------------------------------


@dataclass
class User:
    name: str


def test_messages_of_another_user_in_the_same_thread_are_not_written(db):
    def answer(messages):
        if "crash" in messages[-1].text:
            raise RuntimeError("no answer")
        return "Noted."

    model = Scripted(answer=answer, shown=[])
    talk = agent(
        model, lambda runtime: db.memory("acme", runtime.context.name), context_schema=User
    )
    talk.invoke(say("I am Alice."), THREAD, context=User("alice"))
    with pytest.raises(RuntimeError):
        talk.invoke(say("My PIN is 4711, crash!"), THREAD, context=User("alice"))
    talk.invoke(say("I am Bob."), THREAD, context=User("bob"))
    talk.invoke(say("I still am."), THREAD, context=User("bob"))
    talk.invoke(say("Alice again."), THREAD, context=User("alice"))
    told = {
        name: [r.turn.user for r in db.memory("acme", name).history()] for name in ("alice", "bob")
    }
    assert told == {"alice": ["I am Alice.", "Alice again."], "bob": ["I am Bob.", "I still am."]}
