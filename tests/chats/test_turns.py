"""Chat files: what is understood, what is left out, and how a fault is named."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest

from evomem.chats import read_chats
from evomem.errors import InputError

HI = {"role": "user", "content": "Hi"}
HELLO = {"role": "assistant", "content": "Hello"}
UTC = timezone.utc


def read(*values, lines=False, **options):
    if lines:
        return read_chats("\n".join(map(json.dumps, values)).encode(), "chat.jsonl", **options)
    return read_chats(json.dumps(values[0]).encode(), "chat.json", **options)


@pytest.mark.parametrize(
    "chats",
    [
        read([HI, HELLO]),
        read({"messages": [HI, HELLO]}),
        read([{"messages": [HI, HELLO]}]),
        read([[HI, HELLO]]),
        read(HI, HELLO, lines=True),
        read_chats(b"\xef\xbb\xbf" + json.dumps([HI, HELLO]).encode()),
        read_chats(json.dumps([HI, HELLO], indent=2).encode()),
        read_chats(f"{json.dumps(HI)}\r\n\r\n{json.dumps(HELLO)}\r\n".encode()),
    ],
)
def test_every_shape_of_one_exchange_gives_the_same_turn(chats):
    assert [turn.text for turn in chats.turns] == ["User: Hi\nAssistant: Hello"]
    assert chats == read([HI, HELLO])
    assert (chats.conversations, chats.messages, chats.left_out) == (1, 2, {})


def test_a_line_may_hold_a_line_separator_that_json_allows():
    odd = {"role": "user", "content": "one\u2028two"}
    data = f"{json.dumps(odd, ensure_ascii=False)}\n{json.dumps(HELLO)}".encode()
    assert read_chats(data).turns[0].user == "one\u2028two"


def test_conversations_become_sessions_that_keep_their_ids():
    chats = read({"id": "a", "messages": [HI, HELLO]}, {"id": 7, "messages": [HI]}, lines=True)
    assert [turn.session for turn in chats.turns] == ["a", "7"]
    assert chats.conversations == 2


def test_a_message_may_name_its_own_session_for_itself_and_its_answer():
    chats = read({"id": "a", "messages": [{**HI, "session": "b"}, HELLO, HI]})
    assert [(turn.role, turn.session) for turn in chats.turns] == [("exchange", "b"), ("user", "a")]


def test_machinery_and_empty_messages_are_left_out_and_counted():
    chats = read(
        [
            {"role": "system", "content": "Be kind."},
            HI,
            {"role": "assistant", "content": None, "tool_calls": [{"id": "x"}]},
            {"role": "tool", "content": "42"},
            {"role": "function", "content": "42"},
            {"role": "developer", "content": "..."},
            HELLO,
        ]
    )
    assert [turn.text for turn in chats.turns] == ["User: Hi\nAssistant: Hello"]
    assert chats.left_out == {"system": 1, "tool call": 1, "tool result": 2, "developer": 1}
    assert chats.messages == 2


def test_text_parts_are_joined_and_others_counted():
    parts = [
        {"type": "text", "text": "Look:"},
        {"type": "image_url", "image_url": {"url": "data:..."}},
        {"type": "input_text", "text": "a heron."},
        "Really.",
    ]
    chats = read([{"role": "user", "content": parts}])
    assert chats.turns[0].user == "Look:\na heron.\nReally."
    assert chats.left_out == {"image part": 1}


def test_names_become_speakers():
    chats = read([{**HI, "name": "Ada"}, {**HI, "name": "Bo"}])
    assert [turn.text for turn in chats.turns] == ["Ada: Hi", "Bo: Hi"]


@pytest.mark.parametrize("field", ["time", "timestamp", "created_at"])
@pytest.mark.parametrize(
    "value", ["2024-03-05T14:30:00Z", "2024-03-05T15:30:00+01:00", 1709649000, 1709649000000.0]
)
def test_times_are_read_from_any_of_their_fields(field, value):
    assert read([{**HI, field: value}]).turns[0].time == datetime(2024, 3, 5, 14, 30, tzinfo=UTC)


def test_messages_without_a_time_have_their_conversations():
    chats = read({"created_at": 1709649000, "messages": [HI, HELLO]})
    assert chats.turns[0].time == datetime(2024, 3, 5, 14, 30, tzinfo=UTC)


def test_naive_times_need_a_zone():
    message = {**HI, "time": "2024-03-05T14:30:00"}
    with pytest.raises(InputError, match=r"chat.json, message 1: time .* --timezone Europe/Berlin"):
        read([message])
    zone = timezone(timedelta(hours=2))
    assert read([message], zone=zone).turns[0].time == datetime(2024, 3, 5, 12, 30, tzinfo=UTC)


def test_conversations_with_times_are_put_in_order_of_time():
    new = {"id": "new", "messages": [{**HI, "time": "2024-03-06T00:00:00Z"}]}
    old = {"id": "old", "messages": [{**HI, "time": "2024-03-05T00:00:00Z"}]}
    timeless = {"id": "timeless", "messages": [HI]}
    assert [t.session for t in read([new, old]).turns] == ["old", "new"]
    assert [t.session for t in read([new, timeless, old]).turns] == ["new", "timeless", "old"]


def test_ids_are_those_of_the_messages_or_follow_from_the_content():
    one, two = read([HI, HELLO, HI, HELLO]).turns
    assert one.id != two.id
    assert read([HI, HELLO, HI, HELLO]).turns == [one, two]
    assert read([{**HI, "id": 5}, HELLO]).turns[0].id == "5"


def test_a_conversation_that_went_on_keeps_the_ids_of_its_beginning():
    before = read([[HI, HELLO]]).turns
    after = read([[HI, HELLO, {"role": "user", "content": "And now?"}]]).turns
    assert after[0] == before[0]
    assert after[1].session == before[0].session


@pytest.mark.parametrize("name", [{}, {"id": "same"}])
def test_conversations_that_begin_alike_stay_apart(name):
    first, second = read(
        [{**name, "messages": [HI, HELLO]}, {**name, "messages": [HI, HELLO]}]
    ).turns
    assert first.id != second.id
    assert (first.session == second.session) == bool(name)


DEEP = b"[" * 200_000

BAD = {
    "empty file": (b"", "the file is empty"),
    "white space": (b" \n", "the file is empty"),
    "only a byte order mark": (b"\xef\xbb\xbf", "the file is empty"),
    "latin-1": (b'[{"role": "user", "content": "caf\xe9"}]', r"not UTF-8 \(byte 0xe9 at 33\)"),
    "utf-16": ('[{"role": "user"}]'.encode("utf-16"), "not UTF-8 .* save it as UTF-8"),
    "prose": (b"Dear diary", "the file is not JSON: .* at line 1, column 1"),
    "truncated document": (b'[{"role": "user", "content": "Hi"}, {"ro', "cut off"),
    "truncated string": (b'[{"role": "user", "content": "Hi', "cut off"),
    "truncated line": (b'{"role": "user", "content": "Hi"}\n{"role"', "line 2 ends in the middle"),
    "broken line": (b'{"role": "user", "content": "Hi"}\n{]', "line 2 is not JSON"),
    "NaN": (b'[{"role": "user", "content": "Hi", "time": NaN}]', "NaN is not a JSON value"),
    "too deep": (DEEP, "the file is not JSON that can be used"),
    "a number": (b"7", "neither a message .* nor a conversation .* but 7"),
    "numbers": (b"[1]", "message 1 is neither"),
    "no role": (b'[{"content": "Hi"}]', "message 1 is neither"),
    "wrong role": (b'[{"role": "robot", "content": "Hi"}]', "message 1 has the role 'robot'"),
    "role of another type": (b'[{"role": ["user"], "content": "Hi"}]', r"the role \['user'\]"),
    "content of another type": (b'[{"role": "user", "content": 5}]', "message 1: content .* got 5"),
    "part without text": (b'[{"role": "user", "content": [{"type": "text"}]}]', "has no text"),
    "messages of another type": (b'{"messages": {}}', "'messages' must be a list"),
    "message of another type": (b'[{"messages": ["Hi"]}]', "conversation 1, message 1 must be"),
    "nothing to read": (b'[{"role": "system", "content": "Hi"}]', "holds no message"),
    "no conversation": (b"[]", "holds no message"),
    "NUL": (b'[{"role": "user", "content": "a\\u0000"}]', "message 1: user contains a NUL"),
    "half a pair": (b'[{"role": "user", "content": "\\ud83d"}]', "message 1: .* surrogate"),
    "not a time": (b'[{"role": "user", "content": "Hi", "time": "noon"}]', "'noon' is not ISO"),
    "time of another type": (
        b'[{"role": "user", "content": "Hi", "time": [1]}]',
        "message 1: time",
    ),
    "time too large": (
        b'[{"role": "user", "content": "Hi", "time": 1e300}]',
        "1e.300 cannot be used",
    ),
    "id of another type": (b'[{"role": "user", "content": "Hi", "id": {}}]', "id must be a string"),
    "metadata": (b'[{"role": "user", "content": "Hi", "metadata": "x"}]', "message 1: "),
    "an id twice": (
        b'[{"role": "user", "content": "Hi", "id": 1}, {"role": "user", "content": "Ho", "id": 1}]',
        "the id '1' occurs twice, at 'User: Hi' and 'User: Ho'",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_with_place_and_fault(case):
    data, message = BAD[case]
    with pytest.raises(InputError, match=message):
        read_chats(data)


def test_a_bad_time_is_refused_with_a_zone_too():
    with pytest.raises(InputError, match='message 1: the time "noon" cannot be used'):
        read([{**HI, "time": "noon"}], zone=UTC)


def test_the_source_is_the_importers_word_and_not_the_files():
    message = {**HI, "source": "user", "recalled": ["t1"]}
    assert [(turn.source, turn.recalled) for turn in read([message]).turns] == [(None, ())]
    assert read([message], source="import:a.json").turns[0].source == "import:a.json"
