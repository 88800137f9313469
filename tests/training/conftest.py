import pytest
import torch
from tokenizers import Tokenizer

from evomem.mini.config import MiniConfig
from evomem.mini.encoder import TOKENIZER
from evomem.mini.model import MiniModel


@pytest.fixture
def make_model():
    """Return a way of making equal small networks."""

    def make():
        torch.manual_seed(0)
        return MiniModel(
            MiniConfig(hidden=32, layers=3, heads=2, inner=64, turns=8, write_layer=2, match=8)
        )

    return make


@pytest.fixture
def tokenizer():
    return Tokenizer.from_file(str(TOKENIZER))
