"""Importing conversations into memories: what is added, replaced, known, and left out."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import evomem
from evomem import Turn
from evomem.chats import read, read_chats
from evomem.errors import InputError, StoreError
from evomem.records import MAX_CHARS
from tests.stores.counting import counted


def user(text, **fields):
    return {"role": "user", "content": text, **fields}


def assistant(text, **fields):
    return {"role": "assistant", "content": text, **fields}


HELLO = [user("Hello."), assistant("Hello to you.")]
TRAIN = user("When does the train leave?")
AT_NOON = assistant("At noon.")
BAKERY = [user("Is there a bakery?"), assistant("Next to the station.")]


def talk(*messages, id="c"):
    return {"id": id, "messages": list(messages)}


def said(memory, **filters):
    return [(record.turn.user, record.turn.assistant) for record in memory.history(**filters)]


def pairs(*messages):
    """What a new memory holds after one import."""
    with evomem.open(":memory:", encoder="hash") as db:
        memory = db.memory("fresh")
        memory.import_chats(talk(*messages))
        return said(memory)


@pytest.fixture
def memory(db):
    return db.memory("a")


@pytest.fixture
def anywhere(location):
    """A memory in SQLite, and one in PostgreSQL."""
    with evomem.open(location, encoder="hash") as db:
        yield db.memory("a")


# growing conversations -----------------------------------------------------------------------


def test_a_question_that_was_answered_meanwhile_is_there_once_with_its_answer(memory):
    memory.import_chats(talk(*HELLO, TRAIN))
    done = memory.import_chats(talk(*HELLO, TRAIN, AT_NOON, *BAKERY))
    assert said(memory) == pairs(*HELLO, TRAIN, AT_NOON, *BAKERY)
    assert (done.new, done.replaced, done.known) == (2, 1, 1)


def test_an_answer_that_was_made_again_replaces_the_old_one_which_stays_in_the_past(anywhere):
    memory = anywhere
    memory.import_chats(talk(*HELLO, TRAIN, AT_NOON))
    memory.import_chats(talk(*HELLO, TRAIN, assistant("At two.")))
    assert said(memory)[1:] == [(TRAIN["content"], "At two.")]
    assert said(memory.at(seq=2))[1:] == [(TRAIN["content"], "At noon.")]
    assert [hit.text for hit in memory.search("noon", mode="lexical")] == []
    assert len(memory.at(seq=2).search("noon", mode="lexical")) == 1


def test_an_older_export_changes_nothing(memory):
    old, new = talk(*HELLO, TRAIN, AT_NOON), talk(*HELLO, TRAIN, assistant("At two."), *BAKERY)
    for item in (old, new):
        memory.import_chats(item)
    before = said(memory)
    for item in (old, talk(*HELLO, TRAIN), new):
        assert memory.import_chats(item).new == 0
    assert said(memory) == before


@pytest.mark.parametrize(
    "window",
    [[AT_NOON, *BAKERY], [TRAIN, AT_NOON, *BAKERY], BAKERY],
    ids=["in the middle of an exchange", "at an exchange", "without overlap"],
)
def test_the_newest_messages_are_enough(memory, window):
    memory.import_chats(talk(*HELLO, TRAIN))
    memory.import_chats(talk(*HELLO, TRAIN, AT_NOON))
    memory.import_chats(talk(*window))
    assert said(memory) == pairs(*HELLO, TRAIN, AT_NOON, *BAKERY)


def test_a_window_may_begin_with_the_second_of_two_messages_in_a_row(memory):
    please = user("Please tell me.")
    memory.import_chats(talk(*HELLO, TRAIN, please))
    assert said(memory)[1:] == [(TRAIN["content"], ""), (please["content"], "")]
    memory.import_chats(talk(please, AT_NOON))
    assert said(memory) == pairs(*HELLO, TRAIN, please, AT_NOON)


def test_each_line_of_a_request_log_holds_the_conversation_so_far(memory):
    complete = [*HELLO, TRAIN, AT_NOON, *BAKERY]
    lines = [json.dumps({"messages": complete[:end]}) for end in (1, 3, 5, 6)]
    assert memory.import_chats("\n".join(lines).encode()).new == 3
    assert said(memory) == pairs(*complete)


def test_counted_ids_keep_conversations_apart(memory):
    for id in ("a", "b"):
        memory.import_chats(talk(user("Hello", id="1"), assistant("Hi", id="2"), id=id))
    assert [record.turn.session for record in memory.history()] == ["a", "b"]
    assert (
        memory.import_chats(talk(user("Hello", id="1"), assistant("Hi", id="2"), id="b")).new == 0
    )


def test_a_message_that_was_edited_in_place_is_known_by_its_id(memory):
    first = [user("Hello.", id="m1"), assistant("Hello to you.", id="m2")]
    last = [user("Thanks.", id="m5"), assistant("Fine.", id="m6")]
    memory.import_chats(
        talk(*first, user("I live in Rmoe.", id="m3"), assistant("Nice!", id="m4"), *last)
    )
    memory.import_chats(
        talk(*first, user("I live in Rome.", id="m3"), assistant("Lovely!", id="m4"), *last)
    )
    assert sorted(said(memory)) == sorted(
        [("Hello.", "Hello to you."), ("I live in Rome.", "Lovely!"), ("Thanks.", "Fine.")]
    )


def test_a_branch_that_was_left_goes_with_its_question(memory):
    """As a chat program exports it that keeps the ids of messages and shows one branch."""
    root = [user("Hello.", id="m-1"), assistant("Hello to you.", id="m-2")]
    memory.import_chats(
        talk(*root, user("Where is Oslo?", id="m-3"), assistant("North.", id="m-4"))
    )
    memory.import_chats(
        talk(*root, user("Where is Rome?", id="m-5"), assistant("South.", id="m-6"))
    )
    assert said(memory) == [("Hello.", "Hello to you."), ("Where is Rome?", "South.")]


def test_the_same_words_at_another_time_are_another_turn(memory):
    day = [f"2024-05-0{n}T12:00:00Z" for n in (1, 2)]
    for time in day:
        memory.import_chats(talk(user("Thanks.", time=time), assistant("Fine.", time=time)))
    assert len(memory) == 2
    assert memory.import_chats(talk(user("Thanks.", time=day[1]), assistant("Fine."))).new == 0


def test_one_file_under_two_names_comes_in_once(memory, tmp_path):
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(json.dumps([*HELLO, TRAIN, AT_NOON]))
        memory.import_chats(tmp_path / name)
    assert said(memory) == pairs(*HELLO, TRAIN, AT_NOON)
    assert memory.import_chats(tmp_path).new == 0


def test_nameless_conversations_that_only_begin_alike_stay_apart(memory):
    first, second = [*HELLO, TRAIN, AT_NOON], [*HELLO, *BAKERY]
    for record in (first, second, second, first):
        memory.import_chats(record)
    sessions = {record.turn.session for record in memory.history()}
    assert sorted(said(memory, session=session) for session in sessions) == sorted(
        [pairs(*first), pairs(*second)]
    )


def test_a_nameless_conversation_costs_the_same_after_many_that_begin_alike(memory):
    talks = [
        {"messages": [*HELLO, user(f"My number is {n}."), assistant(f"I wrote {n} down.")]}
        for n in range(50)
    ]
    statements = []
    for start, end in ((0, 5), (6, 45)):
        assert memory.import_chats(talks[start:end]).new == 2 * (end - start)
        with counted(memory) as work:
            memory.import_chats(talks[end])
        statements.append(len(work.statements))
    assert statements[1] <= statements[0]
    again = memory.import_chats(talks[:46])
    assert (again.new, again.known) == (0, 92)


def test_turns_imported_by_an_earlier_version_are_recognised(memory):
    """Earlier versions paired a question with the first answer, and named turns by their content."""
    look = assistant("Let me look.")
    for number, turn in enumerate(
        [Turn(user=TRAIN["content"], assistant="Let me look."), Turn(assistant="At noon.")]
    ):
        memory.add_many(
            [Turn(user=turn.user, assistant=turn.assistant, id=f"{number:032x}", session="c")]
        )
    memory.import_chats(talk(TRAIN, look, AT_NOON))
    assert said(memory) == pairs(TRAIN, look, AT_NOON)
    turns = read_chats(json.dumps([*HELLO, TRAIN, AT_NOON]).encode()).turns
    memory.add_many(turns)
    assert memory.import_chats([*HELLO, TRAIN, AT_NOON, *BAKERY]).new == 1


@st.composite
def growing(draw):
    """A conversation, and exports of it as it grows: whole ones, or the newest messages."""
    messages: list[tuple[str, str]] = []
    for number in range(draw(st.integers(2, 5))):
        messages += [("user", f"{n}? {number}") for n in range(draw(st.integers(1, 2)))]
        messages += [("assistant", f"{n}. {number}") for n in range(draw(st.integers(1, 2)))]
    ids, times = draw(st.sampled_from([None, "m{}", "message-{}-of-the-chat"])), draw(st.booleans())
    windows = draw(st.booleans())
    exports, seen = [], 0
    for end in sorted(draw(st.lists(st.integers(1, len(messages)), max_size=9))) + [len(messages)]:
        anew = seen and messages[seen - 1][0] == "assistant" and draw(st.booleans())
        if anew:
            role, text = messages[seen - 1]
            messages[seen - 1] = (role, text + "!")
        start = draw(st.integers(0, max(0, seen - 2))) if windows else 0
        exports.append(list(enumerate(messages))[start:end])
        seen = end

    def plain(numbered):
        for number, (role, text) in numbered:
            message = {"role": role, "content": text}
            if ids:  # a message that is made anew has a new one
                message["id"] = ids.format(f"{number}{text.count('!') or ''}")
            if times:
                message["time"] = f"2024-01-01T00:{number:02}:00Z"
            yield message

    name = draw(st.sampled_from([None, "c"]))
    shaped = [list(plain(item)) for item in [*exports, list(enumerate(messages))]]
    return [item if name is None else talk(*item, id=name) for item in shaped]


@settings(max_examples=30)
@given(growing())
def test_ten_imports_of_a_growing_conversation_come_to_the_same_as_one(exports):
    with evomem.open(":memory:", encoder="hash") as db:
        many, one = db.memory("many"), db.memory("one")
        for item in exports:
            many.import_chats(item)
        one.import_chats(exports[-1])
        assert said(many) == said(one)
        assert many.import_chats(exports[-1]).new == 0


# what was deleted or purged ------------------------------------------------------------------


def test_a_purged_turn_stays_forgotten_unless_it_is_asked_for(anywhere):
    memory = anywhere
    chat = talk(*HELLO, user("My salary is 4,000.", id="m3"))
    memory.import_chats(chat)
    memory.purge("m3")
    for later in (chat, talk(*HELLO, user("My salary is 4,000."), assistant("I see."), *BAKERY)):
        assert memory.import_chats(later).forgotten == 1
        assert not any("salary" in record.text for record in memory.history())
    assert memory.import_chats(chat, include_forgotten=True).new == 1
    assert said(memory)[-1] == ("My salary is 4,000.", "")
    assert memory.import_chats(chat).forgotten == 0


def test_a_replaced_turn_is_purged_with_its_replacement(anywhere):
    memory = anywhere
    memory.import_chats(talk(user("My salary is 4,000.", id="m1")))
    memory.import_chats(talk(user("My salary is 4,000.", id="m1"), assistant("I see.", id="m2")))
    assert memory.purge("m2").turns == 2
    assert memory.at(seq=1).history() == []
    assert memory.import_chats(talk(user("My salary is 4,000.", id="m1"))).forgotten == 1


def test_a_deleted_turn_stays_hidden_and_stops_nothing(memory):
    memory.import_chats(talk(*HELLO, TRAIN, AT_NOON))
    memory.delete(memory.history()[0].id)
    done = memory.import_chats(talk(*HELLO, TRAIN, AT_NOON, *BAKERY))
    assert (done.new, done.deleted) == (1, 1)
    assert said(memory) == pairs(TRAIN, AT_NOON, *BAKERY)


def test_expired_turns_stay_away_and_a_dropped_memory_starts_afresh(memory):
    old, new = "2024-01-01T00:00:00Z", "2024-06-01T00:00:00Z"
    chat = talk(
        user("Old.", time=old), assistant("Yes."), user("New.", time=new), assistant("Yes.")
    )
    memory.import_chats(chat)
    memory.expire(before="2024-03-01T00:00:00Z")
    assert memory.import_chats(chat).forgotten == 1
    assert said(memory) == [("New.", "Yes.")]
    memory.drop()
    assert memory.import_chats(chat).new == 2


def test_a_fork_and_a_loaded_export_know_what_was_forgotten(db, tmp_path):
    memory = db.memory("a")
    memory.import_chats(talk(*HELLO, user("My salary is 4,000.", id="m3")))
    memory.purge("m3")
    db.export(tmp_path / "dump")
    with evomem.open(str(tmp_path / "other.db"), encoder="hash") as other:
        other.load(tmp_path / "dump")
        for copy in (memory.fork("b"), other.memory("a")):
            assert copy.import_chats(talk(user("My salary is 4,000.", id="m3"))).forgotten == 1


def test_a_tombstone_holds_no_text(memory, tmp_path):
    memory.import_chats(talk(user("My salary is 4,000.", id="the-salary-message")))
    memory.purge("the-salary-message")
    rows = sqlite3.connect(tmp_path / "test.db").execute("SELECT * FROM forgotten").fetchall()
    assert rows
    assert not any("salary" in str(value) for row in rows for value in row)


def test_exports_keep_what_took_the_place_of_what(db, tmp_path):
    db.memory("a").import_chats(talk(TRAIN))
    db.memory("a").import_chats(talk(TRAIN, AT_NOON))
    db.export(tmp_path / "dump")
    with evomem.open(str(tmp_path / "other.db"), encoder="hash") as other:
        other.load(tmp_path / "dump")
        memory = other.memory("a")
        assert said(memory) == [(TRAIN["content"], "At noon.")]
        assert said(memory.at(seq=1)) == [(TRAIN["content"], "")]
        assert other.verify() == []


# order, place and faults ---------------------------------------------------------------------


def test_sessions_inside_a_conversation_are_conversations_of_their_own(memory):
    memory.import_chats(
        talk(user("One?", session="s"), user("Two?", session="t"), assistant("1", session="s"),
             assistant("2", session="t"))
    )  # fmt: skip
    assert [(e.turn.user, e.turn.assistant, e.turn.session) for e in memory.history()] == [
        ("One?", "1", "s"),
        ("Two?", "2", "t"),
    ]


def test_a_fault_is_named_by_its_place_and_nothing_is_written(memory):
    big = {"x": "y" * 40_000}
    chat = talk(*HELLO, user("Hi", metadata=big), assistant("Ho", metadata={"z": big}))
    with pytest.raises(InputError, match="message 3 to .*message 4: metadata takes"):
        memory.import_chats(read([talk(*HELLO, id="b"), chat]))
    assert len(memory) == 0


def test_a_message_too_long_for_a_turn_becomes_several_which_are_known_again(memory):
    pasted = " ".join(map(str, range(100_000)))
    reply = "x" * (2 * MAX_CHARS + 1)
    messages = [user(pasted, id="p", time="2026-05-01T10:00Z"), assistant(reply, id="r"), *BAKERY]
    for message in messages[1:]:
        message["time"] = "2026-05-01T10:05Z"
    export = talk(*messages)
    chats = read(export)
    assert chats.notes == [
        "messages of more than 262,144 characters were divided into several turns"
    ]
    assert chats.messages == 8  # three parts of the first, three of the second
    assert memory.import_chats(chats).new == 6
    turns = [record.turn for record in memory.history()]
    assert [bool(turn.user) for turn in turns] == [True, True, True, False, False, True]
    assert "".join(turn.user for turn in turns[:3]) == pasted
    assert turns[0].user.endswith(" ")
    assert "".join(turn.assistant for turn in turns[2:5]) == reply
    again = memory.import_chats(export)
    assert (again.new, again.known) == (0, 6)


def test_a_divided_message_is_known_whether_an_export_has_its_answer_or_not(memory):
    long = user(" ".join(map(str, range(100_000))), id="p")
    asked, answered = talk(*BAKERY, long), talk(*BAKERY, long, assistant("Noted.", id="r"))
    assert [memory.import_chats(export).new for export in (asked, answered, asked)] == [4, 1, 0]
    turns = [record.turn for record in memory.history()]
    assert "".join(turn.user for turn in turns[1:]) == long["content"]
    assert [turn.assistant for turn in turns[1:]] == ["", "", "Noted."]


def test_a_long_message_is_whole_in_an_export_that_begins_with_the_newest(memory):
    long = user(" ".join(map(str, range(100_000))), time="2026-05-01T10:00Z")
    answer = assistant("Thanks.", time="2026-05-01T10:05Z")
    memory.import_chats([answer, long])
    assert "".join(record.turn.user for record in memory.history()) == long["content"]


def test_a_dry_run_says_what_would_happen_and_writes_nothing(db):
    memory = db.memory("a")
    memory.import_chats(talk(TRAIN))
    would = memory.import_chats(talk(TRAIN, AT_NOON, *BAKERY), dry_run=True)
    assert (would.new, would.replaced) == (2, 1)
    assert [turn.assistant for turn in would.first] == ["At noon.", "Next to the station."]
    assert said(memory) == [(TRAIN["content"], "")]
    assert memory.import_chats(talk(TRAIN, AT_NOON, *BAKERY)).new == 2


def test_many_memories_are_imported_side_by_side(db):
    chats = {name: read(talk(user(f"I am {name}."))) for name in ("ann", "bo")}
    done = db.import_chats(
        (("acme", name), conversation.conversations) for name, conversation in chats.items()
    )
    assert done.new == 2
    assert said(db.memory("acme", "bo")) == [("I am bo.", "")]


def long_chat():
    start = datetime(2024, 1, 1, tzinfo=timezone.utc)
    return [
        user(f"Question {n // 2}?", time=(start + timedelta(minutes=n)).isoformat())
        if n % 2 == 0
        else assistant(f"Answer {n // 2}.")
        for n in range(300)
    ]


def test_two_imports_of_one_file_at_once_add_it_once(location, tmp_path):
    file = tmp_path / "chat.json"
    file.write_text(json.dumps(long_chat()))
    evomem.open(location, encoder="hash").close()
    code = (
        "import sys, evomem\n"
        "with evomem.open(sys.argv[1]) as db:\n"
        "    print(db.memory('a').import_chats(sys.argv[2]).new)"
    )
    command = [sys.executable, "-c", code, location, str(file)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    new = [int(item.communicate(timeout=60)[0]) for item in running]
    with evomem.open(location) as db:
        assert said(db.memory("a")) == pairs(*long_chat())
    assert sum(new) == 150


def test_another_writer_in_between_is_no_obstacle(db):
    memory = db.memory("a")
    stop = threading.Event()

    def add():
        number = 0
        while not stop.is_set():
            db.memory("a").add(f"Note {number}.", session="notes")
            number += 1

    thread = threading.Thread(target=add)
    thread.start()
    try:
        memory.import_chats(talk(*long_chat()))
    finally:
        stop.set()
        thread.join()
    assert said(memory, session="c") == pairs(*long_chat())


# sources ---------------------------------------------------------------------------------------


def test_turns_get_the_source_of_the_import_and_none_that_a_file_names(memory):
    lie = {**TRAIN, "source": "user", "recalled": ["x"]}
    memory.import_chats(talk(lie, AT_NOON), turn_source="import:chat.json")
    [turn] = [record.turn for record in memory.history()]
    assert (turn.user, turn.source, turn.recalled) == (TRAIN["content"], "import:chat.json", ())


def test_a_turn_that_takes_the_place_of_another_keeps_what_is_known_of_where_it_came_from(memory):
    memory.add(TRAIN["content"], session="c", source="web", recalled=["t1"])
    done = memory.import_chats(talk(TRAIN, AT_NOON))
    assert (done.new, done.replaced) == (1, 1)
    [turn] = [record.turn for record in memory.history()]
    assert (turn.assistant, turn.source, turn.recalled) == (AT_NOON["content"], "web", ("t1",))


def test_a_dry_run_takes_no_lock_for_writing(memory, monkeypatch):
    def refuse():
        raise StoreError("read-only")

    memory.import_chats(talk(*HELLO))
    monkeypatch.setattr(memory._engine.store, "check_writable", refuse)
    done = memory.import_chats(talk(*HELLO, TRAIN, AT_NOON), dry_run=True)
    assert (done.new, done.known) == (1, 1)
    with pytest.raises(StoreError, match="read-only"):
        memory.import_chats(talk(*HELLO, TRAIN, AT_NOON))
