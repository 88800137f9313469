"""The Qwen3 and Qwen3.5 text decoders, with two adapters and an immutable cache.

The classes of transformers are not used: streaming continues from a cached prefix, and whether their
caches can be continued by several tokens depends on the version (transformers 5.2 silently drops the
recurrent state of a Qwen3.5 layer). Here a cache is immutable, and extending it returns a new one.
Tests compare both decoders with the classes of transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from evomem.evoembedding.attention import SDPA, Kernel
from evomem.evoembedding.config import DecoderConfig
from evomem.evoembedding.layers import (
    Adapter,
    Layer,
    LayerCache,
    Lora,
    Pass,
)
from evomem.evoembedding.norms import RMSNorm
from evomem.evoembedding.packing import Packing

PREFILL = 4096
"""Maximum positions of one pass. An ordinary chunk fits (512 + 2048 + 256). A very long turn is read in
pieces, which limits the size of the mask and the activations."""


@dataclass(frozen=True, slots=True)
class Cache:
    """Everything that later positions need from earlier ones. Immutable: extending it returns a new cache."""

    layers: tuple[LayerCache, ...]
    length: int

    def expand(self, rows: int) -> Cache:
        """Return this cache of one row as one of `rows` rows, without copying."""
        return Cache(tuple(layer.expand(rows) for layer in self.layers), self.length)

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return sum(layer.nbytes for layer in self.layers)


class Decoder(nn.Module):
    """Maps input embeddings to hidden states after the final norm (see "Decoder")."""

    def __init__(self, config: DecoderConfig, lora: Lora | None = None) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            Layer(config, kind == "linear_attention", lora) for kind in config.layer_types
        )
        self.norm = RMSNorm(config.hidden_size, config)
        self.kernel: Kernel = SDPA
        self.recompute = False
        """Whether training discards the activations of layers and recomputes them for gradients."""

    def forward(
        self, embeds: Tensor, cache: Cache | None = None, adapter: Adapter | None = None
    ) -> tuple[Tensor, Cache]:
        """Continue `cache` by T positions.

        Args:
            embeds: Input embeddings, `(B, T, H)`, T at least 1.
            cache: The cache of earlier positions, of B rows, which is not modified; None if there are none.
            adapter: The adapter of the linear layers; None for the base alone.

        Returns:
            Hidden states after the final norm, `(B, T, H)`, and the extended cache.
        """
        hidden = []
        for piece in torch.split(embeds, PREFILL, dim=1):
            layers: list[LayerCache] = []
            hidden.append(self._pass(piece, cache, adapter, layers))
            cache = Cache(tuple(layers), (cache.length if cache else 0) + piece.shape[1])
        return torch.cat(hidden, 1), cast(Cache, cache)

    def hidden(self, embeds: Tensor, cache: Cache | None, adapter: Adapter | None) -> Tensor:
        """Return the hidden states of `forward` alone: a layer's keys are freed after it."""
        if embeds.shape[1] > PREFILL:
            return self.forward(embeds, cache, adapter)[0]
        return self._pass(embeds, cache, adapter, None)

    def packed(
        self,
        rows: Sequence[Tensor],
        pasts: Sequence[Cache | None],
        adapter: Adapter | None = None,
        *,
        keep: bool = False,
    ) -> tuple[list[Tensor], list[Cache]]:
        """Continue several caches of one row each, in one pass; for inference only.

        Args:
            rows: Input embeddings of each, `(T, H)`, T at least 1.
            pasts: The cache of the earlier positions of each row; None if there are none.
            adapter: As in `forward`.
            keep: Whether to return the extended caches.

        Returns:
            Hidden states after the final norm, `(T, H)` of each, and the caches; no caches without `keep`.
        """
        if len(rows) == 1:
            [row], [past] = rows, pasts
            if not keep:
                return [self.hidden(row[None], past, adapter)[0]], []
            hidden, cache = self(row[None], past, adapter)
            return [hidden[0]], [cache]
        lengths = [past.length if past else 0 for past in pasts]
        packing = Packing([len(row) for row in rows], lengths, rows[0].device)
        run = Pass(adapter, *self._rotation(packing.positions), self.kernel, packing)
        x = torch.cat(list(rows))[None]
        layers_of: list[list[LayerCache]] = []
        for i, layer in enumerate(self.layers):
            x, after = layer(x, [past.layers[i] if past else None for past in pasts], run)
            if keep:
                layers_of.append([layer_cache.own() for layer_cache in after])
        rows_of = zip(*layers_of, strict=True)
        caches = [
            Cache(layers, total) for layers, total in zip(rows_of, packing.totals, strict=keep)
        ]
        return list(self.norm(x)[0].split(packing.new)), caches

    def _pass(
        self,
        embeds: Tensor,
        cache: Cache | None,
        adapter: Adapter | None,
        extended: list[LayerCache] | None,
    ) -> Tensor:
        """Run all layers over one piece; append each layer's cache to `extended` if given."""
        start = cache.length if cache else 0
        positions = torch.arange(start, start + embeds.shape[1], device=embeds.device)
        run = Pass(adapter, *self._rotation(positions), self.kernel)
        x = embeds
        for i, layer in enumerate(self.layers):
            past = cache.layers[i] if cache else None
            if self.recompute and torch.is_grad_enabled():
                x, after = checkpoint(layer, x, past, run, use_reentrant=False)
            else:
                x, after = layer(x, past, run)
            if extended is not None:
                extended.append(after)
        return cast(Tensor, self.norm(x))

    def _rotation(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine of positions `(T,)`, each `(T, rotary_dim / 2)` float32."""
        dim = self.config.rotary_dim
        # Powers are computed in float32 on the CPU for every device: a difference in the last bit of a
        # power would noticeably change the rotation of position 2000.
        powers = torch.arange(0, dim, 2, dtype=torch.float32) / dim
        steps = (1.0 / self.config.rope_theta**powers).to(positions.device)
        angles = positions.float()[:, None] * steps
        return angles.cos(), angles.sin()
