import pickle
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from evomem.errors import FingerprintMismatch, StoreError
from evomem_integrations.amem import SimpleEmbeddingRetriever

TEXTS = ["I adopted a cat called Miso", "I moved to Oslo", "Chess on Sundays"]


@pytest.fixture
def retriever():
    made = SimpleEmbeddingRetriever("all-MiniLM-L6-v2", encoder="hash")
    made.add_documents(TEXTS[:1])
    made.add_documents(TEXTS[1:])
    return made


def test_a_search_returns_positions_best_first(retriever):
    hits = retriever.search("chess on which day", k=2)
    assert hits.dtype == np.int64
    assert hits.shape == (2,)
    assert hits[0] == 2


def test_without_texts_a_search_returns_an_empty_list():
    assert SimpleEmbeddingRetriever(encoder="hash").search("x") == []


@pytest.mark.parametrize("k", [0, 3, 99])
def test_k_of_nothing_or_too_much_returns_everything(retriever, k):
    assert sorted(retriever.search("x", k)) == [0, 1, 2]


def test_the_caller_s_list_is_not_kept(retriever):
    retriever.add_documents(["A fourth"])
    assert len(TEXTS) == 3
    assert retriever.corpus == [*TEXTS, "A fourth"]
    assert retriever.document_ids["A fourth"] == 3


def test_a_saved_retriever_ranks_the_same_when_loaded(retriever, tmp_path):
    files = str(tmp_path / "cache.pkl"), str(tmp_path / "cache.npy")
    retriever.save(*files)
    fresh = SimpleEmbeddingRetriever(encoder="hash")
    assert fresh.load(*files) is fresh
    assert fresh.corpus == TEXTS
    for query in ("cat", "Oslo"):
        assert (fresh.search(query, 3) == retriever.search(query, 3)).all()


def test_a_cache_of_theirs_or_of_another_encoder_is_refused(retriever, tmp_path):
    theirs, ours = tmp_path / "theirs.pkl", tmp_path / "ours.pkl"
    theirs.write_bytes(pickle.dumps({"corpus": ["x"], "document_ids": {"x": 0}}))
    with pytest.raises(StoreError, match="not written by evomem"):
        retriever.load(str(theirs), "")
    retriever.save(str(ours), "")
    with pytest.raises(FingerprintMismatch, match="'hash'"):
        SimpleEmbeddingRetriever(encoder="hash:64").load(str(ours), "")
    assert retriever.corpus == TEXTS


def test_notes_can_be_read_back_from_memory(retriever):
    note = SimpleNamespace(content="I moved", context="Oslo", keywords=["a", "b"], tags=["c"])
    bound: Any = type("Bound", (SimpleEmbeddingRetriever,), {"encoder": "hash"})
    loaded = bound.load_from_local_memory({"1": note}, "all-MiniLM-L6-v2")
    assert loaded.corpus == ["I moved , Oslo a b c"]
