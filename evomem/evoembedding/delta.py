"""The gated delta rule: linear attention whose state is a matrix per head (see "Qwen3.5").

Step by step, with decay `exp(g)` and write strength `beta`:

    S <- exp(g) S;   u = beta (v - S^T k);   S <- S + k u^T;   o = S^T q

Written out over a block that starts from S0, with G the running sum of g inside the block:

    u_i + sum_{j<i} beta_i exp(G_i - G_j) (k_i . k_j) u_j  =  beta_i (v_i - exp(G_i) S0^T k_i)

which is one triangular system per block. Its two right-hand sides do not depend on S0, so all blocks are
solved at once; only the inexpensive remainder runs block by block.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evomem.evoembedding.config import DecoderConfig, LinearConfig
from evomem.evoembedding.norms import GatedNorm
from evomem.evoembedding.packing import Packing

BLOCK = 64


@dataclass(frozen=True, slots=True)
class DeltaCache:
    """State of a linear layer.

    The last inputs of the convolution, `(B, channels, kernel - 1)`, and the recurrent matrices,
    `(B, heads, K, V)` float32.
    """

    inputs: Tensor
    matrices: Tensor

    def expand(self, rows: int) -> DeltaCache:
        """Return this cache of one row as one of `rows` rows, without copying."""
        return DeltaCache(self.inputs.expand(rows, -1, -1), self.matrices.expand(rows, -1, -1, -1))

    def own(self) -> DeltaCache:
        """Return a copy: the cache of a packed row is a view of the tensors of the whole pass."""
        return DeltaCache(self.inputs.clone(), self.matrices.clone())

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.inputs.nbytes + self.matrices.nbytes


class DeltaAttention(nn.Module):
    """Linear attention by the gated delta rule (see "Qwen3.5"). It has no adapters."""

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

    def forward(
        self,
        x: Tensor,
        past: DeltaCache | None | list[DeltaCache | None],
        rows: Packing | None = None,
    ) -> tuple[Tensor, DeltaCache | list[DeltaCache]]:
        """Mix x `(B, T, H)` with the past; return `(B, T, H)` and the cache.

        For packed rows, x is `(1, sum of T, H)`, and `past` and the caches are lists with one entry per row.
        """
        if rows is None:
            assert not isinstance(past, list)
            return self._mix(x, past or self._nothing(x), None)
        assert isinstance(past, list)
        wide = rows.side_by_side(x)
        nothing = self._nothing(wide[:1])
        caches = [cache or nothing for cache in past]
        before = DeltaCache(
            torch.cat([cache.inputs for cache in caches]),
            torch.cat([cache.matrices for cache in caches]),
        )
        out, after = self._mix(wide, before, rows)
        ends = zip(torch.split(after.inputs, 1), torch.split(after.matrices, 1), strict=True)
        return rows.packed(out), [DeltaCache(*end) for end in ends]

    def _mix(self, x: Tensor, past: DeltaCache, rows: Packing | None) -> tuple[Tensor, DeltaCache]:
        inputs = torch.cat([past.inputs, self.in_proj_qkv(x).transpose(1, 2)], 2)
        mixed = F.silu(self.conv1d(inputs)).transpose(1, 2)  # (B, T, channels)
        q, k, v = self._heads(mixed)
        g = F.softplus(self.in_proj_a(x).float() + self.dt_bias.float())
        g = -self.A_log.float().exp() * g  # (B, T, heads)
        beta = self.in_proj_b(x).sigmoid().float()
        length = self.shape.kernel - 1
        if rows is None:
            last = inputs[:, :, inputs.shape[2] - length :]
        else:  # padding neither decays nor writes
            g, beta = (values * rows.real[..., None] for values in (g, beta))
            ends = torch.tensor(rows.new, device=x.device)[:, None] + torch.arange(
                length, device=x.device
            )
            last = inputs.gather(2, ends[:, None].expand(-1, inputs.shape[1], -1))
        out, matrices = delta_rule(q, k, v, g.transpose(1, 2), beta.transpose(1, 2), past.matrices)
        z = self.in_proj_z(x).unflatten(-1, (-1, self.shape.value_dim))
        out = self.norm(out.transpose(1, 2).to(x.dtype), z)  # (B, T, heads, V)
        return self.out_proj(out.flatten(2)), DeltaCache(last.contiguous(), matrices)

    def _heads(self, mixed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split channels into queries, keys and values, each `(B, value_heads, T, dim)` float32."""
        s = self.shape
        keys = s.key_heads * s.key_dim
        q, k, v = torch.split(mixed.float(), [keys, keys, s.value_heads * s.value_dim], -1)
        repeat = s.value_heads // s.key_heads  # consecutive value heads share a key head
        q, k = (
            _unit(torch.unflatten(x, -1, (s.key_heads, s.key_dim))).repeat_interleave(repeat, 2)
            for x in (q, k)
        )
        v = torch.unflatten(v, -1, (s.value_heads, s.value_dim))
        return (q * s.key_dim**-0.5).transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)

    def _nothing(self, x: Tensor) -> DeltaCache:
        s, rows = self.shape, x.shape[0]
        return DeltaCache(
            x.new_zeros(rows, s.channels, s.kernel - 1),
            x.new_zeros(rows, s.value_heads, s.key_dim, s.value_dim, dtype=torch.float32),
        )


