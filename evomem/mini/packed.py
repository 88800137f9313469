"""Linear layers whose weights are stored in the layout that the CPU's kernels read.

A text has few tokens, so an ordinary matrix product spends most of its time on reading the weights
and reordering them, in every call. Here they are reordered once (docs/measurements/speed.md). The
layers are for inference only.

Weights that are exact in float16, as in a weight file, stay float16 on x86: FBGEMM's kernels convert
them while they multiply in float32. The numbers are the same, and half as many bytes are read. All
other weights are laid out for oneDNN.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from evomem.mini.model import Grow

ONEDNN: Any = torch.ops.mkldnn
gelu_: Any = torch.ops.aten.gelu_.default
GELU: Any = ("gelu", [], "none")  # oneDNN's name of the operation applied to a product
NOTHING: Any = ("none", [], "")
AT_ONCE = 256  # maximum rows of one product; more are not faster


class Half(nn.Module):
    """A float32 linear layer on an x86 CPU, with weights in float16."""

    def __init__(self, linear: nn.Linear) -> None:
        """Take a layer's weights, all of which are exact in float16 (`halves`)."""
        super().__init__()
        bias = linear.weight.new_zeros(linear.out_features) if linear.bias is None else linear.bias
        self.bias = bias.detach()
        self.grows = isinstance(linear, Grow)
        with warnings.catch_warnings():
            # Deprecated in favour of `quantized.linear_dynamic_fp16`: the same kernel, with 25 µs
            # more around it, as much as a product of a few tokens takes.
            warnings.filterwarnings("ignore", "fbgemm_", UserWarning)
            self.weight = torch.fbgemm_pack_gemm_matrix_fp16(linear.weight.detach())
            self(self.bias.new_zeros(1, linear.in_features))  # it warns once per process: here

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out), both float32."""
        if x.dim() < 2:
            return self(x[None])[0]  # type: ignore[no-any-return]
        if not x.numel():
            return x.new_zeros(*x.shape[:-1], len(self.bias))
        product = torch.fbgemm_linear_fp16_weight_fp32_activation(x, self.weight, self.bias)
        return gelu_(product) if self.grows else product


class Packed(nn.Module):
    """A linear layer on a CPU.

    oneDNN compiles a kernel of half a megabyte for every number of rows, and caches a thousand of
    them, and the most recent ones of every thread. Texts have all lengths, so rows are padded to one
    of 40 numbers.
    """

    def __init__(self, linear: nn.Linear) -> None:
        """Take a layer's weights."""
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
    """Return the number of rows after padding: one of 40, up to `AT_ONCE`; at most an eighth more."""
    step = max(2, (1 << rows.bit_length()) >> 4)
    return -(-rows // step) * step


def halves(weight: Tensor) -> bool:
    """Return whether `Half` gives the same numbers, and this build of torch supports it."""
    return (
        weight.dtype == torch.float32
        and "fbgemm" in torch.backends.quantized.supported_engines
        and hasattr(torch, "fbgemm_linear_fp16_weight_fp32_activation")
        and torch.equal(weight.half().float(), weight)
    )


def onednn_packs(dtype: torch.dtype) -> bool:
    """Return whether `Packed` runs with weights of this type: not every CPU has bfloat16."""
    has_onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return has_onednn and (dtype != torch.bfloat16 or ONEDNN._is_mkldnn_bf16_supported())


def pack(model: nn.Module) -> None:
    """Replace every linear layer of a model on the CPU with `Half` or `Packed`.

    A layer is left unchanged if neither runs on this machine.
    """
    for module in list(model.modules()):
        for name, child in module.named_children():
            if not isinstance(child, nn.Linear):
                continue
            if halves(child.weight):
                setattr(module, name, Half(child))
            elif onednn_packs(child.weight.dtype):
                setattr(module, name, Packed(child))
