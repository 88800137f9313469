"""The gated delta rule: linear attention whose state is a matrix per head (specification 12).

Step by step, with decay `exp(g)` and write strength `beta`:

    S <- exp(g) S;   u = beta (v - S^T k);   S <- S + k u^T;   o = S^T q

Written out over a block that starts from S0, with G the running sum of g inside the block:

    u_i + sum_{j<i} beta_i exp(G_i - G_j) (k_i . k_j) u_j  =  beta_i (v_i - exp(G_i) S0^T k_i)

which is one triangular system a block. Its two right-hand sides do not depend on S0 and are solved
for all blocks at once; only the cheap remainder runs block after block.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK = 64


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
        state: What came before, `(B, heads, K, V)` float32; left as it is.

    Returns:
        Outputs `(B, heads, T, V)` and the new state.
    """
    length = q.shape[2]
    size = min(BLOCK, length)
    # Padding writes nothing (beta 0) and decays nothing (g 0): the final state is untouched by it.
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
        kept = grown[:, :, block, -1:] * state
        state = kept + (remaining[:, :, block] * k[:, :, block]).mT @ update
    return torch.cat(outputs, 2)[:, :, :length], state
