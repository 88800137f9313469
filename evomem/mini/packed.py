"""Linear layers whose weights lie as the CPU's kernels read them.

A text has few tokens, so that most of the time of an ordinary matrix product goes into bringing the
weights into order, again for every call. Here that is done once: the same numbers, products of a dozen
rows in half the time (docs/speed.md). They can be used, not trained.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from evomem.mini.model import Grow

ONEDNN: Any = torch.ops.mkldnn
GELU: Any = ("gelu", [], "none")  # what is done to a product, as oneDNN's operators take it
NOTHING: Any = ("none", [], "")


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
        product: Tensor = ONEDNN._linear_pointwise(x, self.weight, self.bias, *self.then)
        return product


def pack(model: nn.Module) -> None:
    """Put `Packed` in the place of every linear layer of a model on the CPU, if torch has oneDNN."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Linear):
                setattr(module, name, Packed(child))
