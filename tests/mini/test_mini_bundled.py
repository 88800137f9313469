"""The weights that ship: what a user gets from `load()` without a word of training."""

import numpy as np
import pytest

from evomem import Turn
from evomem.mini import load
from evomem.mini.encoder import WEIGHTS
from evomem.state import State
from evomem.testing import EncoderContract

TALK = [
    "I just adopted a cat.",
    "I work as a nurse at the children's hospital.",
    "My sister visits on Sunday.",
    "The weather has been awful this week.",
    "I quit the hospital, I am a florist from this month on.",
    "We had pizza last night.",
]


@pytest.fixture(scope="module")
def bundled():
    return load()


class TestBundled(EncoderContract):
    @pytest.fixture
    def encoder(self, bundled):
        return bundled


def ranked(encoder, texts, query):
    state: State[Turn] = State.empty(encoder.spec)
    turns = [Turn(user=text) for text in texts]
    readings = encoder.read(state, turns)
    for turn, reading in zip(turns, readings, strict=True):
        state = state.after(turn, reading)
    scores = np.stack([r.embedding for r in readings]) @ encoder.embed_queries(state, [query])[0]
    return list(np.argsort(-scores))


def test_the_weights_fit_the_package():
    assert WEIGHTS.stat().st_size <= 50_000_000


def test_the_same_question_finds_the_old_turn_and_after_an_update_the_new_one(bundled):
    question = "What is my job now?"
    assert ranked(bundled, TALK[:4], question)[0] == 1
    after = ranked(bundled, TALK, question)
    assert after.index(4) < after.index(1)


def test_first_and_latest_are_distinguished(bundled):
    first = ranked(bundled, TALK, "What was my job originally, at first?")
    assert first.index(1) < first.index(4)
