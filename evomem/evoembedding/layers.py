"""The layers of the decoders: norms, adapted linears, both kinds of attention, the MLP.

Parameters carry the names of the published checkpoints. Shapes: B rows, T new positions, S
positions in all, H hidden, D head. Norms, rotation, softmax and the delta rule compute in float32
whatever the weights are, as the published models do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evomem.evoembedding.attention import Attend
from evomem.evoembedding.config import DecoderConfig, LinearConfig
from evomem.evoembedding.delta import delta_rule

Adapter = Literal["memory_generator", "retriever"]
ADAPTERS: tuple[Adapter, ...] = ("memory_generator", "retriever")


@dataclass(frozen=True, slots=True)
class AttentionCache:
    """Keys (rotated) and values of a full-attention layer, each `(B, kv_heads, S, D)`."""

    keys: Tensor
    values: Tensor

    def expand(self, rows: int) -> AttentionCache:
        """Show one row as many, without copying."""
        return AttentionCache(_expand(self.keys, rows), _expand(self.values, rows))

    @property
    def nbytes(self) -> int:
        """Bytes that keeping it costs."""
        return self.keys.nbytes + self.values.nbytes


@dataclass(frozen=True, slots=True)
class DeltaCache:
    """State of a linear layer.

    The last inputs of the convolution, `(B, channels, kernel - 1)`, and the recurrent matrices,
    `(B, heads, K, V)` float32.
    """

    inputs: Tensor
    matrices: Tensor

    def expand(self, rows: int) -> DeltaCache:
        """Show one row as many, without copying."""
        return DeltaCache(_expand(self.inputs, rows), _expand(self.matrices, rows))

    @property
    def nbytes(self) -> int:
        """Bytes that keeping it costs."""
        return self.inputs.nbytes + self.matrices.nbytes


LayerCache = AttentionCache | DeltaCache


class Pass(NamedTuple):
    """What all layers share in one forward pass."""

    adapter: Adapter | None
    cos: Tensor  # (T, rotary_dim / 2) float32
    sin: Tensor
    attend: Attend


class RMSNorm(nn.Module):
    """Scale to unit mean square. Qwen3.5 stores its weights as distance from 1."""

    def __init__(self, size: int, config: DecoderConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = config.eps
        self.from_one = config.family == "qwen3_5"

    def forward(self, x: Tensor) -> Tensor:
        """Norm the last dimension."""
        normed = _unit_mean_square(x.float(), self.eps)
        if self.from_one:
            return (normed * (1.0 + self.weight.float())).to(x.dtype)
        return self.weight * normed.to(x.dtype)


class AdaptedLinear(nn.Module):
    """`W x + scale B (A x)` with the pair (A, B) of the adapter asked for, or none.

    Left unmerged: both adapters share W, and merging would round differently in 16 bit.
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
    """A linear without adapters that may be called like one with."""

    def forward(self, x: Tensor, adapter: Adapter | None = None) -> Tensor:
        """Map the last dimension; `adapter` changes nothing."""
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
    """Grouped-query attention with normed queries and keys; gated in Qwen3.5."""

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

    def forward(
        self, x: Tensor, past: LayerCache | None, run: Pass
    ) -> tuple[Tensor, AttentionCache]:
        """Attend from x `(B, T, H)` to the past and to x; return `(B, T, H)` and the cache."""
        q, gate = self.q_proj(x, run.adapter), None
        if self.gated:  # a head's query and its gate lie side by side
            q, gate = q.unflatten(-1, (-1, 2, self.head_dim)).unbind(-2)  # (B, T, heads, D)
        else:
            q = q.unflatten(-1, (-1, self.head_dim))
        k = self.k_proj(x, run.adapter).unflatten(-1, (-1, self.head_dim))
        v = self.v_proj(x, run.adapter).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        q = _rotate(self.q_norm(q).transpose(1, 2), run.cos, run.sin)  # (B, heads, T, D)
        k = _rotate(self.k_norm(k).transpose(1, 2), run.cos, run.sin)
        if past is not None:
            assert isinstance(past, AttentionCache)
            k, v = torch.cat([past.keys, k], 2), torch.cat([past.values, v], 2)
        out = run.attend(q, k, v)  # (B, T, heads, D)
        if gate is not None:
            out = out * gate.sigmoid()
        return self.o_proj(out.flatten(2), run.adapter), AttentionCache(k, v)


