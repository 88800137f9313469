"""Causal attention over past and new positions: two kernels, each for rows of equal length and packed rows.

The queries are the last T of the S key positions, so the causal mask is aligned at the lower right.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from evomem.evoembedding.packing import Packing


class Kernel(Protocol):
    """A way to compute attention."""

    def together(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend within rows of equal length.

        (B, heads, T, D) queries, (B, kv_heads, S, D) keys and values -> (B, T, heads, D).
        """
        ...

    def packed(self, q: Tensor, k: Tensor, v: Tensor, rows: Packing) -> Tensor:
        """Attend within concatenated rows.

        (1, heads, sum of T, D) queries, (1, kv_heads, sum of S, D) keys and values -> (1, sum of T,
        heads, D).
        """
        ...


def choose_attention(device: torch.device, dtype: torch.dtype) -> Kernel:
    """Return flash-attn if it is installed and can run, otherwise PyTorch's own kernel."""
    if device.type == "cuda" and dtype.itemsize == 2 and find_spec("flash_attn"):
        return Flash(import_module("flash_attn"))
    return SDPA


class Sdpa:
    """`scaled_dot_product_attention`."""

    def together(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """See `Kernel.together`."""
        new, total = q.shape[2], k.shape[2]
        mask = None
        if 1 < new < total:  # without a past, is_causal is enough; a single query sees all keys
            mask = torch.ones(new, total, dtype=torch.bool, device=q.device).tril(total - new)
        return self._attend(q, k, v, mask, causal=new == total > 1)

    def packed(self, q: Tensor, k: Tensor, v: Tensor, rows: Packing) -> Tensor:
        """See `Kernel.packed`. Rows are padded to equal length only inside this method."""
        q = q[0].transpose(0, 1)[rows.aside].transpose(1, 2)  # (B, heads, T, D)
        k, v = (x[0].transpose(0, 1)[rows.keys_aside].transpose(1, 2) for x in (k, v))
        causal = not any(rows.past)  # then no mask is needed, and without one it is twice as fast
        mask = None if causal else rows.mask
        return rows.packed(self._attend(q, k, v, mask, causal=causal))

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, causal: bool
    ) -> Tensor:
        group = q.shape[1] // k.shape[1]
        if group > 1:  # consecutive query heads share a key head
            k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        return out.transpose(1, 2)


class Flash:
    """The package flash-attn; nothing is padded."""

    def __init__(self, library: Any) -> None:
        self._library = library

    def together(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """See `Kernel.together`."""
        out: Tensor = self._library.flash_attn_func(
            *(x.transpose(1, 2) for x in (q, k, v)), causal=True
        )
        return out

    def packed(self, q: Tensor, k: Tensor, v: Tensor, rows: Packing) -> Tensor:
        """See `Kernel.packed`."""
        out: Tensor = self._library.flash_attn_varlen_func(
            *(x[0].transpose(0, 1).contiguous() for x in (q, k, v)),
            rows.ends(rows.new),
            rows.ends(rows.totals),
            max(rows.new),
            max(rows.totals),
            causal=True,
        )
        return out[None]


SDPA = Sdpa()
