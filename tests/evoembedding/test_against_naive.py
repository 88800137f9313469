"""Whole conversations against a second implementation made of transformers' classes."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from evomem import EvoEmbeddingClient, Turn
from evomem.evoembedding import EvoEmbeddingEncoder
from evomem.state import State
from tests.evoembedding.naive import Naive
from tests.evoembedding.tiny import build

LONG = " and then it rained" * 104  # 1,040 tokens; a chunk has 2,048
SHAPES = [
    ("qwen3", {}, False),
    ("qwen3", {"num_latents": 7, "buffer_capacity": 23, "lora_r": 3, "lora_alpha": 5}, True),
    ("qwen3", {"num_latents": 4, "buffer_capacity": 2}, False),
    ("qwen3_5", {}, False),
    ("qwen3_5", {"num_latents": 3, "buffer_capacity": 31}, False),
]


def conversation(exchanges):
    messages = []
    for i in range(exchanges):
        text = f"Turn {i}: the cat number {i * 7 % 5} went to the lake." + (
            LONG if i % 8 == 3 else ""
        )
        messages.append({"role": "user", "content": text})
        messages.append({"role": "assistant", "content": "Noted." if i % 3 else ""})
    return [*messages, {"role": "user", "content": " Where did the cat go? "}]


@pytest.fixture(params=SHAPES, ids=str, scope="session")
def pair(request, tmp_path_factory):
    """A checkpoint, and what the naive reading of it is."""
    family, memory, untied = request.param
    tiny = build(tmp_path_factory.mktemp("tiny"), family, memory=memory, untied=untied, seed=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers speaks of kernels that are not installed
        return tiny, Naive(tiny)


@pytest.mark.parametrize("exchanges", [0, 1, 19])
def test_whole_conversations_give_the_same_numbers(pair, exchanges):
    tiny, naive = pair
    client = EvoEmbeddingClient(str(tiny.checkpoint), **tiny.where)
    messages = conversation(exchanges)
    np.testing.assert_allclose(client.encode_messages(messages), naive.encode(messages), atol=1e-5)
    rows = client.encode_for_retrieval(messages)
    np.testing.assert_allclose(rows, naive.retrieve(messages), atol=1e-5)


def test_generation_after_the_queue_gives_the_same_ids(pair):
    tiny, naive = pair
    client = EvoEmbeddingClient(str(tiny.checkpoint), **tiny.where)
    wanted = naive.generate(conversation(19), 8)
    actual = client.generate(conversation(19), 8)
    assert actual == wanted[: len(actual)]
    assert len(actual) == 8 or actual[-1] in (client.tokens.special.im_end, 2)


def test_a_stream_gives_the_numbers_of_the_whole(pair):
    tiny, naive = pair
    encoder = EvoEmbeddingEncoder(str(tiny.checkpoint), **tiny.where)
    messages = conversation(19)
    state: State[Turn] = State.empty(encoder.spec)
    rows = []
    for user, assistant in zip(messages[:-1:2], messages[1:-1:2], strict=True):
        turn = Turn(user=user["content"], assistant=assistant["content"])
        [reading] = encoder.read(state, [turn])
        state = state.after(turn, reading)
        rows.append(reading.embedding)
    rows += list(encoder.embed_queries(state, [messages[-1]["content"]]))
    np.testing.assert_allclose(np.stack(rows), naive.retrieve(messages), atol=1e-5)
