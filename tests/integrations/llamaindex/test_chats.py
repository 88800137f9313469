"""Whose messages are whose, what becomes of those kept by session alone, and what forgets them."""

from __future__ import annotations

import copy
import inspect
import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.llms import ChatMessage
from llama_index.core.storage.chat_store.sql import SQLAlchemyChatStore
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from evomem.errors import NamespaceError, NotFound, SharedTurns
from evomem.memory import Memory
from evomem_integrations.llamaindex import EvoMemMemory
from evomem_integrations.llamaindex.chats import Chats, run
from evomem_integrations.llamaindex.log import ChatMemory
from tests.integrations.llamaindex.scripted import assistant, remembered, user

PIN = [user("My PIN is 4711."), assistant("Noted.")]
CAT = [user("My cat is Miso."), assistant("Cute.")]
BOB = ("acme", "bob")


def contents(memory):
    return [message.content for message in memory.get_all()]


def files(tmp_path):
    return b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def keep_by_session_alone(path, session, messages):
    """Write messages as earlier versions did: under the session's name and nothing else."""
    url = URL.create("sqlite+aiosqlite", database=str(path))
    engine = create_async_engine(url, poolclass=NullPool)
    store = SQLAlchemyChatStore("llama_index_memory", async_engine=engine)
    run(store.add_messages(session, messages))


# whose -----------------------------------------------------------------------------------------


def test_users_with_the_same_session_share_no_message(make):
    alice, bob = make("main"), make("main", namespace=BOB)
    alice.put_messages([*PIN, user("And my address?")])
    assert contents(bob) == []
    assert bob.get("What is my PIN?") == []
    bob.put(assistant("Hello."))  # answers nothing: the waiting question is another user's
    assert [record.text for record in bob.memory.history()] == ["Assistant: Hello."]
    bob.set(CAT)
    bob.reset()
    assert contents(make("main")) == ["My PIN is 4711.", "Noted.", "And my address?"]


PLACES = st.tuples(
    st.lists(st.text(st.sampled_from('a/",[]\\ \u2028'), min_size=1, max_size=3), min_size=1, max_size=3),
    st.text(st.sampled_from('a/",[]\\ \u2028'), max_size=4),
)  # fmt: skip


@settings(max_examples=300)
@given(one=PLACES, other=PLACES)
def test_no_two_sessions_have_the_same_key(tmp_path, one, other):
    chats = Chats(str(tmp_path / "agent.db"), None)
    same = chats.key(tuple(one[0]), one[1]) == chats.key(tuple(other[0]), other[1])
    assert same == (one == other)


def test_databases_with_one_chat_store_share_no_message(make, tmp_path):
    uri = f"sqlite+aiosqlite:///{tmp_path}/chats"
    one, other = (
        make(location=str(tmp_path / name), chat_store_uri=uri) for name in ("one.db", "other.db")
    )
    one.put_messages(PIN)
    assert contents(other) == []
    other.memory.expire(session="monday")
    assert contents(one) == ["My PIN is 4711.", "Noted."]


def test_a_key_holds_no_password():
    uri = "sqlite+aiosqlite:///x"
    keys = {
        Chats(f"postgresql://me:{word}@host/db?schema=a", uri).key(("a",), "s") for word in "xy"
    }
    assert len(keys) == 1


@pytest.mark.parametrize(
    "change", [{"namespace": BOB}, {"session_id": "other"}, {"location": "other.db"}], ids=str
)
@pytest.mark.parametrize("how", ["copied", "assigned"])
def test_a_memory_that_is_turned_to_another_user_or_session_forgets_whose_it_was(
    make, tmp_path, monkeypatch, change, how
):
    monkeypatch.chdir(tmp_path)
    memory = make("main")
    memory.put_messages(PIN)
    other = memory.model_copy(update=change) if how == "copied" else copy.copy(memory)
    for name, value in change.items():
        setattr(other, name, value)
    assert contents(other) == []
    other.put_messages(CAT)
    assert contents(other) == ["My cat is Miso.", "Cute."]
    assert contents(make("main")) == ["My PIN is 4711.", "Noted."]
    told = [record.turn.user for record in make("main").memory.history()]
    assert told == ["My PIN is 4711."] + ["My cat is Miso."] * ("session_id" in change)


# kept by session alone ---------------------------------------------------------------------------


def without_messages(make, tmp_path, *sessions):
    """Let logs hold what sessions said, with messages as earlier versions kept them."""
    for namespace, session, messages in sessions:
        make(session, namespace=namespace).set(messages)
    (tmp_path / "agent.db.chat").unlink()


