"""`EvoMemChatMessageHistory`: what is added comes out again, for code that keeps its own history."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import RunnableLambda
from langchain_core.runnables.history import RunnableWithMessageHistory

import evomem
from evomem.adapter import counts
from evomem.errors import StoreError
from evomem_integrations.langchain import EvoMemChatMessageHistory

CALL = {"name": "look", "args": {"at": "sky"}, "id": "c1", "type": "tool_call"}
TALK = [
    SystemMessage("Be brief."),
    HumanMessage("What colour is the sky?", id="h1"),
    AIMessage("", tool_calls=[CALL]),
    ToolMessage("sky: blue", tool_call_id="c1"),
    AIMessage("Blue.", id="a1"),
    HumanMessage([{"type": "text", "text": "And this?"}, {"type": "image", "url": "https://x/y"}]),
    AIMessage("A cat."),
]


@pytest.fixture
def history(db):
    return EvoMemChatMessageHistory(db.memory("alice"), "monday")


def said(history):
    return [record.text for record in history.memory.history()]


def test_messages_come_out_exactly_as_they_went_in(history):
    history.add_messages(TALK)
    assert history.messages == TALK


def test_a_question_and_its_answer_are_one_exchange_of_the_memory(history):
    history.add_messages(TALK)
    assert said(history) == [
        "User: What colour is the sky?\nAssistant: Blue.",
        "User: And this?\nAssistant: A cat.",
    ]


def test_messages_added_one_by_one_keep_their_order(history):
    for message in TALK:
        history.add_message(message)
    assert history.messages == TALK
    assert said(history) == [
        "User: What colour is the sky?\nAssistant: Blue.",
        "User: And this?\nAssistant: A cat.",
    ]


def test_sessions_do_not_see_each_other_and_are_cleared_alone(history):
    other = EvoMemChatMessageHistory(history.memory, "tuesday")
    history.add_user_message("one")
    other.add_user_message("two")
    history.clear()
    assert history.messages == []
    assert [message.text for message in other.messages] == ["two"]


def test_turns_that_others_wrote_are_no_messages(history):
    history.memory.add("Not a message.", session="monday")
    assert history.messages == []


def test_messages_longer_than_metadata_come_out_as_they_went_in(history):
    talk = [HumanMessage("Read this: " + "clause " * 30_000), AIMessage("é" * 200_000, id="a1")]
    history.add_messages(talk)
    history.add_messages([HumanMessage("And?"), AIMessage("No.")])
    assert history.messages[:2] == talk
    assert len(said(history)) == 2


def test_oversized_messages_are_cut_and_marked(history):
    picture = {"type": "image", "base64": "x" * 300_000, "mime_type": "image/png"}
    history.add_messages(
        [
            HumanMessage("a\x00b" + "c" * 300_000),
            AIMessage("", tool_calls=[CALL]),
            ToolMessage("noise " * 50_000, tool_call_id="c1"),
            AIMessage("d\ud83d"),
            HumanMessage([{"type": "text", "text": "And this?"}, picture]),
            AIMessage("A cat."),
        ]
    )
    texts = [message.text for message in history.messages]
    assert texts[0] == ("ab" + "c" * 300_000)[:262_144]
    assert texts[2].startswith("noise noise")
    assert texts[2].endswith("[cut: 300,000 characters]")
    assert texts[3] == "d\ufffd"
    assert texts[4] == "And this?[image left out: too long to keep]"
    first = history.memory.history()[0].turn
    assert first.assistant == "d\ufffd"
    assert first.metadata["cleaned_user"][0] == "1 NUL character removed"


def test_a_history_that_cannot_be_read_or_written_ends_no_run(tmp_path):
    db = evomem.open(str(tmp_path / "gone.db"), encoder="hash")
    history = EvoMemChatMessageHistory(db.memory("a"), "s")
    strict = EvoMemChatMessageHistory(db.memory("a"), "s", strict=True)
    db.close()
    before = counts.to_json()
    history.add_messages([HumanMessage("hi")])
    assert history.messages == []
    assert counts.failed_writes == before["failed_writes"] + 1
    assert counts.failed_reads == before["failed_reads"] + 1
    with pytest.raises(StoreError):
        strict.add_messages([HumanMessage("hi")])


async def test_a_runnable_with_history_continues_after_a_restart(tmp_path):
    path = str(tmp_path / "chat.db")
    prompt = ChatPromptTemplate([MessagesPlaceholder("past"), ("user", "{input}")])
    model: Any = RunnableLambda(lambda value: AIMessage(f"{len(value.to_messages())} messages"))
    for turn in (1, 2):
        with evomem.open(path, encoder="hash") as db:
            with pytest.warns(DeprecationWarning, match="RunnableWithMessageHistory"):
                chat = RunnableWithMessageHistory(
                    prompt | model,
                    lambda session_id, db=db: EvoMemChatMessageHistory(db.memory("a"), session_id),
                    input_messages_key="input",
                    history_messages_key="past",
                )
            where: Any = {"configurable": {"session_id": "monday"}}
            assert chat.invoke({"input": "hi"}, where).text == f"{4 * turn - 3} messages"
            answer = await chat.ainvoke({"input": "hi"}, where)
            assert answer.text == f"{4 * turn - 1} messages"
            assert len(db.memory("a")) == 2 * turn
