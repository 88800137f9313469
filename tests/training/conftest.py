import json

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from evomem.evoembedding.config import DecoderConfig
from evomem.evoembedding.decoder import Decoder
from evomem.mini.config import MiniConfig
from evomem.mini.encoder import TOKENIZER
from evomem.mini.model import MiniModel
from evomem.training.histories import History
from tests.evoembedding.tiny import BASES, CHATML, QWEN3, build, randomise, write_tokenizer


@pytest.fixture
def make_model():
    """Return a way of making equal small networks."""

    def make():
        torch.manual_seed(0)
        return MiniModel(MiniConfig(hidden=32, layers=3, heads=2, inner=64, turns=8, match=8))

    return make


@pytest.fixture
def tokenizer():
    return Tokenizer.from_file(str(TOKENIZER))


def write_causal(folder, values, *, prefix="model.", head=False, seed=0):
    """Write a random causal LM as it is published: configuration, weights, tokenizer."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(values), "utf-8")
    write_tokenizer(folder, CHATML)
    generator = torch.Generator().manual_seed(seed)
    config = DecoderConfig.read(folder)
    drawn = randomise(Decoder(config), generator)
    weights = {prefix + name: value.bfloat16() for name, value in drawn.items()}
    if head:
        size = config.vocab_size, config.hidden_size
        weights["lm_head.weight"] = 0.1 * torch.randn(size, generator=generator)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture(scope="session")
def causal(tmp_path_factory):
    """Return the folder of a tiny random Qwen3 or Qwen3.5, the latter composite as published."""
    made = {}

    def find(family):
        if family not in made:
            folder = tmp_path_factory.mktemp(family) / "base"
            values, prefix = BASES[family], "model."
            if family == "qwen3_5":
                text = {k: v for k, v in values.items() if k != "tie_word_embeddings"}
                values = {"model_type": "qwen3_5", "text_config": text, "tie_word_embeddings": True}
                prefix = "model.language_model."
            made[family] = write_causal(folder, values, prefix=prefix)
        return made[family]

    return find


@pytest.fixture(scope="session")
def emb(tmp_path_factory):
    """A tiny frozen embedding model."""
    return write_causal(
        tmp_path_factory.mktemp("emb") / "emb", {**QWEN3, "hidden_size": 24}, seed=1
    )


@pytest.fixture(scope="session", params=["qwen3", "qwen3_5"])
def tiny(request, tmp_path_factory):
    """A tiny EvoEmbedding checkpoint whose queue overflows behind its sixth turn."""
    folder = tmp_path_factory.mktemp(request.param)
    return build(folder, request.param, memory={"buffer_capacity": 26})


CITIES = ("Oslo", "Bergen", "Rome", "Lyon", "Graz", "Turin", "Ghent", "Porto", "Split", "Basel")


def told(turns, *, seed=0, questions=2):
    """A history in which every turn names a city, and questions about some of them."""
    history = History(f"told-{turns}-{seed}")
    for i in range(turns):
        city = CITIES[(i * 3 + seed) % len(CITIES)]
        history.turns.append(
            f"User: In week {i} I was in {city}.\nAssistant: Noted{' again' * (i % 3)}."
        )
    for i in range(questions):
        at = (i * 5 + seed) % turns
        city = CITIES[(at * 3 + seed) % len(CITIES)]
        evidence = [turn for turn in range(turns) if f" {city}." in history.turns[turn]]
        history.ask(
            f"When was I in {city}?", evidence, "", answer=f"In week {at}." if i % 3 < 2 else ""
        )
    return history