def test_messages_go_to_the_memory_whose_log_alone_holds_their_turns(make, tmp_path):
    alice = ("acme", "alice")
    without_messages(make, tmp_path, (alice, "main", PIN + CAT), (BOB, "main", CAT))
    keep_by_session_alone(tmp_path / "agent.db.chat", "main", PIN + CAT)
    assert contents(make("main", namespace=BOB)) == []
    assert contents(make("main")) == [message.content for message in PIN + CAT]
    make("main").put(user("Hello?"))
    assert contents(make("main"))[-1] == "Hello?"
    assert len(make("main").memory.history()) == 2


@pytest.mark.parametrize(
    ("kept", "why"),
    [
        (PIN + CAT, "two users' turns"),
        (PIN, "in the logs of both"),
        ([*CAT, user("Who am I?")], "a waiting message is in no log"),
        ([ChatMessage(role="system", content="Be kind."), *CAT], "nor is a system message"),
        ([user("What?"), assistant("Nothing.")], "in no log"),
    ],
)
def test_messages_that_may_be_of_several_users_are_shown_to_nobody(make, tmp_path, kept, why):
    both = [(("acme", name), "main", PIN) for name in ("alice", "bob")]
    without_messages(make, tmp_path, *both)
    if kept[-1] is not PIN[-1]:
        make("main").memory.purge(make("main").memory.history()[0].id)
        without_messages(make, tmp_path, (("acme", "alice"), "main", CAT))
    keep_by_session_alone(tmp_path / "agent.db.chat", "main", kept)
    if why == "two users' turns":
        make("other").put_messages(PIN)  # of another session: proves nothing
    for namespace in (("acme", "alice"), BOB, ("acme", "eve")):
        with pytest.warns(UserWarning, match=r"'main'.*adopt_messages\(\)"):
            assert contents(make("main", namespace=namespace)) == []
    alice = make("main")
    assert alice.adopt_messages() == len(kept)
    assert contents(alice) == [message.content for message in kept]
    assert contents(make("main", namespace=BOB)) == []
    assert alice.adopt_messages() == 0


def test_in_a_store_of_its_own_url_messages_are_never_assigned_without_being_told(make, tmp_path):
    uri = f"sqlite+aiosqlite:///{tmp_path}/chats"
    make("main", chat_store_uri=uri).set(PIN)
    keep_by_session_alone(tmp_path / "chats", "main", PIN)
    with pytest.warns(UserWarning, match="adopt_messages"):
        assert contents(make("main", chat_store_uri=uri)) == ["My PIN is 4711.", "Noted."]


def test_adopted_messages_come_before_those_that_were_put_since(make, tmp_path):
    without_messages(make, tmp_path, (BOB, "main", PIN))
    keep_by_session_alone(tmp_path / "agent.db.chat", "main", [*PIN, user("Waiting?")])
    alice = make("main")
    with pytest.warns(UserWarning, match="adopt_messages"):
        alice.put_messages(CAT)
    alice.adopt_messages()
    texts = ["My PIN is 4711.", "Noted.", "Waiting?", "My cat is Miso.", "Cute."]
    assert contents(make("main")) == texts
    assert [record.turn.user for record in alice.memory.history()] == ["My cat is Miso."]


# forgetting ------------------------------------------------------------------------------------


def test_a_purge_erases_the_messages_of_the_turn_and_what_tools_said_between(make, tmp_path):
    memory = make()
    tool = ChatMessage(role="tool", content="4711 it is", additional_kwargs={"tool_call_id": "1"})
    system = ChatMessage(role="system", content="Be kind.")
    memory.put_messages([system, PIN[0], tool, PIN[1], *CAT, user("And now?")])
    receipt = memory.memory.purge(memory.memory.history()[0].id)
    assert receipt.clean
    assert contents(memory) == ["Be kind.", "My cat is Miso.", "Cute.", "And now?"]
    assert b"4711" not in files(tmp_path)
    memory.put(assistant("Now is now."))
    assert len(memory.memory.history()) == 2


async def test_asynchronous_forgetting_erases_messages_too(make, tmp_path):
    memory = make()
    await memory.aput_messages(PIN)
    await make("tuesday").aput_messages(CAT)
    await memory.memory.apurge(memory.memory.history()[0].id)
    assert await memory.aget_all() == []
    await memory.memory.aexpire(session="tuesday")
    assert await make("tuesday").aget_all() == []
    await memory.aput_messages(PIN)
    await memory.memory.adrop()
    assert b"4711" not in files(tmp_path)
    assert b"Miso" not in files(tmp_path)


