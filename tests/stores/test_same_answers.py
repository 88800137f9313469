"""SQLite and PostgreSQL give the same answers to the last bit."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evomem.store import Filter
from tests.stores.helpers import found, log, open_at, purge, query, turn, words, write

WORDS = (
    "cat dog paris oslo running runs the a 東京 東京都 ネコ straße CAFÉ 42 x_y don't m1_cat".split()
)
TEXT = st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join)


@pytest.fixture(scope="module")
def both(new_schema):
    stores = open_at(":memory:"), open_at(new_schema())
    yield stores
    for store, _ in stores:
        store.close()


@settings(max_examples=15)
@given(
    texts=st.lists(TEXT, min_size=2, max_size=12),
    asked=TEXT,
    gone=st.integers(1, 12),
    hidden=st.integers(1, 12),
    stars=st.lists(
        st.floats(allow_nan=False, allow_infinity=False) | st.integers(), min_size=12, max_size=12
    ),  # fmt: skip
)
def test_logs_scores_filters_and_neighbours_are_equal(both, texts, asked, gone, hidden, stars):
    answers = []
    name = str(len(both[0][0].memories()))
    for store, index in both:
        memory = store.make_memory((name,))
        turns = [turn(text, n, metadata={"stars": stars[n]}) for n, text in enumerate(texts)]
        write(store, memory, turns)
        if gone <= len(texts):
            purge(store, memory, gone)
        store.hide(store.view(memory), [hidden])
        view = store.view(store.fork(store.view(memory), (name, "fork")))
        scores = words(store, view, asked)
        chosen = store.select(view, Filter(where={"stars": {"$gte": stars[0]}}))
        answers.append(
            (
                log(store, view),
                sorted(scores.items()),
                chosen.allowed.tolist(),
                index.search(view, query(asked), 5, allowed=chosen.allowed),
                found(index.search(view, query(asked), 50)),
            )
        )
    assert answers[0] == answers[1]
