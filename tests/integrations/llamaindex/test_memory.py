"""What a user of `EvoMemMemory` may rely on, on a real database."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.base.llms.types import ImageBlock, TextBlock
from llama_index.core.llms import ChatMessage
from llama_index.core.memory import BaseMemory
from llama_index.core.storage.chat_store.base_db import MessageStatus

from evomem.errors import FingerprintMismatch
from evomem_integrations.llamaindex import EvoMemMemory
from evomem_integrations.llamaindex.chats import Chats, run
from evomem_integrations.llamaindex.turns import complete
from tests.integrations.llamaindex.scripted import asked, assistant, call, remembered, user


def texts(memory):
    return [record.text for record in memory.memory.history()]


def said(messages):
    return [(message.role.value, message.content) for message in messages]


# turns ---------------------------------------------------------------------------------------


def test_a_message_and_its_answer_become_one_turn_of_the_session(make):
    memory = make()
    memory.put(user("I live in Bergen."))
    assert texts(memory) == []
    memory.put(assistant("A rainy place!"))
    [record] = memory.memory.history()
    assert record.text == "User: I live in Bergen.\nAssistant: A rainy place!"
    assert record.turn.session == "monday"


def test_two_messages_in_a_row_are_answered_together(make):
    memory = make()
    memory.put_messages([user("Hello?"), user("Is anybody there?")])
    assert texts(memory) == []
    memory.put(assistant("Yes."))
    assert texts(memory) == ["User: Hello?\nIs anybody there?\nAssistant: Yes."]


def test_text_before_a_tool_call_is_part_of_the_answer(make):
    memory = make()
    look = assistant("Let me look.")
    look.additional_kwargs["tool_calls"] = [{"id": "c1"}]
    memory.put_messages([user("What time is it?"), look])
    assert texts(memory) == []
    memory.put(ChatMessage(role="tool", content="15:04"))
    memory.put(assistant("Four past three."))
    content = "User: What time is it?\nAssistant: Let me look.\nFour past three."
    assert texts(memory) == [content]


def test_an_answer_that_continues_takes_the_place_of_its_beginning(make):
    memory = make()
    memory.put_messages([user("What time is it?"), assistant("Four past three.")])
    memory.put(assistant("In Paris."))
    assert texts(memory) == ["User: What time is it?\nAssistant: Four past three.\nIn Paris."]


def test_tools_and_system_messages_stay_in_the_history_and_out_of_the_memory(make):
    memory = make()
    messages = [
        ChatMessage(role="system", content="Be kind."),
        user("What time is it?"),
        call("clock", zone="CET"),
        ChatMessage(role="tool", content="15:04", additional_kwargs={"tool_call_id": "c1"}),
        assistant("Four past three."),
    ]
    memory.put_messages(messages)
    assert texts(memory) == ["User: What time is it?\nAssistant: Four past three."]
    assert memory.get_all() == messages


def test_an_exchange_that_happens_twice_is_two_turns(make):
    memory = make()
    for _ in range(2):
        memory.put_messages([user("Water the plants."), assistant("Done.")])
    assert len(texts(memory)) == 2


def test_messages_without_text_are_no_turns(make):
    memory = make()
    picture = ChatMessage(role="user", blocks=[ImageBlock(url="http://example.com/a.png")])
    memory.put_messages([picture, user(" "), assistant("Nice picture!")])
    assert texts(memory) == ["Assistant: Nice picture!"]
    assert memory.get_all()[0].blocks == picture.blocks


def test_an_oversized_message_is_cut_in_the_turn_and_kept_in_the_chat(make):
    memory = make()
    long = "a\x00b " * 100_000
    memory.put_messages([user(long), assistant("I see.")])
    [record] = memory.memory.history()
    assert len(record.turn.user) == 262_144
    assert "\x00" not in record.turn.user
    assert memory.get_all()[0].content == long


# reading -------------------------------------------------------------------------------------


def test_turns_of_other_sessions_come_before_the_users_words(make):
    make("sunday").put_messages([user("I live in Bergen."), assistant("A rainy place!")])
    memory = make("monday")
    memory.put(user("Where do I live?"))
    [question] = memory.get()
    assert question.role == "user"
    assert "User: I live in Bergen.\nAssistant: A rainy place!" in remembered([question])
    assert asked([question]) == ["Where do I live?"]
    assert said(memory.get_all()) == [("user", "Where do I live?")]


def test_a_system_message_of_the_history_takes_the_memories_and_is_kept_as_it_was(make):
    make("sunday").put_messages([user("I live in Bergen."), assistant("A rainy place!")])
    memory = make("monday")
    memory.put_messages([ChatMessage(role="system", content="Be kind."), user("Where do I live?")])
    [system, _] = memory.get()
    assert (system.content or "").startswith("Be kind.")
    assert "Bergen" in (system.content or "")
    assert memory.get_all()[0].content == "Be kind."


def test_the_waiting_message_is_never_found(make):
    make("sunday").put_messages([user("I live in Bergen."), assistant("A rainy place!")])
    memory = make("monday")
    memory.put(user("I live in Bergen, where is that?"))
    assert "where is that" not in remembered(memory.get())
    assert "where is that" not in remembered(memory.get(input="I live in Bergen, where is that?"))


def test_a_crash_before_the_answer_was_kept_does_not_let_the_question_find_itself(make):
    """The memory is written first: after a crash it holds a turn whose message still waits."""
    memory = make()
    memory.put(user("Where do I live?"))
    memory.memory.add_many(complete([*memory.get_all(), assistant("In Bergen.")], "monday"))
    assert remembered(make().get()) == ""
    make().put(assistant("In Bergen."))
    assert texts(memory) == ["User: Where do I live?\nAssistant: In Bergen."]


def test_turns_that_the_history_shows_are_not_repeated(make):
    memory = make()
    memory.put_messages([user("I live in Bergen."), assistant("A rainy place!")])
    memory.put(user("Where do I live?"))
    assert remembered(memory.get()) == ""


def test_messages_set_beyond_the_token_limit_are_stored_and_recalled(make):
    memory = make(token_limit=60)
    messages = [user("I live in Bergen."), assistant("A rainy place!")]
    messages += [(user, assistant)[n % 2](f"This is line {n} of a long talk.") for n in range(40)]
    memory.set([*messages, user("Where do I live?")])
    assert len(memory.get_all()) == 43
    assert len(texts(memory)) == 21
    assert len(memory.get()) < 20
    assert "I live in Bergen." in remembered(memory.get())


def test_turns_that_no_longer_fit_the_history_are_remembered(make):
    memory = make(token_limit=40)
    memory.put_messages([user("I live in Bergen."), assistant("A rainy place!")])
    for number in range(12):
        memory.put_messages([user(f"Count on: {number}"), assistant(f"{number + 1}")])
    memory.put(user("Where do I live, in Bergen?"))
    assert "A rainy place!" not in [m.content for m in memory.get()]
    assert "I live in Bergen." in remembered(memory.get())
    assert len(memory.get_all()) == 27
    assert len(memory.get_all(status=MessageStatus.ACTIVE)) < 27


def test_input_is_what_is_looked_for(make):
    sunday = make("sunday")
    sunday.put_messages([user("I live in Bergen."), assistant("A rainy place!")])
    sunday.put_messages([user("My cat is called Miso."), assistant("Cute.")])
    memory = make("monday", k=1)
    memory.put(user("Hello!"))
    assert "Miso" in remembered(memory.get(input="the cat called Miso", initial_token_count=7))
    assert "Bergen" in remembered(memory.get(input=user("who lives in Bergen")))


def test_without_a_question_there_is_only_the_history(make):
    make("sunday").put_messages([user("I live in Bergen."), assistant("A rainy place!")])
    assert make("monday").get() == []


def test_reading_changes_nothing(make):
    memory = make()
    memory.put_messages([user("I live in Bergen."), assistant("Nice."), user("Where?")])
    before = (texts(memory), memory.get_all(), memory.get())
    assert (texts(memory), memory.get_all(), memory.get()) == before


def test_memories_are_isolated_by_namespace(make):
    make(namespace=("acme", "bob")).put_messages([user("I live in Rome."), assistant("Ciao!")])
    memory = make("monday")
    memory.put(user("Where do I live?"))
    assert remembered(memory.get()) == ""


# set and reset -------------------------------------------------------------------------------


def test_set_replaces_the_history_and_reads_each_turn_once(make):
    memory = make()
    messages = [
        user("I live in Bergen."),
        assistant("Nice."),
        user("I have a cat."),
        assistant("!"),
    ]
    memory.set(messages[:2])
    memory.set(messages)
    memory.set([*messages, user("Where do I live?")])
    assert len(texts(memory)) == 2
    memory.set(messages[2:])  # a window that has moved on
    assert len(texts(memory)) == 2
    assert memory.get_all() == messages[2:]


def test_reset_forgets_the_messages_and_keeps_what_was_read(make):
    memory = make()
    memory.put_messages([user("I live in Bergen."), assistant("Nice."), user("And")])
    memory.reset()
    assert memory.get_all() == []
    assert len(texts(memory)) == 1
    memory.put(user("Where do I live?"))
    assert "Bergen" in remembered(memory.get())


def test_a_deleted_turn_stays_deleted_when_its_conversation_is_set_again(make):
    memory = make()
    messages = [user("I live in Bergen."), assistant("Nice.")]
    memory.set(messages)
    memory.memory.delete(memory.memory.history()[0].id)
    memory.set([*messages, user("And now?"), assistant("Now is now.")])
    assert texts(memory) == ["User: And now?\nAssistant: Now is now."]


def test_a_purged_turn_does_not_come_back_with_the_next_message(make):
    memory = make()
    memory.put_messages([user("My secret is 4711."), assistant("Safe with me.")])
    memory.memory.purge(memory.memory.history()[0].id)
    memory.put_messages([user("Next."), assistant("Yes?")])
    assert texts(memory) == ["User: Next.\nAssistant: Yes?"]


# copies and restarts ---------------------------------------------------------------------------


def copies(memory):
    yield pickle.loads(pickle.dumps(memory))
    yield copy.deepcopy(memory)
    yield memory.model_copy()
    yield EvoMemMemory.from_dict(json.loads(json.dumps(memory.to_dict())))
    yield EvoMemMemory.from_json(memory.to_json())


def test_copies_and_serialised_ones_find_the_same_data(make):
    make("sunday").put_messages([user("I live in Bergen."), assistant("Nice.")])
    memory = make("monday")
    memory.put(user("Where do I live?"))
    for twin in copies(memory):
        assert twin.to_dict() == memory.to_dict()
        assert twin.get() == memory.get()


def test_copies_of_a_memory_share_one_open_database(make):
    memory = make()
    memory.put(user("Hello."))
    memory.put(assistant("Hello."))
    engines = {id(twin.memory._engine) for twin in copies(memory)}
    assert engines == {id(memory.memory._engine)}


def test_an_unanswered_message_waits_across_a_restart(make):
    make().put(user("I live in Bergen."))
    memory = make()
    assert texts(memory) == []
    memory.put(assistant("Nice."))
    assert texts(memory) == ["User: I live in Bergen.\nAssistant: Nice."]


def test_another_encoder_is_refused_whether_or_not_the_database_is_open(make):
    memory = make()
    memory.put_messages([user("a"), assistant("b")])
    with pytest.raises(FingerprintMismatch, match="omit encoder"):
        make(encoder="hash:64").put_messages([user("c"), assistant("d")])
    del memory
    gc.collect()
    with pytest.raises(FingerprintMismatch, match="use a new path"):
        make(encoder="hash:64").put_messages([user("c"), assistant("d")])


def test_messages_are_stored_next_to_the_database_and_nowhere_else(make, tmp_path):
    make().put_messages([user("a"), assistant("b")])
    assert {path.name.partition(".db")[2] for path in tmp_path.iterdir()} >= {"", ".chat"}
    with sqlite3.connect(tmp_path / "agent.db.chat") as chat:
        assert chat.execute("select count(*) from evomem_messages").fetchone() == (2,)
    chat.close()


@pytest.mark.parametrize("location", [":memory:", "postgresql://server/db"])
def test_where_there_is_no_file_it_needs_to_be_told_where_messages_go(make, tmp_path, location):
    with pytest.raises(ValueError, match="set chat_store_uri"):
        make(location=location).put(user("a"))
    memory = make(chat_store_uri=f"sqlite+aiosqlite:///{tmp_path}/elsewhere")
    memory.put(user("a"))
    assert (tmp_path / "elsewhere").exists()


# as LlamaIndex's own memory does -----------------------------------------------------------------


def test_it_is_a_memory_of_llamaindex():
    assert issubclass(EvoMemMemory, BaseMemory)
    assert EvoMemMemory.class_name() == "EvoMemMemory"


async def test_it_works_inside_an_event_loop_synchronously_and_not(make):
    memory = make()
    memory.put(user("I live in Bergen."))
    await memory.aput(assistant("Nice."))
    memory.put(user("Where do I live?"))
    assert memory.get() == await memory.aget()
    assert memory.get_all() == await memory.aget_all()
    await memory.aset([user("x")])
    memory.reset()
    assert await memory.aget_all() == []


MESSAGES = st.builds(
    ChatMessage,
    role=st.sampled_from(["user", "assistant", "tool", "system"]),
    blocks=st.lists(
        st.builds(TextBlock, text=st.sampled_from(["a", "b c", "", "ä\n"])), max_size=2
    ),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put_messages"), st.lists(MESSAGES, max_size=4)),
        st.tuples(st.just("set"), st.lists(MESSAGES, max_size=4)),
        st.tuples(st.just("reset")),
    ),
    max_size=6,
)


@settings(max_examples=8)
@given(steps=STEPS, session=st.uuids().map(str))
def test_any_use_keeps_the_history_that_llamaindex_would_keep(make, tmp_path, steps, session):
    memory = make(session, token_limit=12)
    theirs = Chats(str(tmp_path / "theirs"), None).open(("acme",), session, token_limit=12)
    for name, *arguments in steps:
        if name == "put_messages" and not arguments[0]:
            continue  # theirs sends an empty INSERT
        getattr(memory, name)(*arguments)
        run(getattr(theirs, f"a{name}")(*arguments))
    assert make(session).get_all() == run(theirs.aget_all())
    assert run(run(memory._history()).aget()) == run(theirs.aget())


@settings(max_examples=8)
@given(
    messages=st.lists(MESSAGES, max_size=6),
    cuts=st.sets(st.integers(1, 5)),
    name=st.uuids().map(str),
)
def test_however_messages_arrive_the_turns_are_the_same(make, messages, cuts, name):
    once, bit_by_bit = (make(name + side, namespace=(name, side)) for side in "ab")
    once.set(messages)
    start = 0
    for end in [*sorted(cut for cut in cuts if cut < len(messages)), len(messages)]:
        bit_by_bit.put_messages(messages[start:end])
        start = end
    assert texts(once) == texts(bit_by_bit)


# provenance ----------------------------------------------------------------------------------


def test_a_turn_names_its_source_and_the_turns_that_were_shown_with_its_question(make):
    memory = make(turn_source="user")
    memory.memory.add("I live in Bergen.", id="home", session="sunday")
    memory.put(user("Where do I live?"))
    memory.get()
    memory.put(assistant("In Bergen."))
    memory.put(user("Thank you."))
    memory.put(assistant("You are welcome."))
    answer, thanks = (record.turn for record in memory.memory.history(after=1))
    assert (answer.source, answer.recalled) == ("user", ("home",))
    assert (thanks.source, thanks.recalled) == ("user", ())
    assert memory.memory.influence("home").answers == (answer.id,)