def test_a_deleted_turn_keeps_its_messages_until_it_is_purged(make, tmp_path):
    memory = make()
    memory.put_messages(PIN)
    make("tuesday").put_messages(CAT)
    id = memory.memory.history()[0].id
    memory.memory.delete(id)
    assert contents(memory) == ["My PIN is 4711.", "Noted."]
    memory.memory.purge(id)
    assert contents(memory) == []
    assert contents(make("tuesday")) == ["My cat is Miso.", "Cute."]
    assert b"4711" not in files(tmp_path)


def test_expiring_a_session_erases_all_of_its_messages_and_of_no_other(make, tmp_path):
    make("monday").put_messages([*PIN, user("Waiting 4711?")])
    make("tuesday").put_messages(CAT)
    make("monday", namespace=BOB).put_messages(CAT)
    make().memory.expire(session="monday")
    assert contents(make("monday")) == []
    assert contents(make("tuesday")) == contents(make("monday", namespace=BOB)) != []
    assert b"4711" not in files(tmp_path)


def test_expiring_a_source_erases_the_messages_of_its_turns_alone(make, tmp_path):
    make("monday", turn_source="web").put_messages(PIN)
    make("monday", turn_source="user").put_messages(CAT)
    make("tuesday").put_messages([user("Waiting?")])
    make().memory.expire(source="web")
    assert contents(make("monday")) == [message.content for message in CAT]
    assert contents(make("tuesday")) == ["Waiting?"]
    assert b"4711" not in files(tmp_path)


def test_expiring_what_is_old_erases_questions_that_nobody_answered(make, tmp_path):
    system = ChatMessage(role="system", content="Be kind.")
    make("monday").put_messages([system, *PIN])
    make("tuesday").put_messages([user("Is 4711 prime?")])
    memory = make("wednesday")
    memory.put_messages(CAT)
    memory.memory.expire(before=memory.memory.history()[-1].time)
    memory.put(user("Hello?"))
    assert contents(make("monday")) == ["Be kind."]
    assert contents(make("tuesday")) == []
    assert contents(memory) == ["My cat is Miso.", "Cute.", "Hello?"]
    assert b"4711" not in files(tmp_path)


def test_dropping_a_memory_erases_all_its_messages_even_if_it_never_held_a_turn(make, tmp_path):
    make("monday").put_messages(PIN)
    make("tuesday").put(user("Waiting 4711"))
    make("monday", namespace=("acme", "alice", "work")).put_messages(CAT)
    assert make().memory.drop().turns == 1
    make().put(user("Waiting 4711"))
    assert make().memory.drop().turns == 0
    with pytest.raises(NotFound):
        make().memory.drop()
    assert b"4711" not in files(tmp_path)
    assert contents(make("monday", namespace=("acme", "alice", "work"))) != []


def test_messages_of_forks_go_with_the_turns_that_are_purged_from_them(make, tmp_path):
    memory = make()
    memory.put_messages(PIN)
    memory.memory.fork("draft")
    draft = make(namespace=("acme", "alice", "draft"))
    draft.set(PIN)
    id = memory.memory.history()[0].id
    with pytest.raises(SharedTurns):
        memory.memory.purge(id)
    assert contents(memory) == contents(draft) == ["My PIN is 4711.", "Noted."]
    memory.memory.purge(id, forks=True)
    assert contents(memory) == contents(draft) == []
    assert b"4711" not in files(tmp_path)


def test_a_purge_that_stopped_before_the_messages_is_finished_when_done_again(make, tmp_path):
    memory = make()
    memory.put_messages(PIN)
    id = memory.memory.history()[0].id
    memory._open().database.memory(*memory.namespace).purge(
        id
    )  # of the core, which knows no messages
    assert b"4711" in files(tmp_path)
    with pytest.raises(NotFound):
        memory.memory.purge(id)
    assert b"4711" not in files(tmp_path)


def test_unassigned_messages_go_when_no_log_holds_their_turns_any_more(make, tmp_path):
    without_messages(make, tmp_path, (("acme", "alice"), "main", PIN), (BOB, "main", CAT))
    keep_by_session_alone(tmp_path / "agent.db.chat", "main", [*PIN, *CAT, user("Waiting?")])
    memory = make("main").memory
    memory.purge(memory.history()[0].id)
    assert b"4711" not in files(tmp_path)
    with pytest.warns(UserWarning, match="3 messages"):
        make("main", namespace=BOB).get_all()


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_purging_also_erases_messages_deleted_without_secure_delete(make, tmp_path, mode):
    memory = make()
    memory.put_messages([*PIN, user("Something long " * 500)])
    memory.put_messages(CAT)
    chat = sqlite3.connect(tmp_path / "agent.db.chat")
    chat.execute(f"PRAGMA journal_mode = {mode}")
    chat.execute("PRAGMA secure_delete = OFF")
    chat.execute("DELETE FROM evomem_messages WHERE data LIKE '%4711%' OR data LIKE '%long%'")
    chat.commit()
    chat.close()
    memory.memory.purge(memory.memory.history()[0].id)
    memory.memory.expire(session="monday")
    assert b"4711" not in files(tmp_path)
    assert b"long" not in files(tmp_path)
    assert b"Miso" not in files(tmp_path)


