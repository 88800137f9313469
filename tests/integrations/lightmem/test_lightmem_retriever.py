import threading
import uuid
from types import SimpleNamespace

import numpy as np
import pytest

from evomem.encoder import HashEncoder
from evomem.errors import InputError
from evomem_integrations.lightmem import EmbeddingRetriever, PlainTextEmbedder, TextEmbedder


class Counting(HashEncoder):
    """The hashing encoder; counts the turns and queries it embeds."""

    read_turns = queries = 0

    def read(self, state, turns):
        self.read_turns += len(turns)
        return super().read(state, turns)

    def embed_queries(self, state, queries):
        self.queries += len(queries)
        return super().embed_queries(state, queries)


def configured(path="", on_disk=False, **server):
    return SimpleNamespace(collection_name="facts", path=path, on_disk=on_disk, **server)


@pytest.fixture
def encoder():
    return Counting()


@pytest.fixture
def embedder(encoder, monkeypatch):
    monkeypatch.setattr(TextEmbedder, "encoder", encoder)
    monkeypatch.setattr(EmbeddingRetriever, "encoder", encoder)
    return TextEmbedder(SimpleNamespace(model="/models/all-MiniLM-L6-v2", model_kwargs={}))


FACTS = ("User adopted a cat called Miso", "User moved to Oslo", "User plays chess on Sundays")


@pytest.fixture
def store(embedder):
    made = EmbeddingRetriever(configured())
    for number, fact in enumerate(FACTS):
        payload = {"memory": fact, "float_time_stamp": 100.0 + number, "consolidated": False}
        made.insert(vectors=[embedder.embed(fact)], payloads=[payload], ids=[str(number)])
    return made


def found(store, vector, **options):
    return [hit["id"] for hit in store.search(query_vector=vector, **options)]


def test_a_fact_is_read_once_and_neither_inserts_nor_searches_embed_anything_else(
    embedder, store, encoder
):
    store.search(embedder.embed("Where does the user live?"))
    assert (encoder.read_turns, encoder.queries) == (3, 1)


def test_a_search_asks_the_memory_in_its_state(embedder, store):
    [hit] = store.search(embedder.embed("a cat called Miso"), limit=1, return_full=True)
    assert hit["id"] == "0"
    assert hit["payload"]["memory"] == FACTS[0]
    [same] = store._documents.memory.search("a cat called Miso", 1, mode="evolvable")
    assert hit["score"] == same.score


def test_hits_without_payload_are_ids_and_scores_best_first(embedder, store):
    hits = store.search(embedder.embed("Oslo"), limit=2)
    assert [set(hit) for hit in hits] == [{"id", "score"}] * 2
    assert hits[0]["score"] >= hits[1]["score"]
    assert store.search(embedder.embed("Oslo"), limit=0) == []


@pytest.mark.parametrize(
    ("test", "ids"),
    [
        ({"lte": 101.0}, {"0", "1"}),
        ({"lt": 101.0}, {"0"}),
        ({"gt": 100.0, "lte": 101.0}, {"1"}),
        ({"gte": 102.0}, {"2"}),
        (101.0, {"1"}),
    ],
)
def test_filters_are_values_and_ranges(embedder, store, test, ids):
    assert set(found(store, embedder.embed("x"), filters={"float_time_stamp": test})) == ids


def test_excluded_ids_are_left_out_and_do_not_cost_other_hits(embedder, store):
    vector = embedder.embed("a cat called Miso")
    hits = found(
        store, vector, limit=1, exclude_ids=["0"], filters={"float_time_stamp": {"lte": 101.0}}
    )
    assert hits == ["1"]


@pytest.mark.parametrize("filters", [{"x": {"near": 1}}, {"x": {}}, ["x"]])
def test_a_filter_that_is_none_of_lightmem_s_is_refused(embedder, store, filters):
    with pytest.raises(InputError, match="filters"):
        store.search(embedder.embed("x"), filters=filters)


def test_vectors_of_all_entries_can_be_searched_with(store):
    entries = store.get_all()
    assert [entry["id"] for entry in entries] == ["0", "1", "2"]
    for entry in entries:
        assert found(store, entry["vector"], limit=1) == [entry["id"]]
    assert store.get_all(with_vectors=False)[0]["vector"] is None


