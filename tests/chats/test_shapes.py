"""Each shape: recognised, named, and read as what was said."""

from __future__ import annotations

import json

import pytest

from evomem.chats import formats, read
from evomem.errors import InputError
from tests.chats.samples import ASKED, SAMPLES, event
from tests.conftest import ROOT

shapes = pytest.mark.parametrize("shape", SAMPLES)


def said(chats):
    return [
        (message["role"], message["content"])
        for conversation in chats.conversations
        for message in conversation.messages
    ]


def test_every_shape_has_a_sample_and_a_description():
    assert set(formats()) == set(SAMPLES)
    assert all(formats().values())


@shapes
def test_a_shape_is_recognised_and_named(shape):
    sample = SAMPLES[shape]
    chats = read(json.dumps(sample.value).encode())
    assert said(chats) == sample.said
    assert chats.left_out == sample.left_out
    assert [file.shapes for file in chats.files] == [(shape,)]
    (conversation,) = chats.conversations
    assert (conversation.shape, conversation.id) == (shape, sample.id)
    time = conversation.messages[0]["time"]
    assert (time and time.isoformat()) == sample.first_time


@shapes
def test_a_shape_is_read_alike_as_lines_as_objects_and_when_it_is_forced(shape):
    sample = SAMPLES[shape]
    values = sample.value if isinstance(sample.value, list) else [sample.value, sample.value]
    lines = read("\n".join(map(json.dumps, values)).encode())
    assert said(lines) == sample.said * (len(lines) if len(values) == 2 else 1) or shape == "agno"
    assert said(read(sample.value)) == sample.said
    assert said(read(sample.value, format=shape)) == sample.said


@shapes
def test_no_shape_is_taken_for_another_one_that_is_forced(shape):
    other = "longmemeval" if shape != "longmemeval" else "locomo"
    with pytest.raises(InputError, match=f"is not of the format {other}"):
        read(SAMPLES[shape].value, format=other)


def test_an_unknown_format_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="'gpt' is not a known format; known are agno, anthropic"):
        read(b"[]", format="gpt")


def test_an_unknown_shape_is_described_with_what_it_is_nearest_to():
    with pytest.raises(InputError) as error:
        read({"mapping": None, "title": "x", "create_time": 1})
    assert "an object with mapping, title, create_time" in str(error.value)
    assert "nearest is chatgpt-export" in str(error.value)
    assert "lacks current_node" in str(error.value)
    assert 'write one message a line as {"role"' in str(error.value)


def test_every_message_knows_its_place():
    chats = read(json.dumps([{"messages": SAMPLES["openai-chat"].value}]).encode(), name="a.json")
    (conversation,) = chats.conversations
    assert conversation.places == [f"a.json, conversation 1, message {n}" for n in (2, 3, 5)]
    lines = "\n".join(map(json.dumps, SAMPLES["claude-code"].value)).encode()
    (conversation,) = read(lines, name="a.jsonl").conversations
    assert conversation.places == [f"a.jsonl, line {n}" for n in (3, 4, 9)]


def test_shapes_may_be_mixed_in_one_file():
    mixed = [SAMPLES["sharegpt"].value, SAMPLES["chatgpt-export"].value]
    chats = read(json.dumps(mixed).encode())
    assert chats.files[0].shapes == ("sharegpt", "chatgpt-export")
    assert {talk.shape for talk in chats.conversations} == {"sharegpt", "chatgpt-export"}


def test_a_list_of_conversations_may_stand_under_any_key():
    assert len(read({"version": 1, "chats": [SAMPLES["claude-export"].value] * 2})) == 2
    chats = read({"ada": SAMPLES["openai-chat"].value, "bo": SAMPLES["anthropic"].value})
    assert [talk.id for talk in chats.conversations] == ["ada", "bo"]


def test_chatgpt_without_a_current_node_follows_the_newest_leaf():
    value = {**SAMPLES["chatgpt-export"].value, "current_node": None}
    value["mapping"] = {key: node for key, node in value["mapping"].items() if key != "n5"}
    value["mapping"]["gone"]["message"]["create_time"] = 1700000009.0
    assert said(read(value))[-1] == ("assistant", "It is cold.")


def test_a_tree_that_is_a_ring_is_refused():
    ring = {"id": "a", "parent": "a", "message": None}
    with pytest.raises(InputError, match="node 'a' is its own ancestor"):
        read({"mapping": {"a": ring}, "current_node": "a"})


def test_claude_follows_the_branch_that_was_shown_last():
    messages = [
        {"uuid": "1", "parent_message_uuid": "0", "sender": "human", "text": "Hi"},
        {"uuid": "2", "parent_message_uuid": "1", "sender": "assistant", "text": "Old"},
        {"uuid": "3", "parent_message_uuid": "1", "sender": "assistant", "text": "New"},
    ]
    value = {"uuid": "c", "chat_messages": messages, "current_leaf_message_uuid": "3"}
    assert said(read(value)) == [("user", "Hi"), ("assistant", "New")]


def test_agno_runs_of_one_session_are_one_conversation_however_they_come():
    runs = SAMPLES["agno"].value["runs"]
    assert said(read(runs)) == SAMPLES["agno"].said
    assert len(read("\n".join(map(json.dumps, runs)).encode())) == 1