def test_a_receipt_says_where_another_reader_keeps_text_in_the_file(make, tmp_path):
    memory = make()
    memory.put_messages(PIN)
    chat = sqlite3.connect(tmp_path / "agent.db.chat")
    chat.execute("PRAGMA journal_mode = wal")
    chat.execute("BEGIN")
    chat.execute("SELECT count(*) FROM evomem_messages").fetchone()
    assert not memory.memory.purge(memory.memory.history()[0].id).clean
    chat.close()
    make("other").put_messages(CAT)
    assert make("other").memory.expire(session="other").clean
    assert b"4711" not in files(tmp_path)


def test_erase_messages_reaches_what_the_core_dropped(make, tmp_path):
    memory = make()
    memory.put_messages([*PIN, user("Waiting")])
    make(namespace=("acme2", "carol")).put_messages(CAT)
    memory._open().database.drop("acme")
    location = str(tmp_path / "agent.db")
    assert EvoMemMemory.erase_messages(location, "acme") == 3
    assert EvoMemMemory.erase_messages(location, "acme") == 0
    assert b"4711" not in files(tmp_path)
    assert contents(make(namespace=("acme2", "carol"))) == ["My cat is Miso.", "Cute."]
    with pytest.raises(NamespaceError):
        EvoMemMemory.erase_messages(location)


def test_a_memory_without_a_place_for_messages_forgets_its_turns(make):
    memory = make(location=":memory:").memory
    record = memory.add("x y")
    assert memory.purge(record.id).clean
    with pytest.raises(NotFound):
        make(location=":memory:", namespace=("nobody",)).memory.drop()


def test_every_call_that_forgets_erases_messages():
    forgetting = {
        name
        for name, method in inspect.getmembers(Memory, inspect.isfunction)
        if "Receipt" in str(method.__annotations__.get("return")) or name[1:] in vars(ChatMemory)
    }
    assert forgetting == {"purge", "expire", "drop", "apurge", "aexpire", "adrop"}
    assert forgetting <= vars(ChatMemory).keys()


def test_a_server_keeps_messages_apart_assigns_and_erases_them_as_well(make, postgres):
    uri = postgres.replace("postgresql://", "postgresql+psycopg://")
    engine = create_async_engine(uri, poolclass=NullPool)
    old = SQLAlchemyChatStore("llama_index_memory", async_engine=engine)
    run(old.add_messages("main", PIN))
    alice, bob = (make("main", chat_store_uri=uri, namespace=("acme", name)) for name in "ab")
    with pytest.warns(UserWarning, match="adopt_messages"):
        bob.put_messages(CAT)
    assert alice.adopt_messages() == 2
    assert contents(alice) == ["My PIN is 4711.", "Noted."]
    assert not bob.memory.expire(session="main").clean  # the server's vacuum has to follow
    assert (len(contents(alice)), contents(bob)) == (2, [])
    assert EvoMemMemory.erase_messages(alice.location, "acme", chat_store_uri=uri) == 2
    psycopg = pytest.importorskip("psycopg")
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("DROP TABLE llama_index_memory, evomem_messages")


def test_a_purge_of_a_turn_that_was_never_a_message_erases_none(make):
    memory = make()
    memory.put_messages(PIN)
    memory.memory.delete(memory.memory.history()[0].id)
    memory.memory.purge(memory.memory.add("I was imported.").id)
    assert contents(memory) == ["My PIN is 4711.", "Noted."]


# long sessions -----------------------------------------------------------------------------------


def test_a_session_of_many_short_messages_is_read_like_a_short_one(make):
    make("old").put_messages(PIN)
    memory = make()
    memory.set([(user, assistant)[n % 2](f"line {n}") for n in range(600)])
    memory.put(user("What is my PIN?"))
    shown = memory.get()
    assert "4711" in remembered(shown)
    assert len(shown) == len(memory.get_all()) == 601
    assert "line" not in remembered(shown)


def test_k_turns_are_remembered_whatever_the_prompt_shows(make):
    make("old").set([(user, assistant)[n % 2](f"tea {n // 2}") for n in range(40)])
    memory = make(k=7)
    for _ in range(3):  # several turns that begin alike
        memory.put_messages([user("tea"), assistant("tea!")])
    memory.put(user("tea"))
    assert remembered(memory.get()).count("User: ") == 7
