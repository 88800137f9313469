"""What a turn's embedding takes from the turns before it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.quality.memory import counterfactual
from benchmarks.quality.memory_cases import CASES
from evomem import Turn
from evomem.mini import load
from evomem.passages import WEIGHT
from evomem.state import State
from tests.mini.conftest import TINY


def directions(seed, count):
    drawn = torch.randn(count, TINY.hidden, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(drawn + drawn[:1], dim=-1)  # some are alike


@settings(max_examples=30)
@given(seed=st.integers(0, 99), count=st.integers(1, 14), turns=st.integers(1, 12))
def test_near_and_similar_turns_count_most_in_a_context(tiny_model, seed, count, turns):
    contents = directions(seed, count)
    for now, before in enumerate(tiny_model.before(contents, turns)):
        expected = torch.zeros(TINY.hidden)
        for age in range(1, min(TINY.near, turns, now) + 1):
            cosine = float(contents[now] @ contents[now - age])
            weight = TINY.least + TINY.gain * max(0.0, cosine - TINY.alike)
            expected += TINY.fade ** (age - 1) * weight * contents[now - age]
        torch.testing.assert_close(before, expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
@settings(max_examples=20)
@given(seed=st.integers(0, 99), count=st.integers(1, 12), turns=st.integers(1, 12))
def test_mentions_are_counted_among_the_turns_of_the_queue(tiny_model, seed, count, turns):
    subjects = tiny_model.subjects(directions(seed, count))
    for now, mentions in enumerate(tiny_model.mentions(subjects, turns)):
        earlier = subjects[max(0, now - turns) : now]
        expected = tiny_model.alike(subjects[now : now + 1], earlier).sigmoid().sum()
        torch.testing.assert_close(mentions, expected, atol=1e-5, rtol=1e-4)


def test_passages_of_a_long_turn_have_its_context_and_its_order(tiny_file):
    encoder = load(str(tiny_file))
    long = Turn(user="apples " * 800)
    opening = Turn(user="We like apples.")
    [alone] = encoder.read(State.empty(encoder.spec), [long])
    _, later = encoder.read(State.empty(encoder.spec), [opening, long])
    hidden = TINY.hidden
    np.testing.assert_allclose(later.passages[:, :hidden], alone.passages[:, :hidden], atol=1e-5)
    moved = np.abs(later.passages - alone.passages)[:, hidden : 2 * hidden].max(1)
    assert moved.min() > 1e-3
    for reading in (alone, later):
        order = WEIGHT * reading.embedding[-encoder.order :]
        for passage in reading.passages:
            np.testing.assert_allclose(passage[-encoder.order :], order, atol=1e-6)


@pytest.fixture(scope="module")
def bundled():
    return load()


def test_a_follow_up_is_nearer_to_a_question_about_what_it_refers_to(bundled):
    result = counterfactual(bundled, CASES[:20])
    for figures in result.values():
        assert figures["apart"][0] > 0.95
        assert figures["together"][0] > 0.5


def test_a_question_that_asks_for_no_order_has_almost_none(bundled):
    empty: State[Turn] = State.empty(bundled.spec)

    def asked(*questions):
        vectors = bundled.embed_queries(empty, list(questions))
        return np.linalg.norm(vectors[:, -bundled.order :], axis=1)

    neutral = asked(
        "What is my sister's name?", "Which bakery do I like?", "Am I allergic to nuts?"
    )
    ordered = asked(
        "Where did I live at first?", "What was my first job?", "What car do I have now?"
    )
    assert neutral.mean() < ordered.mean() / 2