def test_an_autogen_thought_is_said_if_a_tool_call_follows_it():
    thought = {"type": "ThoughtEvent", "source": "a", "content": "Let me see."}
    call = {"type": "ToolCallRequestEvent", "source": "a", "content": []}
    answer = {"type": "TextMessage", "source": "a", "content": "Done."}
    assert said(read([thought, call, answer]))[0] == ("assistant", "Let me see.")
    chats = read([thought, answer])
    assert (said(chats), chats.left_out) == ([("assistant", "Done.")], {"reasoning": 1})


def test_an_autogen_team_is_read_from_its_manager_alone():
    agent = {"agent_state": SAMPLES["autogen"].value}
    thread = [{"type": "TextMessage", "source": "user", "content": ASKED[1]}]
    team = {"agent_states": {"a": agent, "m": {"message_thread": thread}}, "type": "TeamState"}
    assert said(read(team)) == [ASKED]
    assert (
        said(read({"agent_states": {"a": agent}, "type": "TeamState"})) == SAMPLES["autogen"].said
    )


def test_answers_of_the_apis_are_read_too():
    completion = {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}}],
    }
    output = {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "Hi"}],
    }
    response = {"object": "response", "input": "Hello?", "output": [output]}
    candidate = {"candidates": [{"content": {"role": "model", "parts": [{"text": "Hi"}]}}]}
    assert said(read(completion)) == said(read(candidate)) == [("assistant", "Hi")]
    assert said(read(response)) == [("user", "Hello?"), ("assistant", "Hi")]


def test_threads_of_openais_assistants_are_put_in_order():
    def message(role, text, time):
        content = [{"type": "text", "text": {"value": text, "annotations": []}}]
        return {
            "object": "thread.message",
            "thread_id": "t",
            "role": role,
            "created_at": time,
            "content": content,
        }

    listing = {"object": "list", "data": [message("assistant", "Ho", 2), message("user", "Hi", 1)]}
    assert said(read(listing)) == [("user", "Hi"), ("assistant", "Ho")]


def test_an_ai_studio_prompt_is_read_without_its_thoughts():
    chunks = [
        {"role": "user", "text": "Hi"},
        {"role": "model", "text": "Hm", "isThought": True},
        {"role": "model", "text": "Ho"},
    ]
    chats = read({"runSettings": {}, "chunkedPrompt": {"chunks": chunks}})
    assert said(chats) == [("user", "Hi"), ("assistant", "Ho")]


def test_older_codex_files_are_read_without_their_envelope():
    texts = ("<environment_context>x", "Hi")
    parts = [[{"type": "input_text", "text": text}] for text in texts]
    lines = [
        {"id": "s", "timestamp": "2025-05-07T17:24:21.597Z", "instructions": None},
        {"record_type": "state"},
        *({"type": "message", "role": "user", "content": part} for part in parts),
    ]
    chats = read("\n".join(map(json.dumps, lines)).encode())
    assert said(chats) == [("user", "Hi")]
    assert [talk.id for talk in chats.conversations] == ["s"]


def test_ids_that_letta_counts_again_in_every_file_are_no_ids():
    message = {"id": "message-1", "role": "user", "tool_returns": [], "content": "Hi"}
    for own in ("agent-0", "agent-9f3c"):
        (talk,) = read({"agents": [{"id": own, "messages": [message]}]}).conversations
        assert (talk.id, talk.messages[0]["id"]) == (None if own == "agent-0" else own, None)


def test_spoken_messages_are_read_from_their_transcripts():
    spoken = {"content_type": "audio_transcription", "text": "Hi", "direction": "in"}
    pointer = {"content_type": "audio_asset_pointer", "asset_pointer": "x"}
    content = {"content_type": "multimodal_text", "parts": [spoken, pointer]}
    chatgpt = {"author": {"role": "user"}, "content": content}
    chat = {"role": "user", "content": None, "audio": {"id": "a", "transcript": "Hi"}}
    realtime = {"role": "user", "content": [{"type": "input_audio", "transcript": "Hi"}]}
    for message in (chatgpt, chat, realtime):
        assert said(read([message])) == [("user", "Hi")]


def test_markers_in_chatgpts_answers_are_read_as_they_are_shown():
    text = (
        '\ue200entity\ue202["city","Ulm","in Germany"]\ue201 is on the Danube.'
        "\ue200cite\ue202turn0search1\ue201 See \ue200url\ue202ulm.de\ue202turn0search2\ue201."
    )
    content = {"content_type": "text", "parts": [text]}
    message = {"author": {"role": "assistant"}, "content": content}
    assert said(read([message])) == [("assistant", "Ulm is on the Danube. See ulm.de.")]


def test_rows_with_parts_and_rows_with_content_are_one_conversation():
    row = {"id": "3", "role": "user", "content": "Hi", "createdAt": "2025-01-01T00:00:02Z"}
    parts = {"id": "1", "role": "user", "parts": [{"type": "text", "text": "Ho"}]}
    chats = read([{**parts, "createdAt": "2025-01-01T00:00:01Z"}, row])
    assert said(chats) == [("user", "Ho"), ("user", "Hi")]
    assert chats.files[0].shapes == ("vercel-ai",)


def test_the_documentation_lists_every_format():
    page = (ROOT / "docs/reference/chats.md").read_text()
    assert all(f"| `{name}` |" in page for name in formats())


def test_the_author_of_an_adk_event_determines_its_speaker():
    assert said(read([event("potter", "user", {"text": "Done."})])) == [("assistant", "Done.")]
