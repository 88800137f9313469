"""Bad input: named where it is, skipped if asked, and never an exception that is not ours."""

from __future__ import annotations

import copy
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evomem.chats import read, stream
from evomem.errors import InputError
from tests.chats.samples import SAMPLES
from tests.chats.test_shapes import said

HI = {"role": "user", "content": "Hi"}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"role": "user", "content": "cut \ud83d"}, "user contains half of a surrogate pair at 4"),
        ({"role": "user", "content": "a\x00b"}, "user contains a NUL character at 1"),
        ({"role": "robot", "content": "Beep"}, "has the role 'robot'"),
        ({"role": "user", "content": 5}, "content must be text or a list of parts"),
        ({"role": "user", "content": "Hi", "time": "noon"}, "'noon' is not ISO"),
        ({"role": "user", "content": "x" * 300_000 + "\0"}, "user contains a NUL character"),
        ({"kind": "request", "parts": ["Hi"]}, "must be an object"),
        ("Hi", 'but "Hi"'),
    ],
)
def test_one_bad_message_is_named_or_skipped(bad, reason):
    data = "\n".join(map(json.dumps, [HI, bad, HI])).encode()
    with pytest.raises(InputError) as error:
        read(data, name="log.jsonl")
    assert "log.jsonl, line 2" in str(error.value)
    assert reason in str(error.value)
    chats = read(data, name="log.jsonl", skip_bad=True)
    assert said(chats) == [("user", "Hi")] * 2
    (problem,) = chats.problems
    assert problem.where.startswith("log.jsonl, line 2")
    assert reason in problem.reason


def test_a_line_of_another_shape_is_skipped_wherever_it_is():
    other = {"event": "started"}
    for lines in ([other, HI], [HI, other]):
        chats = read("\n".join(map(json.dumps, lines)).encode(), skip_bad=True)
        assert said(chats) == [("user", "Hi")]
        assert "neither a message" in chats.problems[0].reason


def test_a_conversation_whose_id_is_no_text_is_named():
    for id, reason in (("\ud83d", "half of a surrogate"), (["a"], "must be a string")):
        with pytest.raises(InputError, match=f"conversation 2: .*{reason}"):
            read(json.dumps([{"messages": [HI]}, {"id": id, "messages": [HI]}]).encode())


def test_broken_lines_are_skipped_one_by_one():
    lines = [json.dumps(HI).encode(), b'{"role', b'{"role": "user", "content": "caf\xe9"}', b"{]"]
    chats = read(b"\n".join([*lines, lines[0]]), name="log.jsonl", skip_bad=True)
    assert len(said(chats)) == 2
    assert [problem.where for problem in chats.problems] == [
        f"log.jsonl, line {n}" for n in (2, 3, 4)
    ]


def test_a_document_that_is_cut_off_is_kept_as_far_as_it_goes():
    data = json.dumps([HI, HI, HI]).encode()[:-12]
    with pytest.raises(InputError, match="cut off"):
        read(data)
    chats = read(data, skip_bad=True)
    assert len(said(chats)) == 2
    assert "cut off" in chats.problems[0].reason


def test_a_fault_deep_in_a_document_is_named_with_its_line(monkeypatch):
    monkeypatch.setattr(stream, "CHUNK", 64)
    lines = ["[", *([json.dumps(HI) + ","] * 50), '{"role" "user"}', "]"]
    with pytest.raises(InputError, match="Expecting ':' delimiter at line 52, column 9"):
        read("\n".join(lines).encode())


@settings(max_examples=60)
@given(
    st.lists(
        st.recursive(st.text() | st.integers() | st.none(), st.lists, max_leaves=8), max_size=8
    ),
    st.integers(1, 40),
    st.sampled_from([None, 1]),
)
def test_a_list_is_split_as_json_reads_it_whatever_the_window(items, chunk, indent):
    before, stream.CHUNK = stream.CHUNK, chunk
    try:
        data = json.dumps(items, indent=indent, ensure_ascii=False).encode("utf-8", "replace")
        result = stream.values(io.BytesIO(data), "x", _raise)
        values = [value.value for value in result]
    finally:
        stream.CHUNK = before
    if len(items) == 1 or indent or not data.strip().startswith(b"[["):
        assert values == json.loads(data) or values == [json.loads(data)]
    else:
        assert values == json.loads(data)


def _raise(error, where):
    raise error


def test_deep_nesting_is_refused_wherever_it_is():
    deep = "[" * 5000 + "]" * 5000
    for text in (deep, '{"messages": ' + deep + "}", '[{"role": "user", "content": ' + deep + "}]"):
        with pytest.raises(InputError):
            read(text.encode())


def test_objects_that_hold_themselves_are_refused():
    ring: dict[str, object] = {"role": "user"}
    ring["content"] = ring
    with pytest.raises(InputError, match="nested more than 100 levels"):
        read([ring])


JUNK = st.sampled_from(
    [None, True, 0, -1, 1e300, "", "x", "\ud83d", "\x00", [], {}, [None], [[]], {"a": 1}, "user"]
    + [{"role": "user"}, {"type": "text"}, {"text": 5}, "2025-01-01", "[", 10**30]
)


def _places(value, path=()):
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from _places(value[key], (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _places(inner, (*path, number))


@st.composite
def damaged(draw):
    value = copy.deepcopy(draw(st.sampled_from([sample.value for sample in SAMPLES.values()])))
    for _ in range(draw(st.integers(1, 4))):
        path = draw(st.sampled_from(list(_places(value))))
        if not path:
            continue
        inner = value
        for key in path[:-1]:
            inner = inner[key]
        if draw(st.booleans()):
            inner[path[-1]] = copy.deepcopy(draw(JUNK))
        else:
            del inner[path[-1]]
    return value


@settings(max_examples=120)
@given(damaged(), st.booleans(), st.booleans())
def test_damaged_chats_are_read_or_raise_input_error(value, skip_bad, as_bytes):
    source = json.dumps(value).encode() if as_bytes else value
    try:
        chats = read(source, skip_bad=skip_bad)
    except InputError:
        return
    for conversation in chats.conversations:
        assert len(conversation.messages) == len(conversation.places) > 0
        assert all(message["content"].strip() for message in conversation.messages)


@settings(max_examples=80)
@given(st.sampled_from(list(SAMPLES)), st.data())
def test_bytes_that_are_cut_or_changed_are_read_or_refused(shape, data):
    values = SAMPLES[shape].value
    text = json.dumps(values).encode()
    if isinstance(values, list) and data.draw(st.booleans()):
        text = "\n".join(map(json.dumps, values)).encode()
    at = data.draw(st.integers(0, len(text) - 1))
    changed = (
        text[:at] + data.draw(st.binary(max_size=3)) + text[at + data.draw(st.integers(0, 9)) :]
    )
    for skip_bad in (False, True):
        try:
            read(changed, skip_bad=skip_bad)
        except InputError:
            pass