def delta_rule(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Run the rule over T new positions, in float32.

    Args:
        q: Queries, `(B, heads, T, K)` float32, already normalised and scaled.
        k: Keys, `(B, heads, T, K)` float32, normalised.
        v: Values, `(B, heads, T, V)` float32.
        g: Logarithm of the decay, `(B, heads, T)` float32, at most 0.
        beta: Write strength, `(B, heads, T)` float32, in (0, 1).
        state: The state before these positions, `(B, heads, K, V)` float32; not modified.

    Returns:
        Outputs `(B, heads, T, V)` and the new state.
    """
    length = q.shape[2]
    size = min(BLOCK, length)
    # Padding neither writes (beta 0) nor decays (g 0), so it does not affect the final state.
    pad = -length % size
    q, k, v = (torch.unflatten(F.pad(x, (0, 0, 0, pad)), 2, (-1, size)) for x in (q, k, v))
    g, beta = (torch.unflatten(F.pad(x, (0, pad)), 2, (-1, size)) for x in (g, beta))

    total = g.cumsum(-1)  # (B, heads, blocks, size)
    lower = torch.ones(size, size, dtype=torch.bool, device=q.device).tril()
    between = total[..., :, None] - total[..., None, :]
    decay = between.masked_fill(~lower, -torch.inf).exp()  # exp(G_i - G_j), 0 above the diagonal
    grown = total.exp()[..., None]
    writes = beta[..., None]
    system = writes * decay * (k @ k.mT)
    solved = torch.linalg.solve_triangular(  # reads the strict lower part; the diagonal is 1
        system, torch.cat([writes * v, writes * grown * k], -1), upper=False, unitriangular=True
    )
    from_values, from_state = solved.split([v.shape[-1], k.shape[-1]], -1)
    reads = decay * (q @ k.mT)
    remaining = (total[..., -1:] - total).exp()[..., None]  # decay from a position to the end

    outputs = []
    for block in range(q.shape[2]):
        update = (
            from_values[:, :, block] - from_state[:, :, block] @ state
        )  # u, (B, heads, size, V)
        past = (grown[:, :, block] * q[:, :, block]) @ state
        outputs.append(past + reads[:, :, block] @ update)
        decayed = grown[:, :, block, -1:] * state
        state = decayed + (remaining[:, :, block] * k[:, :, block]).mT @ update
    return torch.cat(outputs, 2)[:, :, :length], state


def _unit(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-6)
