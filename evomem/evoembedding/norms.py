"""Norms, computed in float32 for weights of every dtype, as in the published models."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evomem.evoembedding.config import DecoderConfig


class RMSNorm(nn.Module):
    """Scales to unit mean square. Qwen3.5 stores its weights minus 1."""

    def __init__(self, size: int, config: DecoderConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = config.eps
        self.from_one = config.family == "qwen3_5"

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        normed = _unit_mean_square(x.float(), self.eps)
        if self.from_one:
            return (normed * (1.0 + self.weight.float())).to(x.dtype)
        return self.weight * normed.to(x.dtype)


class GatedNorm(nn.Module):
    """RMSNorm with a gated output; its weights, unlike those of the other norms, are stored unchanged."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        """Normalise the last dimension of x and multiply it by SiLU of `gate`."""
        normed = self.weight * _unit_mean_square(x.float(), self.eps).to(x.dtype)
        return (normed * F.silu(gate.float())).to(x.dtype)


def _unit_mean_square(x: Tensor, eps: float) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
