"""`Memory` in place of Mem0's, on a real database."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import uuid
from datetime import date, datetime, timedelta

import pytest

import evomem
from evomem.errors import NotFound, QueryError, TurnError
from evomem_integrations.mem0 import AsyncMemory, Memory
from evomem_integrations.mem0.results import EARLIER_BYTES

CHAT = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "I live in Bergen."},
    {"role": "assistant", "content": "A rainy place!"},
]
ITEM = {"id", "memory", "hash", "metadata", "created_at", "updated_at"}
YESTERDAY = date.today() - timedelta(days=2)


@pytest.fixture
def memory(db):
    return Memory(database=db)


def texts(result):
    return [item["memory"] for item in result["results"]]


def only_id(added):
    [event] = added["results"]
    return event["id"]


# adding ----------------------------------------------------------------------------------------


def test_a_message_and_its_answer_are_kept_word_for_word_as_one_memory(memory):
    [event] = memory.add(CHAT, user_id="alice")["results"]
    assert event == {
        "id": event["id"],
        "memory": "User: I live in Bergen.\nAssistant: A rainy place!",
        "event": "ADD",
    }


def test_without_inference_every_message_is_a_memory(memory):
    added = memory.add(
        [*CHAT, {"role": "user", "content": "Hm", "name": "Al"}], user_id="a", infer=False
    )
    assert [(e["memory"], e["role"], e["actor_id"]) for e in added["results"]] == [
        ("I live in Bergen.", "user", None),
        ("A rainy place!", "assistant", None),
        ("Hm", "user", "Al"),
    ]
    assert memory.get(added["results"][2]["id"])["actor_id"] == "Al"
    assert [hit.text for hit in memory._rows.database.memory("mem0", "mem0", "user_id", "a").history()] == [
        "User: I live in Bergen.", "Assistant: A rainy place!", "Al: Hm",
    ]  # fmt: skip


@pytest.mark.parametrize("infer", [True, False])
def test_empty_system_and_tool_messages_are_not_stored(memory, infer):
    added = memory.add(
        [
            {"role": "user", "content": [{"type": "text", "text": "Look!"}, {"type": "image_url"}]},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
            {"role": "tool", "content": "4 degrees"},
            {"role": "assistant", "content": " "},
        ],
        user_id="alice",
        infer=infer,
    )
    assert texts(added) == ["Look!"]
    assert memory.get(added["results"][0]["id"])["role"] == "user"
    assert memory.add([{"role": "system", "content": "Be kind."}], user_id="alice") == {
        "results": []
    }


@pytest.mark.parametrize("infer", [True, False])
def test_a_text_that_no_turn_can_hold_is_kept_as_far_as_possible_and_says_so(memory, infer):
    added = memory.add("from a PDF\x00: " + "x" * 300_000, user_id="alice", infer=infer)
    [item] = memory.get_all(user_id="alice")["results"]
    assert item["memory"] == ("from a PDF: " + "x" * 300_000)[:262_144]
    assert item["metadata"]["cleaned_user"] == [
        "1 NUL character removed",
        "cut to 262,144 of 300,012 characters",
    ]
    assert added["results"][0]["memory"] == item["memory"]


def test_an_answer_around_a_call_of_a_tool_is_one_memory(memory):
    added = memory.add(
        [
            {"role": "user", "content": "Where did I park?"},
            {"role": "assistant", "content": "Let me look.", "name": "valet"},
            {"role": "tool", "content": "level 3"},
            {"role": "assistant", "content": "On level 3."},
        ],
        user_id="alice",
    )
    [text] = texts(added)
    assert "Let me look.\nOn level 3." in text


def test_an_item_has_the_fields_of_mem0s(memory):
    id = only_id(
        memory.add("I live in Bergen.", user_id="alice", run_id=7, metadata={"topic": "home"})
    )
    item = memory.get(id)
    assert set(item) == ITEM | {"score", "user_id", "run_id", "role"}
    assert (item["memory"], item["metadata"], item["score"]) == (
        "I live in Bergen.",
        {"topic": "home"},
        None,
    )
    assert (item["user_id"], item["run_id"]) == ("alice", "7")
    assert item["hash"] == hashlib.md5(b"I live in Bergen.").hexdigest()
    assert item["created_at"] == item["updated_at"]
    [listed] = memory.get_all(filters={"user_id": "alice"})["results"]
    assert {**listed, "score": None} == item
    [hit] = memory.search("Bergen", filters={"user_id": "alice"})["results"]
    assert {**hit, "score": None} == item
    assert 0.1 <= hit["score"] <= 1


@pytest.mark.parametrize(
    ("messages", "options", "match"),
    [
        ("x", {}, "At least one of 'user_id'"),
        ("x", {"user_id": " "}, "without white space"),
        ("x", {"user_id": "a b"}, "without white space"),
        (7, {"user_id": "a"}, "messages must be"),
        (["x"], {"user_id": "a"}, "a message must be a dict"),
        ("x", {"user_id": "a", "memory_type": "procedural_memory"}, "language model"),
        ("x", {"user_id": "a", "expiration_date": "soon"}, "2027-01-31"),
        ("x", {"user_id": "a", "timestamp": "2024-01-01T00:00:00"}, "time zone"),
        ("x", {"user_id": "a", "timestamp": 1.7e12}, "seconds since 1970"),
        ("x", {"user_id": "a", "timestamp": float("nan")}, "seconds since 1970"),
        ("x", {"user_id": "a", "metadata": {"f": object()}}, "plain JSON"),
    ],
)
def test_invalid_messages_are_refused_before_anything_is_written(
    memory, db, messages, options, match
):
    with pytest.raises(ValueError, match=match):
        memory.add(messages, **options)
    assert db.memories() == []


def test_metadata_cannot_say_whose_a_memory_is(memory, caplog):
    id = only_id(memory.add("x y", user_id="alice", metadata={"agent_id": "eve", "topic": "t"}))
    assert "agent_id" not in memory.get(id)
    assert "identity fields cannot be set through metadata" in caplog.text


def test_a_timestamp_is_when_it_was_said(memory, db):
    id = only_id(memory.add("I live in Bergen.", user_id="alice", timestamp=1_700_000_000))
    assert memory.get(id)["created_at"] == "2023-11-14T22:13:20+00:00"
    [record] = db.memory("mem0", "mem0", "user_id", "alice").history()
    assert record.time.isoformat() == "2023-11-14T22:13:20+00:00"


# whose ------------------------------------------------------------------------------------------


@pytest.fixture
def shared(memory):
    memory.add("Alice likes tea.", user_id="alice")
    memory.add("Alice asked the cook for tea.", user_id="alice", agent_id="cook", run_id="r1")
    memory.add("Bob asked the cook for tea.", user_id="bob", agent_id="cook")
    memory.add("The cook makes tea.", agent_id="cook")
    memory.add("Tea was talked about.", run_id="r1")
    return memory


@pytest.mark.parametrize(
    ("ids", "first_letters"),
    [
        ({"user_id": "alice"}, {"Alice likes", "Alice asked"}),
        ({"user_id": "bob"}, {"Bob asked"}),
        ({"agent_id": "cook"}, {"Alice asked", "Bob asked", "The cook"}),
        ({"run_id": "r1"}, {"Alice asked", "Tea was"}),
        ({"user_id": "alice", "agent_id": "cook"}, {"Alice asked"}),
        ({"agent_id": "cook", "run_id": "r1"}, {"Alice asked"}),
        ({"user_id": "carol"}, set()),
    ],
)
def test_ids_say_whose_memories_are_meant(shared, ids, first_letters):
    for hits in (shared.get_all(filters=ids), shared.search("tea", filters=ids, threshold=0.0)):
        assert {" ".join(text.split()[:2]) for text in texts(hits)} == first_letters


def test_each_user_has_a_log_of_their_own(shared, db):
    assert db.memories() == [
        ("mem0", "mem0", "agent_id", "cook"),
        ("mem0", "mem0", "run_id", "r1"),
        ("mem0", "mem0", "user_id", "alice"),
        ("mem0", "mem0", "user_id", "bob"),
    ]


def test_hits_of_several_logs_are_ranked_together(shared):
    hits = shared.search("tea", filters={"agent_id": "cook"}, threshold=0.0)["results"]
    scores = [item["score"] for item in hits]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert shared.search("tea", filters={"agent_id": "cook"}, top_k=1)["results"] == hits[:1]


def test_collections_are_apart(db):
    Memory(database=db, collection="one").add("x y", user_id="alice")
    assert Memory(database=db, collection="two").get_all(user_id="alice") == {"results": []}


# searching --------------------------------------------------------------------------------------


def test_filters_on_metadata_are_honoured(memory):
    for city, stars in (("Oslo", 5), ("Bergen", 3), ("Rome", 4)):
        memory.add(f"I was in {city}.", user_id="a", metadata={"city": city, "stars": stars})
    memory.add("I was at home.", user_id="a")

    def cities(**filters):
        hits = memory.search("I was in", filters={"user_id": "a", **filters}, threshold=0.0)
        return {(item["metadata"] or {}).get("city", "home") for item in hits["results"]}

    assert cities(city="Oslo") == {"Oslo"}
    assert cities(stars={"gte": 4}) == {"Oslo", "Rome"}
    assert cities(city={"in": ["Oslo", "Rome"]}, stars={"lt": 5}) == {"Rome"}
    assert cities(city="*") == {"Oslo", "Bergen", "Rome"}
    assert cities(city={"ne": "Oslo"}) == {"Bergen", "Rome"}  # as in Mem0: "home" has no city
    assert cities(OR=[{"city": "Oslo"}, {"stars": 3}]) == {"Oslo", "Bergen"}
    assert cities(NOT=[{"city": "Oslo"}, {"stars": 3}]) == {"Rome", "home"}
    assert cities(AND=[{"stars": {"gt": 3}}, {"stars": {"lt": 5}}]) == {"Rome"}
    with pytest.raises(QueryError, match="does not match substrings"):
        cities(city={"contains": "Os"})


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"query": "x"}, "must contain at least one of"),
        ({"query": " ", "user_id": "a"}, "Invalid query"),
        ({"query": "x", "user_id": "a", "top_k": -1}, "top_k"),
        ({"query": "x", "user_id": "a", "top_k": True}, "top_k"),
        ({"query": "x", "user_id": "a", "threshold": 1.5}, "between 0 and 1"),
        ({"query": "x", "user_id": "a", "reference_date": "2024-01-01"}, "not supported"),
        ({"query": "x", "user_id": "a", "filters": {"user_id": "b"}}, "'a', but 'b'"),
    ],
)
def test_invalid_search_arguments_are_refused(memory, arguments, match):
    with pytest.raises(ValueError, match=match):
        memory.search(**arguments)


def test_the_threshold_and_the_explanation_are_mem0s(memory):
    memory.add("I live in Bergen.", user_id="a")
    memory.add("Entirely different words here.", user_id="a")
    assert texts(memory.search("I live in Bergen.", user_id="a", threshold=0.5)) == [
        "I live in Bergen."
    ]
    [best, *_] = memory.search("I live in Bergen.", user_id="a", explain=True)["results"]
    assert best["score_details"]["final_score"] == best["score"]
    assert set(best["score_details"]) == {
        "semantic_score", "bm25_score", "entity_boost", "raw_score", "max_possible_score",
        "final_score", "threshold",
    }  # fmt: skip


def test_both_calling_forms_give_the_same(memory):
    memory.add(CHAT, user_id="alice")
    memory.add("I moved to Oslo.", user_id="alice")
    assert memory.search("Oslo", user_id="alice", limit=1) == memory.search(
        "Oslo", filters={"user_id": "alice"}, top_k=1
    )
    assert memory.get_all(user_id="alice", limit=1) == memory.get_all(
        filters={"user_id": "alice"}, top_k=1
    )
    assert memory.get_all(user_id="alice", limit=0) == {"results": []}
    id = only_id(memory.add("x y", user_id="alice"))
    memory.update(id, data="z")
    assert memory.get(id)["memory"] == "z"


def test_hybrid_search_is_a_matter_of_configuration(db):
    memory = Memory(database=db, mode="hybrid")
    memory.add("I live in Bergen.", user_id="a")
    assert texts(memory.search("Bergen", user_id="a")) == ["I live in Bergen."]
    with pytest.raises(QueryError, match="mode"):
        Memory(database=db, mode="lexical")


def test_expired_memories_are_found_only_with_show_expired(memory):
    memory.add("Old news.", user_id="a", expiration_date=YESTERDAY)
    new = only_id(memory.add("New news.", user_id="a", expiration_date=date.max))
    for shown, expected in ((False, {"New news."}), (True, {"New news.", "Old news."})):
        listed = memory.get_all(user_id="a", show_expired=shown)
        hits = memory.search("news", user_id="a", show_expired=shown, threshold=0.0)
        assert set(texts(listed)) == set(texts(hits)) == expected
    memory.update(new, expiration_date=YESTERDAY.isoformat())
    assert memory.get_all(user_id="a") == {"results": []}
    memory.update(new, expiration_date=None)
    assert texts(memory.get_all(user_id="a")) == ["New news."]


# changing ---------------------------------------------------------------------------------------


def test_a_new_text_replaces_the_old_one_everywhere_but_in_the_history(memory):
    id = only_id(memory.add("I live in Bergen.", user_id="alice", metadata={"topic": "home"}))
    memory.add("I have a cat.", user_id="alice")
    assert memory.update(id, "I live in Oslo.") == {"message": "Memory updated successfully!"}
    item = memory.get(id)
    assert (item["memory"], item["metadata"]) == ("I live in Oslo.", {"topic": "home"})
    assert item["created_at"] < item["updated_at"]
    assert item["hash"] == hashlib.md5(b"I live in Oslo.").hexdigest()
    assert texts(memory.get_all(user_id="alice")) == ["I have a cat.", "I live in Oslo."]
    assert "I live in Bergen." not in texts(memory.search("I live in Bergen.", user_id="alice"))
    added, updated = memory.history(id)
    assert (added["old_memory"], added["new_memory"], added["event"]) == (
        None,
        "I live in Bergen.",
        "ADD",
    )
    assert (updated["old_memory"], updated["new_memory"], updated["event"]) == (
        "I live in Bergen.", "I live in Oslo.", "UPDATE",
    )  # fmt: skip
    assert set(added) == {
        "id", "memory_id", "old_memory", "new_memory", "event", "created_at", "updated_at",
        "is_deleted", "actor_id", "role",
    }  # fmt: skip
    assert memory.history(id) == [added, updated]
    assert added["id"] != updated["id"]


def test_other_metadata_does_not_read_the_text_again(memory, db):
    id = only_id(memory.add(CHAT, user_id="alice", metadata={"topic": "home"}))
    [before] = db.memory("mem0", "mem0", "user_id", "alice").history()
    memory.update(id, metadata={"stars": 5, "user_id": "eve"})
    [after] = db.memory("mem0", "mem0", "user_id", "alice").history()
    assert (after.id, after.seq, after.text) == (before.id, before.seq, before.text)
    assert memory.get(id)["metadata"] == {"topic": "home", "stars": 5}
    assert memory.get(id)["user_id"] == "alice"
    memory.update(id, memory.get(id)["memory"])
    assert len(memory.history(id)) == 1


def test_an_exchange_can_be_replaced_by_a_text(memory):
    id = only_id(memory.add(CHAT, user_id="alice"))
    memory.update(id, "Lives in Oslo.")
    assert (memory.get(id)["memory"], memory.get(id)["role"]) == ("Lives in Oslo.", "user")


def test_the_history_of_long_texts_keeps_the_newest(memory):
    id = only_id(memory.add("a" * EARLIER_BYTES, user_id="alice"))
    for letter in "bcd":
        memory.update(id, letter * (EARLIER_BYTES // 3))
    events = memory.history(id)
    assert [event["event"] for event in events] == ["ADD", "UPDATE", "UPDATE", "UPDATE"]
    assert [(event["new_memory"] or "-")[0] for event in events] == ["-", "b", "c", "d"]


@pytest.mark.parametrize("call", ["update", "delete"])
def test_an_unknown_id_is_no_value(memory, call):
    arguments = {"text": "x"} if call == "update" else {}
    with pytest.raises(ValueError, match="not found"):
        getattr(memory, call)("6c1a3f2e-0000-4000-8000-000000000000", **arguments)
    with pytest.raises(NotFound):
        getattr(memory, call)("nothing", **arguments)
    assert memory.get("nothing") is None
    assert memory.history("nothing") == []


def test_an_update_that_changes_nothing_or_cannot_be_stored_is_refused(memory):
    id = only_id(memory.add("I live in Bergen.", user_id="alice"))
    with pytest.raises(QueryError, match="At least one of"):
        memory.update(id)
    with pytest.raises(TurnError):
        memory.update(id, " ")
    assert memory.get(id)["memory"] == "I live in Bergen."


# forgetting -------------------------------------------------------------------------------------


def test_a_deleted_memory_leaves_nothing_behind(tmp_path):
    config = {"vector_store": {"config": {"location": str(tmp_path / "a.db"), "encoder": "hash"}}}
    with Memory.from_config(config) as memory:
        id = only_id(memory.add("My password is xyzzy.", user_id="alice"))
        memory.update(id, "My password is plugh.")
        memory.update(id, "My password is a secret.")
        kept = only_id(memory.add("I have a cat.", user_id="alice"))
        assert memory.delete(id) == {"message": "Memory deleted successfully!"}
        assert memory.get(id) is None
        assert memory.history(id) == []
        assert texts(memory.get_all(user_id="alice")) == ["I have a cat."]
        assert (memory.get(kept) or {})["memory"] == "I have a cat."
        assert memory._rows.database.verify() == []
    for file in tmp_path.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        assert not any(word in content for word in (b"xyzzy", b"plugh", b"secret")), file


def test_a_deleted_memory_has_no_influence_on_later_ones(tmp_path):
    with evomem.open(str(tmp_path / "a.db"), "hash") as db:
        memory = Memory(database=db)
        told, untold = (db.memory("mem0", "mem0", "user_id", name) for name in ("told", "untold"))
        secret = only_id(memory.add("My password is xyzzy.", user_id="told"))
        for name in ("told", "untold"):
            memory.add("I have a cat.", user_id=name)
        before = [view.search("cat")[-1].score for view in (told, untold)]
        assert before[0] != before[1]
        memory.delete(secret)
        after = [view.search("cat")[-1].score for view in (told, untold)]
        assert after[0] == after[1]


def test_delete_all_forgets_what_has_the_ids_and_nothing_else(shared):
    assert shared.delete_all(agent_id="cook") == {"message": "Memories deleted successfully!"}
    owners = ({"user_id": "alice"}, {"user_id": "bob"}, {"agent_id": "cook"}, {"run_id": "r1"})
    left = [shared.get_all(filters=ids)["results"] for ids in owners]
    assert [[item["memory"] for item in result] for result in left] == [
        ["Alice likes tea."], [], [], ["Tea was talked about."],
    ]  # fmt: skip
    with pytest.raises(QueryError, match=r"use the `reset\(\)` method"):
        shared.delete_all()
    assert shared.delete_all(user_id="nobody") == {"message": "Memories deleted successfully!"}


def test_reset_forgets_the_collection_and_leaves_others(shared, db):
    other = Memory(database=db, collection="other")
    other.add("x y", user_id="alice")
    assert shared.reset() is None
    assert shared.get_all(user_id="alice") == {"results": []}
    assert texts(other.get_all(user_id="alice")) == ["x y"]


# configuration and async ------------------------------------------------------------------------


def test_a_configuration_of_mem0_opens_a_database_and_what_it_keeps_stays(tmp_path):
    config = {
        "vector_store": {
            "provider": "evomem",
            "config": {
                "location": str(tmp_path / "a.db"), "collection_name": "c", "encoder": "hash",
                "embedding_model_dims": 1536,
            },
        },
        "llm": {"provider": "openai", "config": {"model": "gpt-x"}},
        "history_db_path": "/nowhere/history.db",
        "version": "v1.1",
    }  # fmt: skip
    with Memory.from_config(config) as memory:
        id = only_id(memory.add("I live in Bergen.", user_id="alice"))
    with Memory.from_config(config) as memory:
        assert (memory.get(id) or {})["memory"] == "I live in Bergen."
    with pytest.raises(NotImplementedError):
        memory.chat("x")


def test_another_stores_configuration_is_refused():
    with pytest.raises(QueryError, match="'qdrant'"):
        Memory({"vector_store": {"provider": "qdrant", "config": {"path": "/tmp/q"}}})


def test_without_a_configuration_the_database_is_in_mem0s_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MEM0_DIR", str(tmp_path / "mem0"))
    with Memory({"vector_store": {"config": {"encoder": "hash"}}}) as memory:
        memory.add("x y", user_id="alice")
    assert (tmp_path / "mem0" / "evomem.db").is_file()


async def test_the_asynchronous_class_does_the_same_in_the_order_of_the_calls(db):
    async with AsyncMemory(database=db) as memory:
        added = await asyncio.gather(
            *(memory.add(f"Number {n}", user_id="a", llm=None) for n in range(20))
        )
        listed = await memory.get_all(filters={"user_id": "a"})
        assert texts(listed) == [f"Number {n}" for n in range(20)]
        id = only_id(added[3])
        assert (await memory.search("Number 3", filters={"user_id": "a"}, top_k=1))["results"]
        await memory.update(id, "Three")
        assert (await memory.get(id) or {})["memory"] == "Three"
        assert len(await memory.history(id)) == 2
        await memory.delete(id)
        assert await memory.get(id) is None
        with pytest.raises(ValueError, match="not found"):
            await memory.delete(id)
        await memory.delete_all(user_id="a")
        await memory.reset()
        assert await memory.get_all(user_id="a") == {"results": []}
        with pytest.raises(NotImplementedError):
            await memory.chat("x")


# as Mem0 takes it ------------------------------------------------------------------------------


def test_metadata_that_json_has_no_type_for_is_written_as_mem0_writes_it(memory):
    given = {
        "on": date(2026, 1, 2),
        "at": datetime(2026, 1, 2, 3, 4),
        "ref": uuid.UUID(int=1),
        "s": {1},
    }
    id = only_id(memory.add("tea", user_id="a", metadata=given))
    assert memory.get(id)["metadata"] == {
        "on": "2026-01-02",
        "at": "2026-01-02T03:04:00",
        "ref": str(uuid.UUID(int=1)),
        "s": [1],
    }


def test_unknown_arguments_are_ignored_and_logged(memory, caplog):
    memory.add("tea", user_id="a")
    own = {"user_id": "a"}
    assert len(memory.search("tea", filters=own, output_format="v1.1")["results"]) == 1
    assert len(memory.get_all(filters=own, page=1, page_size=1)["results"]) == 1
    assert ["output_format" in caplog.text, "page, page_size" in caplog.text] == [True, True]


@pytest.mark.parametrize("name", ["add", "update", "delete_all", "search", "get_all"])
def test_the_asynchronous_methods_say_which_arguments_they_take(name):
    """Frameworks that make tools of functions look."""
    own, awaited = (
        inspect.signature(getattr(kind, name)).parameters for kind in (Memory, AsyncMemory)
    )
    shared = [n for n in awaited if n not in ("llm", "options")]
    assert shared == list(own)[: len(shared)]
    assert [awaited[n].default for n in shared] == [own[n].default for n in shared]
    assert len(shared) == {"search": 9, "get_all": 4}.get(name, len(own))


def test_a_configuration_that_is_none_is_refused():
    with pytest.raises(QueryError, match="int"):
        Memory(42)
