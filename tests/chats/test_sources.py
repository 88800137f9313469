"""Where chats come from: files, folders, archives, SQLite, objects; and what may be wrong there."""

from __future__ import annotations

import gzip
import io
import json
import sqlite3
import zipfile
from contextlib import closing
from datetime import datetime, timezone

import pytest

from evomem.chats import read, reading, sources
from evomem.errors import InputError
from tests.chats.samples import ALL, CHATGPT, SAMPLES
from tests.chats.test_shapes import said

HI = {"role": "user", "content": "Hi"}
HELLO = {"role": "assistant", "content": "Hello"}
UTC = timezone.utc


def as_zip(files, **options):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", **options) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


def database(path, *statements):
    with closing(sqlite3.connect(path)) as file, file:
        for statement, *rows in statements:
            if rows:
                file.executemany(statement, rows)
            else:
                file.execute(statement)
    return path


def test_a_path_is_read_and_names_the_places(tmp_path):
    path = tmp_path / "talk.json"
    path.write_text(json.dumps([HI]))
    for source in (path, str(path)):
        (talk,) = read(source).conversations
        assert talk.places == ["talk.json, message 1"]


def test_a_path_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.json cannot be read: No such file"):
        read(tmp_path / "none.json")


def test_an_export_is_read_from_the_zip_as_it_comes():
    export = {
        "user.json": '{"id": "u", "email": "a@example.org"}',
        "chat.html": "<html></html>",
        "conversations.json": json.dumps([CHATGPT]),
        "message_feedback.json": "[]",
    }
    chats = read(as_zip(export), name="export.zip")
    assert said(chats) == ALL
    shapes = {file.where: file.shapes for file in chats.files}
    assert shapes["export.zip/conversations.json"] == ("chatgpt-export",)
    assert shapes["export.zip/user.json"] == ()


def test_gzip_is_seen_through_alone_around_zip_and_inside_it():
    data = json.dumps([HI]).encode()
    for packed in (
        gzip.compress(data),
        gzip.compress(as_zip({"a.json": data})),
        as_zip({"a.json.gz": gzip.compress(data)}),
    ):
        assert said(read(packed)) == [("user", "Hi")]


