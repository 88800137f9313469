"""Linear layers whose weights lie as the CPU's kernels read them.

A text has few tokens, so that most of the time of an ordinary matrix product goes into reading the
weights and bringing them into order, again for every call. Here the order is made once
(docs/measurements/speed.md). The layers can be used, not trained.

Weights that are float16 numbers, as those in a weight file are, stay so on x86: FBGEMM's kernels
convert them while they multiply in float32. The numbers are the same, and half as many bytes are read.
All others are laid out for oneDNN.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from evomem.mini.model import Grow

ONEDNN: Any = torch.ops.mkldnn
gelu_: Any = torch.ops.aten.gelu_.default
GELU: Any = ("gelu", [], "none")  # what is done to a product, as oneDNN's operators take it
NOTHING: Any = ("none", [], "")
AT_ONCE = 256  # rows of one product; more are no quicker


class Half(nn.Module):
    """What a linear layer of float32 computes, on an x86 CPU, from weights in float16."""

    def __init__(self, linear: nn.Linear) -> None:
        """Take over a layer's weights, all of which are float16 numbers (`halves`)."""
        super().__init__()
        bias = linear.weight.new_zeros(linear.out_features) if linear.bias is None else linear.bias
        self.bias = bias.detach()
        self.grows = isinstance(linear, Grow)
        with warnings.catch_warnings():
            # Deprecated in favour of `quantized.linear_dynamic_fp16`: the same kernel, with 25 µs
            # more around it, as much as a product of a few tokens takes.
            warnings.filterwarnings("ignore", "fbgemm_", UserWarning)
            self.weight = torch.fbgemm_pack_gemm_matrix_fp16(linear.weight.detach())
            self(self.bias.new_zeros(1, linear.in_features))  # warns once in a process, here

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out), both float32."""
        if x.dim() < 2:
            return self(x[None])[0]  # type: ignore[no-any-return]
        if not x.numel():
            return x.new_zeros(*x.shape[:-1], len(self.bias))
        product = torch.fbgemm_linear_fp16_weight_fp32_activation(x, self.weight, self.bias)
        return gelu_(product) if self.grows else product


class Packed(nn.Module):
    """What a linear layer computes, on a CPU.

    oneDNN makes a kernel for every number of rows, of half a megabyte, and keeps a thousand of them,
    and the last ones of every thread. Texts come in all lengths, so rows are filled up to one of 40
    numbers.
    """

    def __init__(self, linear: nn.Linear) -> None:
        """Take over a layer's weights."""
        super().__init__()
        self.weight = ONEDNN._reorder_linear_weight(linear.weight.detach(), None)
        self.bias = None if linear.bias is None else linear.bias.detach()
        self.then = GELU if isinstance(linear, Grow) else NOTHING

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out), both of the weights' dtype."""
        *shape, width = x.shape
        rows = x.reshape(-1, width)
        if len(rows) <= AT_ONCE:
            product = self._product(rows)
        else:
            product = torch.cat([self._product(some) for some in torch.split(rows, AT_ONCE)])
        return product.view(*shape, product.shape[-1])

    def _product(self, rows: Tensor) -> Tensor:
        count = len(rows)
        if missing := _round(count) - count:
            rows = nn.functional.pad(rows, (0, 0, 0, missing))
        product: Tensor = ONEDNN._linear_pointwise(rows, self.weight, self.bias, *self.then)
        return product[:count] if missing else product


def _round(rows: int) -> int:
    """Return one of the 40 numbers up to `AT_ONCE` of which there are kernels; an eighth more at most."""
    step = max(2, (1 << rows.bit_length()) >> 4)
    return -(-rows // step) * step


def halves(weight: Tensor) -> bool:
    """Say whether `Half` computes with the same numbers, and whether this build of torch has it."""
    return (
        weight.dtype == torch.float32
        and "fbgemm" in torch.backends.quantized.supported_engines
        and hasattr(torch, "fbgemm_linear_fp16_weight_fp32_activation")
        and torch.equal(weight.half().float(), weight)
    )


def onednn_packs(dtype: torch.dtype) -> bool:
    """Say whether `Packed` runs with weights of this type here: not every CPU has bfloat16."""
    has_onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return has_onednn and (dtype != torch.bfloat16 or ONEDNN._is_mkldnn_bf16_supported())


def pack(model: nn.Module) -> None:
    """Put `Half` or `Packed` in the place of every linear layer of a model on the CPU.

    A layer stays as it is if neither runs here.
    """
    for module in list(model.modules()):
        for name, child in module.named_children():
            if not isinstance(child, nn.Linear):
                continue
            if halves(child.weight):
                setattr(module, name, Half(child))
            elif onednn_packs(child.weight.dtype):
                setattr(module, name, Packed(child))