class DeltaAttention(nn.Module):
    """Linear attention by the gated delta rule (specification 12). It has no adapters."""

    def __init__(self, config: DecoderConfig, shape: LinearConfig) -> None:
        super().__init__()
        self.shape = shape
        values = shape.value_heads * shape.value_dim
        self.in_proj_qkv = nn.Linear(config.hidden_size, shape.channels, bias=False)
        self.in_proj_z = nn.Linear(config.hidden_size, values, bias=False)
        self.in_proj_b = nn.Linear(config.hidden_size, shape.value_heads, bias=False)
        self.in_proj_a = nn.Linear(config.hidden_size, shape.value_heads, bias=False)
        self.conv1d = nn.Conv1d(
            shape.channels, shape.channels, shape.kernel, groups=shape.channels, bias=False
        )
        self.dt_bias = nn.Parameter(torch.ones(shape.value_heads))
        self.A_log = nn.Parameter(torch.zeros(shape.value_heads))
        self.norm = GatedNorm(shape.value_dim, config.eps)
        self.out_proj = nn.Linear(values, config.hidden_size, bias=False)

    def forward(self, x: Tensor, past: LayerCache | None, run: Pass) -> tuple[Tensor, DeltaCache]:
        """Mix x `(B, T, H)` with the past; return `(B, T, H)` and the cache."""
        past = past or self._nothing(x)
        assert isinstance(past, DeltaCache)
        inputs = torch.cat([past.inputs, self.in_proj_qkv(x).transpose(1, 2)], 2)
        mixed = F.silu(self.conv1d(inputs)).transpose(1, 2)  # (B, T, channels)
        q, k, v = self._heads(mixed)
        g = F.softplus(self.in_proj_a(x).float() + self.dt_bias.float())
        g = -self.A_log.float().exp() * g  # (B, T, heads)
        beta = self.in_proj_b(x).sigmoid().float()
        out, matrices = delta_rule(q, k, v, g.transpose(1, 2), beta.transpose(1, 2), past.matrices)
        z = self.in_proj_z(x).unflatten(-1, (-1, self.shape.value_dim))
        out = self.norm(out.transpose(1, 2).to(x.dtype), z)  # (B, T, heads, V)
        kept = inputs[:, :, inputs.shape[2] - (self.shape.kernel - 1) :]
        return self.out_proj(out.flatten(2)), DeltaCache(kept.contiguous(), matrices)

    def _heads(self, mixed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split channels into queries, keys and values, each `(B, value_heads, T, dim)` float32."""
        s = self.shape
        keys = s.key_heads * s.key_dim
        q, k, v = torch.split(mixed.float(), [keys, keys, s.value_heads * s.value_dim], -1)
        repeat = s.value_heads // s.key_heads  # consecutive value heads share a key head
        q, k = (
            _unit(x.unflatten(-1, (s.key_heads, s.key_dim))).repeat_interleave(repeat, 2)
            for x in (q, k)
        )
        v = v.unflatten(-1, (s.value_heads, s.value_dim))
        return (q * s.key_dim**-0.5).transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)

    def _nothing(self, x: Tensor) -> DeltaCache:
        s, rows = self.shape, x.shape[0]
        return DeltaCache(
            x.new_zeros(rows, s.channels, s.kernel - 1),
            x.new_zeros(rows, s.value_heads, s.key_dim, s.value_dim, dtype=torch.float32),
        )


class GatedNorm(nn.Module):
    """RMSNorm whose output is gated; its weight is stored as it is, unlike the other norms'."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        """Norm the last dimension of x and multiply by SiLU of `gate`."""
        normed = self.weight * _unit_mean_square(x.float(), self.eps).to(x.dtype)
        return (normed * F.silu(gate.float())).to(x.dtype)


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
    """Mix positions, then transform each; both behind a norm and added to the stream."""

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

    def forward(self, x: Tensor, past: LayerCache | None, run: Pass) -> tuple[Tensor, LayerCache]:
        """Continue `past` by x `(B, T, H)`; return `(B, T, H)` and the extended cache."""
        mixer = self.linear_attn if self.linear else self.self_attn
        mixed, cache = mixer(self.input_layernorm(x), past, run)
        x = x + mixed
        return x + self.mlp(self.post_attention_layernorm(x), run.adapter), cache


def _expand(x: Tensor, rows: int) -> Tensor:
    return x.expand(rows, *x.shape[1:])


def _unit_mean_square(x: Tensor, eps: float) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


def _unit(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-6)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate pairs of dimensions that lie half a rotary width apart; leave the others."""
    half = cos.shape[-1]
    turned, rest = x[..., : 2 * half].float(), x[..., 2 * half :]
    left, right = turned[..., :half], turned[..., half:]
    rotated = torch.cat([left * cos - right * sin, right * cos + left * sin], -1)
    return torch.cat([rotated.to(x.dtype), rest], -1)