def test_a_zip_with_paths_that_lead_elsewhere_is_read_in_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert said(read(as_zip({"../../evil.json": json.dumps([HI])}))) == [("user", "Hi")]
    assert not list(tmp_path.parent.glob("evil*"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "pack", [gzip.compress, lambda data: as_zip({"a.json": data}, compression=8)]
)
def test_a_compression_ratio_above_200_is_refused(pack, monkeypatch):
    monkeypatch.setattr(sources, "FREE_EXPANSION", 1 << 20)
    with pytest.raises(InputError, match="grows to more than 200 times its size"):
        read(pack(b"[" + b" " * (4 << 20) + b"]"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (as_zip({"a.txt": "x"}), "is a zip without a chat file; it holds a.txt"),
        (as_zip({"a.json": "x" * 99})[:-30], "is a zip that cannot be read"),
        (gzip.compress(b'[{"role": "user", "content": "Hi"}]', mtime=0)[:-9], "cannot be unpacked"),
        (gzip.compress(b"x" * 99, mtime=0)[:9], "cannot be"),
        (b"PK\x03\x04", "is a zip that cannot be read"),
        (b"SQLite format 3\x00" + b"x" * 200, "is a SQLite file that cannot be read"),
    ],
)
def test_a_damaged_archive_is_refused(data, message):
    with pytest.raises(InputError, match=message):
        read(data)


def test_an_encrypted_member_is_refused():
    data = bytearray(as_zip({"a.json": "[]"}))
    for mark in (b"PK\x03\x04", b"PK\x01\x02"):
        data[data.index(mark) + (6 if mark[2] == 3 else 8)] |= 1
    with pytest.raises(InputError, match="a.json is encrypted"):
        read(bytes(data))


def test_a_folder_is_read_file_by_file_without_what_is_no_chat(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.jsonl").write_text(json.dumps(HI))
    (tmp_path / "b.json").write_text(json.dumps([HELLO]))
    (tmp_path / "package.json").write_text('{"name": "x"}')
    (tmp_path / "notes.txt").write_text("Hi")
    chats = read(tmp_path)
    assert sorted(said(chats)) == [("assistant", "Hello"), ("user", "Hi")]
    assert len(chats.files) == 3


def test_links_out_of_a_folder_are_not_followed(tmp_path):
    (tmp_path / "secret.json").write_text(json.dumps([HELLO]))
    folder = tmp_path / "chats"
    folder.mkdir()
    (folder / "a.json").write_text(json.dumps([HI]))
    (folder / "link.json").symlink_to(tmp_path / "secret.json")
    (folder / "loop.json").symlink_to(folder / "loop.json")
    assert said(read(folder)) == [("user", "Hi")]


def test_a_folder_without_chats_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds no chat file \(\.json"):
        read(tmp_path)


def test_a_broken_file_in_a_folder_is_named(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([HI]))
    (tmp_path / "b.json").write_text('[{"role"')
    with pytest.raises(InputError, match=r"/b\.json ends in the middle"):
        read(tmp_path)
    chats = read(tmp_path, skip_bad=True)
    assert said(chats) == [("user", "Hi")]
    assert [problem.where for problem in chats.problems] == [f"{tmp_path.name}/b.json"]


def test_a_broken_archive_in_a_folder_does_not_hide_what_follows_it(tmp_path):
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(b"[]" * 99)[:20])
    (tmp_path / "b.zip").write_bytes(b"PK\x03\x04")
    (tmp_path / "c.json").write_text(json.dumps([HI]))
    chats = read(tmp_path, skip_bad=True)
    assert said(chats) == [("user", "Hi")]
    assert len(chats.problems) == 2


def strands(folder, agent, count):
    messages = folder / "session_s" / "agents" / f"agent_{agent}" / "messages"
    messages.mkdir(parents=True)
    for number in range(count):
        role = ("user", "assistant")[number % 2]
        message = {"role": role, "content": [{"text": f"{agent}{number}"}]}
        value = {"message": message, "message_id": number, "redact_message": None}
        (messages / f"message_{number}.json").write_text(json.dumps(value))
    (messages.parent / "agent.json").write_text(json.dumps({"agent_id": agent, "state": {}}))


def test_a_strands_folder_is_one_conversation_in_the_order_of_its_numbers(tmp_path):
    strands(tmp_path, "a", 12)
    for folder in (tmp_path, tmp_path / "session_s"):
        (talk,) = read(folder).conversations
        assert (talk.id, talk.shape) == ("s", "strands")
        assert [message["content"] for message in talk.messages] == [f"a{n}" for n in range(12)]


def test_the_agents_of_a_strands_session_are_conversations_apart(tmp_path):
    strands(tmp_path, "a", 2)
    strands(tmp_path, "b", 2)
    assert [talk.id for talk in read(tmp_path).conversations] == ["s/a", "s/b"]


def test_sessions_of_the_openai_agents_sdk_are_read_from_sqlite(tmp_path):
    rows = [("b", json.dumps(HI), "2025-02-03 04:05:06")]
    rows += [
        ("a", json.dumps(value), "2025-02-03 04:05:07") for value in SAMPLES["openai-agents"].value
    ]
    path = database(
        tmp_path / "s.db",
        [
            "CREATE TABLE agent_messages (id INTEGER PRIMARY KEY, session_id, message_data, created_at)"
        ],
        ["INSERT INTO agent_messages VALUES (NULL, ?, ?, ?)", *rows],
    )
    for source in (path, path.read_bytes(), as_zip({"s.db": path.read_bytes()})):
        chats = read(source)
        assert [(talk.id, len(talk.messages)) for talk in chats.conversations] == [
            ("b", 1),
            ("a", 3),
        ]
        first = next(iter(chats.conversations)).messages[0]
        assert first["time"] == datetime(2025, 2, 3, 4, 5, 6, tzinfo=UTC)


def test_other_databases_are_known_by_their_columns(tmp_path):
    message = json.dumps({"type": "human", "data": {"type": "human", "content": "Hi"}})
    block = json.dumps(SAMPLES["llamaindex"].value["store"]["ada"][0])
    runs = json.dumps(SAMPLES["agno"].value["runs"])
    event = json.dumps(
        {
            "author": "user",
            "invocation_id": "i",
            "content": {"role": "user", "parts": [{"text": "Hi"}]},
        }
    )
    for shape, statements in {
        "langchain": (
            ["CREATE TABLE message_store (id INTEGER PRIMARY KEY, session_id, message)"],
            ["INSERT INTO message_store VALUES (1, 's', ?)", [message]],
        ),
        "llamaindex": (
            ["CREATE TABLE t (id INTEGER PRIMARY KEY, key, timestamp, role, status, data)"],
            ["INSERT INTO t VALUES (1, 's', 1738555506000000000, 'user', 'archived', ?)", [block]],
        ),
        "agno": (
            ["CREATE TABLE agno_sessions (session_id, runs, created_at)"],
            ["INSERT INTO agno_sessions VALUES ('s', ?, 1)", [json.dumps(runs)]],
        ),
        "google-adk": (
            ["CREATE TABLE events (id, session_id, invocation_id, timestamp, event_data)"],
            ["INSERT INTO events VALUES (1, 's', 'i', '2025-02-03 04:05:06.5', ?)", [event]],
        ),
    }.items():
        (talk,) = read(database(tmp_path / f"{shape}.db", *statements)).conversations
        assert (talk.shape, talk.id) == (shape, "s")


def test_a_row_that_is_not_json_is_named(tmp_path):
    path = database(
        tmp_path / "s.db",
        ["CREATE TABLE message_store (id INTEGER PRIMARY KEY, session_id, message)"],
        ["INSERT INTO message_store VALUES (7, 's', '{')"],
    )
    with pytest.raises(InputError, match=r"session 's', row 7 must be an object, got \"{\""):
        read(path)


def test_a_database_without_chats_is_described(tmp_path):
    path = database(tmp_path / "x.db", ["CREATE TABLE recipes (name)"])
    with pytest.raises(InputError, match="SQLite file with the tables recipes, of which none"):
        read(path)


def test_langchain_messages_are_taken_as_objects():
    from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

    messages = [HumanMessage("Hi"), AIMessage("Hello"), ToolMessage("1", tool_call_id="c")]
    chats = read(messages)
    assert said(chats) == [("user", "Hi"), ("assistant", "Hello")]
    assert chats.files[0].shapes == ("langchain",)
    assert said(read({"messages": messages})) == said(chats)


def test_llamaindex_messages_and_stores_are_taken_as_objects():
    from llama_index.core.llms import ChatMessage
    from llama_index.core.storage.chat_store import SimpleChatStore

    messages = [ChatMessage(role="user", content="Hi"), ChatMessage(role="assistant", content="Ho")]
    store = SimpleChatStore()
    store.set_messages("ada", messages)
    assert said(read(messages)) == said(read(store)) == [("user", "Hi"), ("assistant", "Ho")]


def test_openai_messages_are_taken_as_objects():
    from openai.types.chat import ChatCompletionMessage

    assert said(read([HI, ChatCompletionMessage(role="assistant", content="Ho")])) == [
        ("user", "Hi"),
        ("assistant", "Ho"),
    ]


@pytest.mark.parametrize("source", [None, 7, [object()], [["Hi"]], [], {}])
def test_objects_that_are_no_messages_are_refused(source):
    with pytest.raises(InputError, match="the source"):
        read(source)


def test_messages_before_a_time_are_left_out_and_those_without_a_time_stay():
    old, new = ({**HI, "time": f"{year}-01-01T00:00:00Z"} for year in (2023, 2025))
    chats = read([old, new, HELLO], since=datetime(2024, 1, 1, tzinfo=UTC))
    assert len(said(chats)) == 2
    assert chats.left_out == {"earlier": 1}


def test_messages_without_a_time_go_with_the_one_before_them():
    old, new = ({**HI, "time": f"{year}-01-01T00:00:00Z"} for year in (2023, 2025))
    chats = read([old, HELLO, new, HELLO], since=datetime(2024, 1, 1, tzinfo=UTC))
    assert len(said(chats)) == 2
    assert chats.left_out == {"earlier": 2}


def test_conversations_can_be_read_again_and_come_in_order_of_time(tmp_path):
    def talk(id, *times):
        messages = [{**HI, "time": f"2025-01-0{day}T00:00:00Z"} for day in times]
        return {"id": id, "messages": messages}

    chats = read([talk("late", 5, 6), talk("early", 2, 1)])
    for _ in range(2):
        assert [talk.id for talk in chats.conversations] == ["early", "late"]
    first = next(iter(chats.conversations))
    assert [message["time"].day for message in first.messages] == [1, 2]


def test_messages_listed_newest_first_are_turned_round_also_within_one_second():
    time = "2025-01-01T00:00:0{}Z"
    listed = [(HELLO, 2), (HI, 2), (HELLO, 1), (HI, 1)]
    chats = read([{**message, "time": time.format(second)} for message, second in listed])
    assert said(chats) == [("user", "Hi"), ("assistant", "Hello")] * 2


@pytest.mark.parametrize("waiting", [1, 2, 20_000])
def test_messages_of_two_sessions_are_two_conversations_however_few_wait(waiting, monkeypatch):
    monkeypatch.setattr(reading, "MAX_WAITING", waiting)
    times = {number: f"2025-01-01T00:00:0{number}Z" for number in (3, 2, 1)}
    listed = [
        {"role": "user", "content": str(number), "session_id": session, "time": time}
        for number, time in times.items()
        for session in ("b", "a")
    ]
    chats = read(listed)
    assert [talk.id for talk in chats.conversations] == ["b", "a"]
    assert [text for _, text in said(chats)] == ["1", "2", "3"] * 2
    assert chats.files[0].conversations == 2


def test_sessions_are_read_under_their_other_names():
    values = [{**HI, "threadId": "a"}, {**HI, "threadId": "b"}, {**HELLO, "threadId": "a"}]
    talks = {talk.id: len(talk.messages) for talk in read(values).conversations}
    assert talks == {"a": 2, "b": 1}


@pytest.mark.parametrize(
    "time",
    [
        1738555506,
        1738555506.0,
        1738555506000,
        1738555506000000,
        1738555506000000000,
        "1738555506",
        "2025-02-03T04:05:06Z",
        "2025-02-03T04:05:06.0000000Z",
        "2025-02-03 04:05:06+0000",
        "2025-02-03 04:05:06 UTC",
        {"$date": "2025-02-03T04:05:06Z"},
        {"$date": {"$numberLong": "1738555506000"}},
    ],
)
@pytest.mark.parametrize("field", ["createdAt", "create_time", "date", "timestamp"])
def test_times_are_read_however_they_are_written(time, field):
    (talk,) = read([{**HI, field: time}]).conversations
    assert talk.messages[0]["time"] == datetime(2025, 2, 3, 4, 5, 6, tzinfo=UTC)
