import pytest
import torch

from evomem.mini import weights
from evomem.mini.config import MiniConfig
from evomem.mini.model import MiniModel

TINY = MiniConfig(hidden=24, layers=3, heads=2, inner=48, turns=6, match=8)


@pytest.fixture(scope="session")
def tiny_model():
    """A small network of random weights whose memory is switched on."""
    torch.manual_seed(0)
    model = MiniModel(TINY)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.fixture(scope="session")
def tiny_file(tiny_model, tmp_path_factory):
    file = tmp_path_factory.mktemp("mini") / "tiny.safetensors"
    weights.save(tiny_model, file)
    return file
