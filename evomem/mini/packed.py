"""Linear layers whose weights lie as the CPU's kernels read them.

A text has few tokens, so that most of the time of an ordinary matrix product goes into bringing the
weights into order, again for every call. Here that is done once: the same numbers, products of a dozen
rows in half the time (docs/measurements/speed.md). They can be used, not trained.

oneDNN makes a kernel for every number of rows, of half a megabyte, and keeps a thousand of them, and
the last ones of every thread. Texts come in all lengths, so rows are filled up to one of 40 numbers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from evomem.mini.model import Grow

ONEDNN: Any = torch.ops.mkldnn
GELU: Any = ("gelu", [], "none")  # what is done to a product, as oneDNN's operators take it
NOTHING: Any = ("none", [], "")
AT_ONCE = 256  # rows of one product; more are no quicker


class Packed(nn.Module):
    """What a linear layer computes, on a CPU."""

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


def pack(model: nn.Module) -> None:
    """Put `Packed` in the place of every linear layer of a model on the CPU, if torch has oneDNN."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Linear):
                setattr(module, name, Packed(child))
