"""Our decoders against transformers' Qwen3 and Qwen3.5 text models: the oracle."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from transformers import Qwen3Config, Qwen3Model
from transformers.models.qwen3_5 import Qwen3_5TextConfig, Qwen3_5TextModel

from evomem.evoembedding import decoder as decoder_module
from evomem.evoembedding.attention import SDPA
from evomem.evoembedding.config import DecoderConfig
from evomem.evoembedding.decoder import Decoder
from evomem.evoembedding.delta import delta_rule
from evomem.evoembedding.layers import ADAPTERS, Lora
from tests.evoembedding.tiny import BASES, randomise, write_json

ORACLES = {"qwen3": (Qwen3Config, Qwen3Model), "qwen3_5": (Qwen3_5TextConfig, Qwen3_5TextModel)}
TOLERANCE = {"qwen3": 1e-5, "qwen3_5": 3e-5}  # a recurrence magnifies rounding
families = pytest.mark.parametrize("family", ORACLES)


@pytest.fixture(autouse=True)
def _inference():
    with torch.no_grad():
        yield


@pytest.fixture
def pair(tmp_path):
    """Return our decoder with adapters, and makers of oracles with the same weights."""

    def make(family, **changes):
        write_json(tmp_path / "config.json", {**BASES[family], **changes})
        config_class, model_class = ORACLES[family]
        ours = Decoder(DecoderConfig.read(tmp_path), Lora(4, 2.0))
        ours.load_state_dict(randomise(ours, torch.Generator().manual_seed(1)))

        def oracle(adapter=None, dtype=torch.float32):
            values = json.loads((tmp_path / "config.json").read_text("utf-8"))
            model = model_class(config_class(**values)).to(dtype).eval()
            model.load_state_dict(merged(ours, adapter))
            return lambda x: model(inputs_embeds=x.to(dtype)).last_hidden_state.float()

        return ours, oracle

    return make


def merged(decoder, adapter):
    """The weights with one adapter merged in, or none: W + scale B A."""
    plain = {n: v for n, v in decoder.state_dict().items() if "lora_" not in n}
    weights = {name.replace(".base_layer", ""): value for name, value in plain.items()}
    for name, module in decoder.named_modules():
        if adapter and hasattr(module, "lora_A"):
            a, b = module.lora_A[adapter].weight, module.lora_B[adapter].weight
            weights[f"{name}.weight"] = weights[f"{name}.weight"] + module.scale * b @ a
    return weights


@pytest.fixture
def report(capsys):
    """Print a figure past the capture: it is part of what the run says."""

    def write(line):
        with capsys.disabled():
            sys.stdout.write(f"\n{line}\n")

    return write


def inputs(rows, length, seed=2):
    return torch.randn(rows, length, 32, generator=torch.Generator().manual_seed(seed)) * 0.5


def in_parts(decoder, x, sizes, adapter=None):
    cache, hidden = None, []
    for part in x.split(sizes, 1):
        out, cache = decoder(part, cache, adapter)
        hidden.append(out)
    return torch.cat(hidden, 1), cache


@families
@pytest.mark.parametrize("adapter", [None, *ADAPTERS])
def test_the_whole_pass_equals_the_oracle_with_the_adapter_merged(pair, family, adapter):
    ours, oracle = pair(family)
    x = inputs(2, 150)
    difference = (ours(x, None, adapter)[0] - oracle(adapter)(x)).abs().max().item()
    assert difference < TOLERANCE[family]


@families
@pytest.mark.parametrize("sizes", [[70, 1, 2, 64, 13], [1] * 30 + [120], [149, 1]])
def test_continuing_a_cache_equals_the_oracle_on_the_whole(pair, family, sizes):
    ours, oracle = pair(family)
    x = inputs(2, 150)
    hidden, cache = in_parts(ours, x, sizes, "retriever")
    assert (hidden - oracle("retriever")(x)).abs().max().item() < TOLERANCE[family]
    assert cache.length == 150


@families
def test_other_shapes_equal_the_oracle(pair, family):
    """One key head for all, and as many key heads as queries; other rotary widths and theta."""
    for kv_heads in (1, 4):
        ours, oracle = pair(family, num_key_value_heads=kv_heads, head_dim=8)
        x = inputs(1, 40)
        assert (ours(x)[0] - oracle()(x)).abs().max().item() < TOLERANCE[family]


@families
def test_extending_a_cache_leaves_it_as_it_was(pair, family):
    ours, _ = pair(family)
    x = inputs(1, 30)
    _, cache = ours(x[:, :20])
    first, _ = ours(x[:, 20:], cache)
    ours(inputs(1, 17, seed=5), cache, "retriever")
    again, _ = ours(x[:, 20:], cache)
    assert torch.equal(first, again)
    assert cache.length == 20


@families
def test_one_prefix_serves_rows_of_any_length_padded_on_the_right(pair, family):
    ours, _ = pair(family)
    _, prefix = ours(inputs(1, 25))
    texts = inputs(3, 12, seed=3)
    together = ours.hidden(texts, prefix.expand(3), None)
    for row, length in enumerate((12, 5, 1)):
        alone, _ = ours(texts[row : row + 1, :length], prefix)
        assert (together[row, :length] - alone[0]).abs().max().item() < TOLERANCE[family]


@families
def test_long_inputs_are_read_in_pieces_with_the_same_result(pair, family, monkeypatch):
    ours, oracle = pair(family)
    x = inputs(1, 100)
    monkeypatch.setattr(decoder_module, "PREFILL", 32)
    want = oracle()(x)
    assert (ours(x)[0] - want).abs().max().item() < TOLERANCE[family]
    assert (ours.hidden(x, None, None) - want).abs().max().item() < TOLERANCE[family]


@families
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bits_stay_as_close_to_float32_as_the_oracle_does(pair, family, dtype, report):
    ours, oracle = pair(family)
    x = inputs(1, 120)
    want = oracle("retriever")(x)
    theirs = (oracle("retriever", dtype)(x) - want).abs().mean().item()
    mine = (ours.to(dtype)(x.to(dtype), None, "retriever")[0].float() - want).abs().mean().item()
    report(f"mean deviation from float32 in {dtype}: ours {mine:.1e}, oracle {theirs:.1e}")
    assert mine < 2 * theirs + 1e-4


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 200])
def test_the_blockwise_delta_rule_equals_the_rule_step_by_step(length):
    generator = torch.Generator().manual_seed(length)
    q, k, v = (torch.randn(2, 3, length, d, generator=generator).double() for d in (8, 8, 12))
    k = k / k.norm(dim=-1, keepdim=True)
    g = -torch.rand(2, 3, length, generator=generator).double() * 3
    beta = torch.rand(2, 3, length, generator=generator).double()
    start = torch.randn(2, 3, 8, 12, generator=generator).double()
    state, outputs = start.clone(), []
    for t in range(length):
        state = g[..., t, None, None].exp() * state
        u = beta[..., t, None] * (v[:, :, t] - (k[:, :, t, None] @ state)[:, :, 0])
        state = state + k[:, :, t, :, None] * u[:, :, None]
        outputs.append((q[:, :, t, None] @ state)[:, :, 0])
    actual, end = delta_rule(q, k, v, g, beta, start)
    torch.testing.assert_close(actual, torch.stack(outputs, 2), atol=1e-10, rtol=0)
    torch.testing.assert_close(end, state, atol=1e-10, rtol=0)


def test_strong_decay_over_a_long_block_neither_overflows_nor_turns_into_nan():
    q = k = torch.ones(1, 1, 300, 4) / 2
    out, state = delta_rule(
        q, k, torch.ones(1, 1, 300, 4), torch.full((1, 1, 300), -50.0), torch.ones(1, 1, 300),
        torch.ones(1, 1, 4, 4),
    )  # fmt: skip
    assert out.isfinite().all()
    assert state.isfinite().all()


@pytest.mark.parametrize(("new", "total"), [(1, 1), (1, 9), (4, 9), (9, 9)])
def test_attention_is_causal_at_the_lower_right(new, total):
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(1, 4, new, 8, generator=generator)
    k, v = (torch.randn(1, 2, total, 8, generator=generator) for _ in range(2))
    actual = SDPA.together(q, k, v)
    for i in range(new):
        seen = total - new + i + 1
        for head in range(4):
            weights = (q[0, head, i] @ k[0, head // 2, :seen].T / 8**0.5).softmax(0)
            want = weights @ v[0, head // 2, :seen]
            torch.testing.assert_close(actual[0, i, head], want, atol=1e-6, rtol=0)
