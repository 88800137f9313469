"""Causal attention over what came before and what is new: one signature, two kernels.

Queries belong to the last T of the keys' S positions, so causality is aligned at the lower right.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn import functional as F

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(B, heads, T, D) queries, (B, kv_heads, S, D) keys and values -> (B, T, heads, D)."""


def choose_attention(device: torch.device, dtype: torch.dtype) -> Attend:
    """Return flash-attn where it is installed and can run, else PyTorch's own kernel."""
    if device.type == "cuda" and dtype.itemsize == 2 and find_spec("flash_attn"):
        return _flash(import_module("flash_attn").flash_attn_func)
    return attend_sdpa


def attend_sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend with `scaled_dot_product_attention`."""
    new, total = q.shape[2], k.shape[2]
    group = q.shape[1] // k.shape[1]
    if group > 1:  # consecutive query heads share a key head
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    mask = None
    if 1 < new < total:  # without a past, is_causal does; a single query sees everything
        mask = torch.ones(new, total, dtype=torch.bool, device=q.device).tril(total - new)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=new == total > 1)
    return out.transpose(1, 2)


def _flash(kernel: Callable[..., Tensor]) -> Attend:
    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return kernel(*(x.transpose(1, 2) for x in (q, k, v)), causal=True)

    return attend
