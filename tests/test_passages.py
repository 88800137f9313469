"""A text that is longer than an encoder reads at once: how it is divided, and that its end is found."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import evomem
from evomem import Turn, load_encoder
from evomem.passages import divide
from evomem.state import State

WORDS = "budget review slide quarter plan vendor contract hiring roadmap launch risk metric".split()
FACTS = {
    "The wifi password of the cabin is blue heron.": "How do I get on the internet at the hut?",
    "I parked the car on level four, next to the lift.": "Where did I leave my vehicle?",
    "My passport expires in August 2027.": "How long is my travel document valid?",
}


@given(
    first=st.integers(1, 300),
    more=st.integers(-300, 2000),
    size=st.integers(1, 300),
    share=st.floats(0, 0.9),
)
def test_every_token_is_in_the_beginning_or_in_a_passage(first, more, size, share):
    size = min(size, first)
    overlap = int(size * share)
    count = max(1, first + more)
    passages = divide(count, first, size, overlap)
    assert bool(passages) == (count > first)
    ends = [min(first, count), *(passage.stop for passage in passages)]
    for end, passage in zip(ends, passages, strict=False):
        assert len(passage) == size
        assert 0 <= passage.start <= end - overlap
        assert passage.stop > end
    assert ends[-1] == count


@pytest.mark.parametrize(("name", "length"), [("mini", 900), ("static", 300)])
def test_words_far_from_the_beginning_of_a_text_are_found(name, length):
    if name == "static":
        pytest.importorskip("sentence_transformers")
    chosen = random.Random(3)

    def noise(count):
        return " ".join(chosen.choice(WORDS) for _ in range(count))

    with evomem.open(":memory:", encoder=name) as db:
        memory = db.memory("a")
        memory.add_many(Turn(user=noise(30)) for _ in range(15))
        for fact in FACTS:
            memory.add(f"{noise(length)} {fact} {noise(50)}", id=fact)
        memory.add_many(Turn(user=noise(30)) for _ in range(15))
        for fact, question in FACTS.items():
            for mode in ("evolvable", "hybrid"):
                ids = [hit.record.id for hit in memory.search(question, 3, mode=mode)]
                assert fact in ids, (mode, question)


def test_a_static_encoder_reads_the_rest_of_a_long_text_in_passages():
    pytest.importorskip("sentence_transformers")
    encoder = load_encoder("static")
    state: State[Turn] = State.empty(encoder.spec)
    turn = Turn(user="Did it rain? " * 80, assistant="The roof is new. " * 150)
    short, long = encoder.read(state, [Turn(user="It rained."), turn])
    assert short.passages.shape == (0, encoder.spec.dim)
    assert len(long.passages) > 5
    [asked] = encoder.embed_queries(state, ["What is new?"])
    products = long.passages @ asked
    assert products[-1] > products[0]
    [alone] = encoder.read(state, [Turn(user="Did it rain? " * 80)])
    np.testing.assert_allclose(alone.embedding, long.embedding, atol=1e-5)