def test_a_vector_has_numbers_for_those_who_compare_texts(embedder):
    cat, same = np.array(embedder.embed("a cat")), np.array(embedder.embed("A cat!"), np.float32)
    assert cat.shape == (256,)
    assert len(embedder.embed("x")) == 256
    assert cat @ same == pytest.approx(1)
    assert isinstance(embedder.embed("x")[0], float)


def test_somebody_else_s_vectors_are_refused_before_anything_is_written(embedder, store):
    with pytest.raises(InputError, match="does not accept a list as a vector"):
        store.insert([embedder.embed("A fourth"), [0.0] * 256], [{}, {}], ["3", "4"])
    with pytest.raises(InputError, match="does not accept a list as a vector"):
        store.search([0.0] * 256)
    assert not store.exists("3")


def test_a_payload_alone_is_merged_and_nothing_is_read_again(store, encoder):
    store.update("1", payload={"consolidated": True})
    assert store.get("1").payload == {
        "memory": FACTS[1],
        "float_time_stamp": 101.0,
        "consolidated": True,
    }
    store.update("nobody", payload={"x": 1})
    store.update("1")
    assert encoder.read_turns == 3


def test_a_payload_with_the_entry_s_own_vector_replaces_and_nothing_is_read_again(store, encoder):
    entry = store.get_all()[1]
    store.update("1", vector=entry["vector"], payload={"memory": "User lives in Oslo"})
    assert store.get("1").payload == {"memory": "User lives in Oslo"}
    assert encoder.read_turns == 3


def test_another_text_s_vector_makes_the_fact_the_newest_turn(embedder, store):
    store.update("0", vector=embedder.embed("User adopted a dog"), payload={"memory": "dog"})
    assert [entry["id"] for entry in store.get_all()] == ["1", "2", "0"]
    assert store.get("0").payload == {"memory": "dog"}


def test_deleting_twice_is_allowed_and_a_deleted_id_does_not_exist(store):
    assert store.exists("0")
    store.delete("0")
    store.delete("0")
    assert not store.exists("0")
    assert store.get("0") is None


def test_scrolling_goes_through_everything_once(store):
    first, offset = store.scroll(limit=2)
    remaining, end = store.scroll(limit=2, offset=offset, with_vectors=True)
    assert [point.id for point in (*first, *remaining)] == ["0", "1", "2"]
    assert first[0].vector is None
    assert len(remaining[0].vector) == 256
    assert end is None
    store.update("0", payload={"consolidated": True})
    points, _ = store.scroll(scroll_filter={"consolidated": False})
    assert [point.id for point in points] == ["1", "2"]


def test_updates_from_many_threads_lose_nothing(store):
    def update(name):
        for number in range(5):
            store.update("1", payload={f"{name}{number}": number})

    threads = [threading.Thread(target=update, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.get("1").payload) == 3 + 20


def test_ids_are_made_where_none_are_given(embedder, store):
    store.insert([embedder.embed("A fourth")])
    [entry] = [hit for hit in store.get_all() if len(hit["id"]) > 1]
    assert uuid.UUID(entry["id"])
    assert entry["payload"] == {}


def test_a_collection_on_disk_is_opened_again_and_never_deleted(embedder, tmp_path):
    folder = str(tmp_path / "qdrant")
    first = EmbeddingRetriever(configured(folder, on_disk=True))
    first.insert([embedder.embed(FACTS[0])], [{"memory": FACTS[0]}], ["0"])
    first.close()
    EmbeddingRetriever(configured(folder)).close()  # upstream deletes the folder here
    again = EmbeddingRetriever(configured(folder, on_disk=True))
    point = again.get("0")
    assert point
    assert point.payload == {"memory": FACTS[0]}
    assert again.col_info() == {"name": "facts", "points_count": 1}
    again.reset()
    assert again.get_all() == []


@pytest.mark.parametrize("server", [{"url": "http://q"}, {"host": "q"}, {"client": object()}])
def test_a_configuration_of_a_server_is_refused(embedder, server):
    with pytest.raises(InputError, match="Qdrant server"):
        EmbeddingRetriever(configured(**server))


def test_the_embedder_counts_calls_and_tokens(embedder):
    embedder.embed("one two three")
    assert embedder.get_stats() == {"total_calls": 1, "total_tokens": 3}


def test_the_plain_embedder_gives_lists_for_other_stores(monkeypatch):
    monkeypatch.setattr(PlainTextEmbedder, "encoder", "hash")
    vector = PlainTextEmbedder().embed("a cat")
    assert type(vector) is list
    assert len(vector) == 256
