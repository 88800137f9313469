"""The layers of the decoders: linear layers with adapters, full attention, the MLP, and a whole layer.

Parameters have the names of the published checkpoints. Shapes: B rows, T new positions, S
positions in all, H hidden, D head. Rotation is computed in float32 for weights of every dtype.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evomem.evoembedding.attention import Kernel
from evomem.evoembedding.config import DecoderConfig
from evomem.evoembedding.delta import DeltaAttention, DeltaCache
from evomem.evoembedding.norms import RMSNorm
from evomem.evoembedding.packing import Packing

Adapter = Literal["memory_generator", "retriever"]
ADAPTERS: tuple[Adapter, ...] = ("memory_generator", "retriever")


@dataclass(frozen=True, slots=True)
class AttentionCache:
    """Keys (rotated) and values of a full-attention layer, each `(B, kv_heads, S, D)`."""

    keys: Tensor
    values: Tensor

    def expand(self, rows: int) -> AttentionCache:
        """Return this cache of one row as one of `rows` rows, without copying."""
        return AttentionCache(
            self.keys.expand(rows, -1, -1, -1), self.values.expand(rows, -1, -1, -1)
        )

    def own(self) -> AttentionCache:
        """Return a copy: the cache of a packed row is a view of the tensors of the whole pass."""
        return AttentionCache(self.keys.clone(), self.values.clone())

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.keys.nbytes + self.values.nbytes


LayerCache = AttentionCache | DeltaCache
Past = Any
"""The earlier positions of a layer: its cache or None; a list of these for packed rows."""
After = LayerCache | list[LayerCache]


class Pass(NamedTuple):
    """The arguments that all layers share in one forward pass."""

    adapter: Adapter | None
    cos: Tensor  # (T, rotary_dim / 2) float32
    sin: Tensor
    kernel: Kernel
    rows: Packing | None = None
    """The layout of packed rows; `past` and the caches are then lists with one entry per row."""


class AdaptedLinear(nn.Module):
    """`W x + scale B (A x)` with the pair (A, B) of the given adapter, or `W x` without one.

    Adapters are not merged into W: both share it, and merging would round differently in 16 bits.
    """

    def __init__(self, inputs: int, outputs: int, rank: int, scale: float) -> None:
        super().__init__()
        self.base_layer = nn.Linear(inputs, outputs, bias=False)
        self.lora_A = nn.ModuleDict({a: nn.Linear(inputs, rank, bias=False) for a in ADAPTERS})
        self.lora_B = nn.ModuleDict({a: nn.Linear(rank, outputs, bias=False) for a in ADAPTERS})
        self.scale = scale

    def forward(self, x: Tensor, adapter: Adapter | None) -> Tensor:
        """Map the last dimension."""
        out: Tensor = self.base_layer(x)
        if adapter is None:
            return out
        change: Tensor = self.lora_B[adapter](self.lora_A[adapter](x))
        return out + self.scale * change


class PlainLinear(nn.Linear):
    """A linear layer without adapters, with the interface of `AdaptedLinear`."""

    def forward(self, x: Tensor, adapter: Adapter | None = None) -> Tensor:
        """Map the last dimension; `adapter` is ignored."""
        return super().forward(x)


@dataclass(frozen=True, slots=True)
class Lora:
    """Rank and scale of the adapters."""

    rank: int
    scale: float


def _linear(inputs: int, outputs: int, lora: Lora | None) -> AdaptedLinear | PlainLinear:
    if lora is None:
        return PlainLinear(inputs, outputs, bias=False)
    return AdaptedLinear(inputs, outputs, lora.rank, lora.scale)


class Attention(nn.Module):
    """Grouped-query attention with normalised queries and keys; gated in Qwen3.5."""

    def __init__(self, config: DecoderConfig, lora: Lora | None) -> None:
        super().__init__()
        size, head = config.hidden_size, config.head_dim
        self.head_dim = head
        self.gated = config.family == "qwen3_5"
        outputs = config.heads * head
        self.q_proj = _linear(size, 2 * outputs if self.gated else outputs, lora)
        self.k_proj = _linear(size, config.kv_heads * head, lora)
        self.v_proj = _linear(size, config.kv_heads * head, lora)
        self.o_proj = _linear(outputs, size, lora)
        self.q_norm = RMSNorm(head, config)
        self.k_norm = RMSNorm(head, config)

    def forward(self, x: Tensor, past: Past, run: Pass) -> tuple[Tensor, After]:
        """Attend from x `(B, T, H)` to the past and to x; return `(B, T, H)` and the cache."""
        q, gate = self.q_proj(x, run.adapter), None
        if self.gated:  # the query and the gate of a head are adjacent
            q, gate = q.unflatten(-1, (-1, 2, self.head_dim)).unbind(-2)  # (B, T, heads, D)
        else:
            q = q.unflatten(-1, (-1, self.head_dim))
        k = self.k_proj(x, run.adapter).unflatten(-1, (-1, self.head_dim))
        v = self.v_proj(x, run.adapter).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        q = _rotate(self.q_norm(q).transpose(1, 2), run.cos, run.sin)  # (B, heads, T, D)
        k = _rotate(self.k_norm(k).transpose(1, 2), run.cos, run.sin)
        after: After
        if run.rows is None:
            if past is not None:
                k, v = torch.cat([past.keys, k], 2), torch.cat([past.values, v], 2)
            out, after = run.kernel.together(q, k, v), AttentionCache(k, v)  # (B, T, heads, D)
        else:
            k = _behind([cache and cache.keys for cache in past], k, run.rows)
            v = _behind([cache and cache.values for cache in past], v, run.rows)
            out = run.kernel.packed(q, k, v, run.rows)
            keys_of, values_of = (torch.split(packed, run.rows.totals, 2) for packed in (k, v))
            after = [
                AttentionCache(keys, values)
                for keys, values in zip(keys_of, values_of, strict=True)
            ]
        if gate is not None:
            out = out * gate.sigmoid()
        return self.o_proj(out.flatten(2), run.adapter), after


class MLP(nn.Module):
    """SwiGLU."""

    def __init__(self, config: DecoderConfig, lora: Lora | None) -> None:
        super().__init__()
        size, inner = config.hidden_size, config.intermediate_size
        self.gate_proj = _linear(size, inner, lora)
        self.up_proj = _linear(size, inner, lora)
        self.down_proj = _linear(inner, size, lora)

    def forward(self, x: Tensor, adapter: Adapter | None) -> Tensor:
        """Transform each position, `(B, T, H)`."""
        inner = F.silu(self.gate_proj(x, adapter)) * self.up_proj(x, adapter)
        out: Tensor = self.down_proj(inner, adapter)
        return out


class Layer(nn.Module):
    """Attention, then an MLP; each has a norm before it and a residual connection around it."""

    def __init__(self, config: DecoderConfig, linear: bool, lora: Lora | None) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config)
        if linear:
            assert config.linear is not None
            self.linear_attn = DeltaAttention(config, config.linear)
        else:
            self.self_attn = Attention(config, lora)
        self.linear = linear
        self.mlp = MLP(config, lora)

    def forward(self, x: Tensor, past: Past, run: Pass) -> tuple[Tensor, After]:
        """Continue `past` by x `(B, T, H)`; return `(B, T, H)` and the extended cache."""
        normed = self.input_layernorm(x)
        if self.linear:
            mixed, cache = self.linear_attn(normed, past, run.rows)
        else:
            mixed, cache = self.self_attn(normed, past, run)
        x = x + mixed
        return x + self.mlp(self.post_attention_layernorm(x), run.adapter), cache


def _behind(pasts: Sequence[Tensor | None], new: Tensor, rows: Packing) -> Tensor:
    """Append the new keys or values of each row, packed in `new`, to its earlier ones."""
    pairs = zip(pasts, torch.split(new, rows.new, 2), strict=True)
    return torch.cat([part for pair in pairs for part in pair if part is not None], 2)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate pairs of dimensions that are half a rotary width apart; the others are unchanged."""
    half = cos.shape[-1]
    turned, unrotated = x[..., : 2 * half].float(), x[..., 2 * half :]
    left, right = turned[..., :half], turned[..., half:]
    rotated = torch.cat([left * cos - right * sin, right * cos + left * sin], -1)
    return torch.cat([rotated.to(x.dtype), unrotated], -1)
