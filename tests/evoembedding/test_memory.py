"""A database whose turns an EvoEmbedding checkpoint reads."""

from __future__ import annotations

import numpy as np
import pytest

import evomem
from evomem import Turn
from evomem.errors import CheckpointError, FingerprintMismatch
from evomem.evoembedding import EvoEmbeddingEncoder

TURNS = [Turn(user=f"Note {i}: I live in place {i // 5}.", assistant="Noted.") for i in range(40)]


@pytest.fixture
def name(tiny):
    return f"evoembedding:{tiny.checkpoint}?base={tiny.base}"


def test_a_restart_after_any_turn_changes_nothing(tiny, name, tmp_path):
    complete = EvoEmbeddingEncoder(str(tiny.checkpoint), **tiny.where)
    with evomem.open(":memory:", encoder=complete, embeddings="float32") as db:
        memory = db.memory("m")
        memory.add_many(TURNS)
        wanted = [row.reading for row in db._engine.store.rows(memory._view(), after=0)]
        hits = [(hit.seq, hit.score) for hit in memory.search("Where do I live?", k=40)]
    path = str(tmp_path / "a.db")
    evomem.open(path, encoder=name, embeddings="float32").close()
    for start in (0, 7, 8, 23):
        end = {0: 7, 7: 8, 8: 23, 23: 40}[start]
        with evomem.open(path) as db:  # the database knows its encoder, base and all
            db.memory("m").add_many(TURNS[start:end])
    with evomem.open(path) as db:
        memory = db.memory("m")
        actual = [row.reading for row in db._engine.store.rows(memory._view(), after=0)]
        again = memory.search("Where do I live?", k=40)
    for one, other in zip(wanted, actual, strict=True):
        np.testing.assert_allclose(one.embedding, other.embedding, atol=1e-4)
        np.testing.assert_allclose(one.latents, other.latents, atol=1e-3)
        assert one.opens_chunk == other.opens_chunk
    scores = {hit.seq: hit.score for hit in again}
    for seq, score in hits:
        assert scores[seq] == pytest.approx(score, abs=1e-4)


def test_the_same_question_is_embedded_differently_as_the_story_continues(tiny, name):
    with evomem.open(":memory:", encoder=name) as db:
        memory = db.memory("m")
        memory.add_many(TURNS)
        early, late = (
            memory.search("Where do I live?", k=1, mode="evolvable", at=at)[0] for at in (10, 40)
        )
        assert early.seq <= 10
        assert early.score != late.score


def test_16_bit_latents_are_kept_exactly(tiny, name, tmp_path):
    path = str(tmp_path / "a.db")
    with evomem.open(path, encoder=name, dtype="bfloat16") as db:
        memory = db.memory("m")
        memory.add_many(TURNS[:20])
        before = db._engine.state(memory._view())
    with evomem.open(path) as db:
        assert db.encoder.spec.dtype == "bfloat16"
        after = db._engine.state(db.memory("m")._view())
    assert np.array_equal(before.latents, after.latents)
    with pytest.raises(FingerprintMismatch):
        evomem.open(path, encoder=name, dtype="float32")


def test_a_missing_checkpoint_is_named_when_it_is_needed(fresh, tmp_path):
    path = str(tmp_path / "a.db")
    name = f"evoembedding:{fresh.checkpoint}?base={fresh.base}"
    with evomem.open(path, encoder=name) as db:
        db.memory("m").add("I live in Oslo.")
    (fresh.checkpoint / "model.safetensors").unlink()
    with evomem.open(path) as db:
        assert len(db.memory("m").history()) == 1  # reading needs no encoder
        with pytest.raises(CheckpointError, match="model.safetensors"):
            db.memory("m").search("Oslo")
        assert db.memory("m").search("Oslo", mode="lexical")
