"""The learned model that tells which turns state a value: its file, its arithmetic, its fallback."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
import torch

import evomem
from evomem.errors import InputError
from evomem.records import Turn
from evomem.search.stating import FILE, READS, Candidates, Stating, load, stating_of
from evomem.state import Spec
from evomem.training import stating as training
from tests.conftest import ROOT

TEXTS = ("My dose is 5 mg.", "It rained.", "The doctor put me on 10 mg.", "We met on Monday.")


def candidates(dim=384, texts=TEXTS, seed=0):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(len(texts) + 1, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    near = vectors[1:] @ vectors[0] / 2 + 0.5
    return Candidates(texts, near, np.zeros(len(texts)), vectors[0], vectors[1:])


@pytest.fixture(scope="module")
def some():
    """Questions of generated histories, with random vectors."""
    rng = Random(3)
    topics = training.load_topics()
    told = [training.tell(topics, ["It rained."], rng) for _ in range(3)]
    texts = {text for one in told for text in one.texts} | {
        q.text for one in told for q in one.asked
    }
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(len(texts), 12)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return told, training.examples(told, dict(zip(sorted(texts), vectors, strict=True)))


def test_the_shipped_file_is_small_and_loads_without_pickle():
    assert FILE.stat().st_size < 400_000
    assert set(load()) == {READS, "any"}


@pytest.mark.parametrize("content", [b"", b"no weights", b"\x80\x04N."])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, content):
    file = tmp_path / "stating.npz"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"stating\.npz"):
        load(file)


def test_a_file_with_objects_is_not_unpickled(tmp_path):
    file = tmp_path / "stating.npz"
    np.savez(file, first=np.array([{}], dtype=object))
    with pytest.raises(InputError):
        load(file)


def test_the_same_candidates_are_always_equally_likely():
    first, second = (load()[READS].likely(candidates()) for _ in range(2))
    assert (first == second).all()
    assert ((first >= 0) & (first <= 1)).all()


def test_only_vectors_of_the_bundled_encoder_are_read():
    models = load()
    assert models["any"].width is None
    assert models[READS].width == 384
    assert stating_of(Spec("mini?turns=4", "", 784)).width == 384
    assert stating_of(Spec("mini", "", 16)).width is None
    assert stating_of(Spec("hash", "", 784)).width is None


def test_other_encoders_of_any_length_get_an_answer():
    for dim in (8, 1024):
        assert load()["any"].likely(candidates(dim)).shape == (len(TEXTS),)


def test_one_candidate_is_enough():
    assert load()[READS].likely(candidates(texts=TEXTS[:1])).shape == (1,)


@pytest.mark.parametrize("width", [12, None])
def test_training_gives_the_same_weights_for_a_seed_and_the_search_computes_what_it_trained(
    some, width
):
    told, data = some
    first, second = (training.fit(data, width, steps=3, seed=1, batch=8) for _ in range(2))
    weights = first.weights()
    assert all((weights[name] == array).all() for name, array in second.weights().items())
    model = Stating({name: array.astype(np.float32) for name, array in weights.items()})
    with torch.no_grad():
        expected = first(data)[1].sigmoid().numpy()
    for row in range(0, len(expected), 7):
        times = data.time[row].long().numpy()
        history = next(one for one, end in zip(told, _ends(told), strict=True) if row < end)
        near, shared = data.plain[row, :, :2].numpy().astype(float).T
        texts = [history.texts[time] for time in times]
        turns = data.table[data.turns[row]].numpy()
        likely = model.likely(Candidates(texts, near, shared, data.query[row].numpy(), turns))
        np.testing.assert_allclose(likely, expected[row], atol=2e-3)


def _ends(told):
    return np.cumsum([len(one.asked) for one in told])


def test_histories_of_a_seed_are_the_same_and_state_what_is_asked(some):
    told, data = some
    topics = training.load_topics()
    rng = Random(3)
    assert [one.texts for one in told] == [
        training.tell(topics, ["It rained."], rng).texts for _ in range(3)
    ]
    assert data.states.sum() > 0
    assert set(data.wish.tolist()) == {-1, 0, 1}


def test_no_topic_of_the_benchmark_s_held_out_halves_is_trained_on():
    from benchmarks.quality.stale_histories import TOPICS

    trained = training.load_topics()
    nouns = {topic.noun for topic in trained}
    texts = {text for topic in trained for text in (*topic.asked, *topic.first, *topic.changed)}
    for half in ("held out", "held out 2"):
        for topic in TOPICS[half]:
            kept = "|".join((topic.asked, topic.told, topic.changed)).split("|")
            assert topic.noun not in nouns
            assert not texts & set(kept)


def test_a_statement_in_other_words_is_found():
    with evomem.open(":memory:", "mini") as db:
        told = db.memory("m")
        told.add_many(
            [Turn(user="My doctor is Dr. Holm."), Turn(user="Dr. Okafor looks after my heart.")]
        )
        assert "Okafor" in told.search("Who is my doctor?", 1)[0].text


def test_the_page_describes_the_model():
    page = (ROOT / "docs/measurements/benchmarks.md").read_text("utf-8")
    assert "python -m evomem.training.stating" in page
