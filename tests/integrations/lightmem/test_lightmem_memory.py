import pytest

from evomem.errors import InputError
from evomem_integrations.lightmem import LightMemory

EMPTY = {"add_input_prompt": [], "add_output_prompt": [], "api_call_nums": 0}
SATURDAY = "2023/05/20 (Sat) 00:44"
TALK = [
    {"role": "user", "content": "I adopted a cat called Miso.", "time_stamp": SATURDAY},
    {"role": "assistant", "content": "Lovely!", "time_stamp": SATURDAY},
    {"role": "user", "content": "I moved to Oslo.", "time_stamp": "2023-06-01T10:00:00"},
]


def memory(**config):
    return LightMemory.from_config(config, encoder="hash")


def test_messages_are_stored_at_once_and_retrieved_as_lightmem_writes_them():
    light = memory()
    assert light.add_memory(TALK) == EMPTY
    assert light.retrieve("a cat called Miso", limit=1) == [
        "2023-05-20T00:44:00.000 Sat I adopted a cat called Miso."
    ]
    assert light.retrieve("I moved to Oslo", limit=1) == [
        "2023-06-01T10:00:00.000 Thu I moved to Oslo."
    ]


@pytest.mark.parametrize(
    ("use", "said"),
    [("user_only", ["user", "user"]), ("assistant_only", ["assistant"]), ("hybrid", None)],
)
def test_messages_use_selects_the_roles_that_are_stored(use, said):
    light = memory(messages_use=use)
    light.add_memory(TALK)
    roles = [entry["payload"]["role"] for entry in light.embedding_retriever.get_all()]
    assert roles == (said or ["user", "assistant", "user"])
    texts = [record.text for record in light.embedding_retriever._documents.all()]
    assert all(text.lower().startswith(role) for text, role in zip(texts, roles, strict=True))


def test_messages_of_one_session_are_half_a_second_apart():
    light = memory(messages_use="hybrid")
    light.add_memory(TALK)
    stamps = [entry["payload"]["time_stamp"] for entry in light.embedding_retriever.get_all()]
    assert stamps[:2] == ["2023-05-20T00:44:00.000", "2023-05-20T00:44:00.500"]


def test_named_speakers_are_kept():
    light = memory()
    light.add_memory({**TALK[0], "speaker_name": "Mel", "speaker_id": "m"})
    assert light.retrieve("cat") == [
        "2023-05-20T00:44:00.000 Sat Mel: I adopted a cat called Miso."
    ]
    assert light.retrieve("cat", filters={"speaker_id": "x"}) == []


def test_empty_input_gives_empty_output():
    light = memory()
    assert light.add_memory([]) == EMPTY
    assert light.add_memory({**TALK[0], "content": "  "}, force_segment=True) == EMPTY
    assert light.retrieve("anything") == []


@pytest.mark.parametrize(
    ("messages", "fault"),
    [
        ("I moved.", "messages must be dictionaries"),
        (["I moved."], "message 0 is a str"),
        ([TALK[0], {"role": "user", "content": "x"}], "message 1 has the time_stamp None"),
        ({**TALK[0], "time_stamp": "yesterday"}, "time_stamp 'yesterday'"),
        ({**TALK[0], "time_stamp": "2023/13/20 (Sat) 00:44"}, "write it like 2023/05/20"),
        ({**TALK[0], "role": "system"}, "role 'system'"),
        ({**TALK[0], "content": None}, "no text"),
    ],
)
def test_a_message_that_is_none_is_refused_and_nothing_is_written(messages, fault):
    light = memory()
    with pytest.raises(ValueError, match=fault):
        light.add_memory(messages)
    assert light.embedding_retriever.get_all() == []


def test_the_messages_given_are_not_changed():
    before = [dict(message) for message in TALK]
    memory().add_memory(TALK, boundmem_tags="x")
    assert before == TALK


def test_tags_bind_memories_to_an_environment():
    light = memory()
    light.add_memory(TALK[0], boundmem_tags={"tags": ["Home", ["x"]]})
    light.add_memory(TALK[2])
    assert len(light.retrieve("cat", boundmem_tags="home")) == 2
    [only] = light.retrieve("cat", boundmem_tags=["HOME "], boundmem_drop_untagged=True)
    assert only.endswith("Miso.")
    [untagged] = light.retrieve("cat", boundmem_tags="work")
    assert untagged.endswith("Oslo.")


def test_a_configuration_s_collection_on_disk_is_opened_again(tmp_path):
    config = {
        "memory_manager": {"model_name": "openai", "configs": {"api_key": "x"}},
        "embedding_retriever": {
            "model_name": "qdrant",
            "configs": {"collection_name": "talk", "path": str(tmp_path), "on_disk": True},
        },
    }
    first = LightMemory.from_config(config, encoder="hash")
    first.add_memory(TALK)
    first.close()
    again = LightMemory.from_config(config, encoder="hash")
    assert len(again.retrieve("cat")) == 2


def test_methods_that_need_an_llm_do_nothing_or_raise():
    light = memory()
    light.add_memory(TALK)
    assert light.construct_update_queue_all_entries(top_k=5) is None
    assert light.offline_update_all_entries(score_threshold=0.9) is None
    with pytest.raises(InputError, match="needs an LLM"):
        light.summarize()
    stats = light.get_token_statistics()
    assert set(stats) == {"summary", "llm", "embedding"}
    assert stats["summary"]["total_llm_calls"] == 0
    assert stats["summary"]["total_embedding_calls"] == 2
    with pytest.raises(InputError, match="messages_use"):
        memory(messages_use="nobody")
