import copy
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from evomem.mini import load
from evomem.mini import packed as packed_module
from evomem.mini.model import Grow
from evomem.mini.packed import Half, Packed, halves, onednn_packs, pack

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this build of torch has no oneDNN"
)


@pytest.mark.parametrize("kind", [nn.Linear, Grow])
@given(shape=st.lists(st.integers(0, 9), min_size=1, max_size=4), bias=st.booleans())
@torch.inference_mode()
def test_a_packed_layer_computes_what_the_layer_does(kind, shape, bias):
    layer = kind(24, 40, bias=bias)
    x = torch.randn(*shape, 24)
    torch.testing.assert_close(Packed(layer)(x), layer(x), atol=1e-5, rtol=1e-5)


def rounded(layer):
    """Return a layer whose weights are float16 numbers, as those in a weight file are."""
    for parameter in layer.parameters():
        parameter.data = parameter.data.half().float()
    return layer


needs_fbgemm = pytest.mark.skipif(
    "fbgemm" not in torch.backends.quantized.supported_engines,
    reason="this build of torch has no FBGEMM: it is for x86",
)


@needs_fbgemm
@pytest.mark.parametrize("kind", [nn.Linear, Grow])
@given(shape=st.lists(st.integers(0, 9), min_size=1, max_size=4), bias=st.booleans())
@torch.inference_mode()
def test_a_layer_of_float16_weights_computes_what_the_layer_does(kind, shape, bias):
    layer = rounded(kind(24, 40, bias=bias))
    x = torch.randn(*shape, 24)
    torch.testing.assert_close(Half(layer)(x), layer(x), atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_weights_are_never_rounded():
    layer = nn.Linear(24, 40)
    model = nn.Sequential(layer)
    pack(model)
    assert not halves(layer.weight)
    assert not isinstance(model[0], Half)
    assert not halves(layer.weight.bfloat16())


@torch.inference_mode()
def test_all_numbers_of_rows_up_to_699_use_40_kernels(monkeypatch):
    layer = nn.Linear(24, 40)
    packed = Packed(layer)
    counts = set()

    def product(rows, *others):
        counts.add(len(rows))
        return real(rows, *others)

    real = packed_module.ONEDNN._linear_pointwise
    monkeypatch.setattr(packed_module, "ONEDNN", SimpleNamespace(_linear_pointwise=product))
    x = torch.randn(700, 24)
    for count in range(700):
        torch.testing.assert_close(packed(x[:count]), layer(x[:count]), atol=1e-5, rtol=1e-5)
    assert len(counts - {0}) == 40


@given(rows=st.integers(1, 256))
def test_at_most_an_eighth_of_the_rows_or_one_is_added(rows):
    assert rows <= packed_module._round(rows) <= max(rows + 1, rows * 9 / 8)


@torch.inference_mode()
def test_a_model_in_bfloat16_is_packed_where_the_cpu_has_it_and_computes_in_it_anywhere():
    layer = Grow(24, 40).bfloat16()
    x = torch.randn(7, 24).bfloat16()
    model = nn.Sequential(layer)
    pack(model)
    assert isinstance(model[0], Packed) == onednn_packs(torch.bfloat16)
    torch.testing.assert_close(model(x), layer(x), atol=0.02, rtol=0.02)


@pytest.mark.parametrize("kind", [Packed, pytest.param(Half, marks=needs_fbgemm)])
@torch.inference_mode()
def test_a_packed_model_has_no_plain_layer_left_and_reads_the_same(tiny_model, kind):
    model = rounded(copy.deepcopy(tiny_model)) if kind is Half else tiny_model
    packed = copy.deepcopy(model)
    pack(packed)
    assert not any(isinstance(module, nn.Linear) for module in packed.modules())
    assert any(isinstance(module, kind) for module in packed.modules())
    ids, lengths = torch.arange(1, 13), [(2, 3), (1, 6)]
    torch.testing.assert_close(packed(ids, lengths, 0), model(ids, lengths, 0), atol=1e-5, rtol=0)


def test_the_encoder_on_a_cpu_is_packed(tiny_file):
    modules = list(load(str(tiny_file))._model.modules())
    assert any(isinstance(module, (Half, Packed)) for module in modules)
    assert not any(isinstance(module, nn.Linear) for module in modules)
