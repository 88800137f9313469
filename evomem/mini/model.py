"""The small encoder's network: MiniLM whose upper layers see the tokens of earlier turns.

The lower layers read a text alone; their token states are the latents it leaves behind. They need
no memory, so the latents of a whole history are computed at once, in training as at run time. The
upper layers read the same text twice: alone, and with the latents of the newest earlier turns as
further keys and values of their own self-attention. N texts of T tokens, K latents in memory, L of a
turn, H hidden. States and latents are of the weights' type; embeddings, and what counts, are float32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evomem.mini.config import CLOCK_SCALES, MiniConfig

TURN, QUERY = 0, 1
EPS = 1e-12  # of BERT's layer norms
AGE_SCALE = 10.0  # of the biases for age: as other weights move, they would hardly move at all


@dataclass(frozen=True, slots=True)
class Memory:
    """What some texts may look at: the latents of the turns before each, the newest first."""

    seen: Tensor
    """(N, P, L, W), as `MiniModel.show` gives them, of P turns."""
    there: Tensor
    """(N, P, L) bool: whether there is such a latent."""


class Grow(nn.Linear):
    """The first half of an MLP: a linear layer and its activation."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., H) to (..., I)."""
        return F.gelu(super().forward(x))


class Layer(nn.Module):
    """One BERT layer (post-norm)."""

    def __init__(self, config: MiniConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.hidden, 3 * config.hidden)
        self.out = nn.Linear(config.hidden, config.hidden)
        self.norm = nn.LayerNorm(config.hidden, eps=EPS)
        self.grow = Grow(config.hidden, config.inner)
        self.shrink = nn.Linear(config.inner, config.hidden)
        self.last_norm = nn.LayerNorm(config.hidden, eps=EPS)

    def forward(
        self, x: Tensor, mask: Tensor, past: Tensor | None = None, bias: Tensor | None = None
    ) -> Tensor:
        """Map (N, T, H) to (N, T, H).

        Args:
            x: States; the last n of the N texts look at a past.
            mask: (N, T), True where there is a token.
            past: (n, K, 2 H), keys and values (`look`).
            bias: (n, heads, K), what is added to the scores of the past.
        """
        n, t, h = x.shape
        q, k, v = self.qkv(x).view(n, t, 3, self.heads, h // self.heads).permute(2, 0, 3, 1, 4)
        wide = mask[:, None, None]
        if past is None or bias is None:
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=wide)
        else:
            first = n - len(past)
            parts = [F.scaled_dot_product_attention(*(z[:first] for z in (q, k, v)), wide[:first])]
            earlier = torch.unflatten(past, -1, (2, self.heads, h // self.heads))
            k, v = (
                torch.cat([own[first:], earlier[:, :, which].transpose(1, 2)], 2)
                for which, own in enumerate((k, v))
            )
            own = torch.zeros_like(wide[first:], dtype=q.dtype).masked_fill(
                ~wide[first:], -torch.inf
            )
            scores = torch.cat(
                [own.expand(-1, self.heads, -1, -1), bias[:, :, None].to(q.dtype)], -1
            )
            parts.append(
                F.scaled_dot_product_attention(q[first:], k, v, scores.expand(-1, -1, t, -1))
            )
            mixed = torch.cat(parts)
        x = self.norm(x + self.out(mixed.transpose(1, 2).reshape(n, t, h)))
        return self.last_norm(x + self.shrink(self.grow(x)))  # type: ignore[no-any-return]

    def look(self, latents: Tensor) -> Tensor:
        """Return the keys and values of latents (..., H): (..., 2 H)."""
        return self.qkv(latents)[..., latents.shape[-1] :]  # type: ignore[no-any-return]


class MiniModel(nn.Module):
    """Tokens and memory to embeddings, in steps that training and run time put together."""

    def __init__(self, config: MiniConfig) -> None:
        super().__init__()
        self.config = config
        self.words = nn.Embedding(config.vocab, config.hidden)
        self.places = nn.Embedding(config.positions, config.hidden)
        self.roles = nn.Parameter(torch.zeros(2, config.hidden))
        self.norm = nn.LayerNorm(config.hidden, eps=EPS)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        upper = config.layers - config.write_layer
        self.age = nn.Parameter(_first_ages(config).expand(upper, -1, config.heads, -1).clone())
        """(upper, 2, heads, turns), what is added to the scores of earlier turns, by the role of who
        looks and by their age. Before training, turns look at earlier ones, and queries hardly do."""
        last = nn.Linear(128, config.order + 2)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        inputs = config.hidden + config.order
        self.ask = nn.Sequential(nn.Linear(inputs, 128), nn.GELU(), last)

    def lower(self, ids: Tensor, mask: Tensor, role: int) -> Tensor:
        """Read texts alone: ids and mask (N, T) to states (N, T, H)."""
        embedded = self.words(ids) + self.places.weight[: ids.shape[1]] + self.roles[role]
        x: Tensor = self.norm(embedded)
        for layer in self.layers[: self.config.write_layer]:
            x = layer(x, mask)
        return x

    def write(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return the latents of texts, (N, T, H) and mask (N, T) to (N, L, H).

        Of a text of at most L tokens, their states, and zeros behind them; of a longer one, the means
        of L stretches of equal length.
        """
        count = self.config.latents
        length = mask.sum(1, keepdim=True)  # (N, 1)
        place = torch.arange(x.shape[1], device=x.device)
        stretch = torch.where(length > count, place * count // length, place)  # (N, T)
        chosen = (stretch[..., None] == torch.arange(count, device=x.device)) & mask[..., None]
        weights = chosen.float() / chosen.sum(1, keepdim=True).clamp(min=1)
        return weights.transpose(1, 2).to(x.dtype) @ x

    def show(self, latents: Tensor) -> Tensor:
        """Return latents (..., H) as the upper layers look at them, keys and values: (..., W)."""
        return torch.cat([layer.look(latents) for layer in self._upper()], -1)

    def upper(
        self, x: Tensor, mask: Tensor, role: int, memory: Memory | None
    ) -> tuple[Tensor, Tensor]:
        """Go on twice, alone and in the light of `memory`: states (N, T, H) to two (N, H).

        Both are contents of unit length. They share every pass, so that weights are read once;
        without a memory they are the same.
        """
        if memory is None or not memory.seen.shape[1]:
            for layer in self._upper():
                x = layer(x, mask)
            alone = _mean(x, mask)
            return alone, alone
        pasts = memory.seen.flatten(1, 2).chunk(len(self._upper()), -1)
        ages = torch.arange(memory.seen.shape[1], device=x.device)
        ages = ages.clamp(max=self.config.turns - 1)
        hidden = ~memory.there[:, None]  # (N, 1, P, L)
        x, masks = torch.cat([x, x]), torch.cat([mask, mask])
        for number, layer in enumerate(self._upper()):
            bias = AGE_SCALE * self.age[number, role][None, :, ages, None]  # (1, heads, P, 1)
            bias = bias.expand(len(hidden), -1, -1, hidden.shape[-1])
            bias = bias.masked_fill(hidden, -torch.inf).flatten(2)
            x = layer(x, masks, pasts[number], bias)
        alone, evolved = x.chunk(2)
        return _mean(alone, mask), _mean(evolved, mask)

    def turn_vectors(self, alone: Tensor, evolved: Tensor, now: Tensor) -> Tensor:
        """Put a turn's readings and its time together: (N, H), (N, H), (N,) to (N, D), unit rows."""
        clock = self.config.clock_share
        share = math.sqrt((1 - clock) / 2)
        times = dials(now + 1, CLOCK_SCALES) * math.sqrt(clock)
        return torch.cat([alone * share, evolved * share, times], -1)

    def wishes(self, alone: Tensor, now: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what queries ask for beside their content; decided by their text and the time.

        Args:
            alone: (N, H), read alone.
            now: (N,).

        Returns:
            (N, 1) in 0 .. 1, how much the reading in the light of the queue counts; (N, 1), the logit
            of whether the query asks for order; and (N, O), the coordinates of time that it asks for.
        """
        seen = torch.cat([alone * math.sqrt(alone.shape[-1]), dials(now, CLOCK_SCALES)], -1)
        asked = self.ask(seen.to(self.roles.dtype)).float()
        return torch.sigmoid(asked[:, :1] + self.config.lean), asked[:, 1:2], 4 * asked[:, 2:]

    def weighed(
        self, alone: Tensor, evolved: Tensor, now: Tensor, known: Tensor | None = None
    ) -> Tensor:
        """Put queries together, (N, D): their products with turns are of the size of cosines.

        A query that does not ask for order, by the logit of `wishes`, has no coordinates of time.
        `known`, (N,), says in training which ask for it, 1 or 0; NaN: as the logit has it.
        """
        share, asks, order = self.wishes(alone, now)
        strength = (2 * asks.sigmoid() - 1).clamp(min=0)
        if known is not None:
            strength = torch.where(known.isnan(), strength[:, 0], known)[:, None]
        size = math.sqrt(2 / (1 - self.config.clock_share))
        return torch.cat([alone * (1 - share), evolved * share, order * strength], -1) * size

    def query_vectors(self, alone: Tensor, evolved: Tensor, now: Tensor) -> Tensor:
        """Return `weighed` cut to unit length: (N, H), (N, H), (N,) to (N, D)."""
        return F.normalize(self.weighed(alone, evolved, now), dim=-1)

    def _upper(self) -> list[Layer]:
        return [cast(Layer, layer) for layer in self.layers[self.config.write_layer :]]


def _first_ages(config: MiniConfig) -> Tensor:
    """Return (1, 2, 1, turns): where the biases of training begin."""
    by_role = torch.tensor([-1.0, -3.0])  # TURN, QUERY
    return (by_role[:, None] - 0.3 * torch.arange(config.turns))[None, :, None] / AGE_SCALE


def _mean(x: Tensor, mask: Tensor) -> Tensor:
    """Return the direction of the mean of each text's token states, (N, T, H) to (N, H)."""
    weights = mask[..., None].float()
    return F.normalize((x * weights).sum(1) / weights.sum(1), dim=-1)


def dials(value: Tensor, scales: tuple[float, ...]) -> Tensor:
    """Write numbers (N,) as (N, 2 * scales), unit rows: a hand for each scale, from 0 to 90 degrees.

    Each coordinate is monotone in the number, so a dot product can ask for small or large ones.
    """
    scale = torch.tensor(scales, device=value.device)
    angle = value[:, None] / (value[:, None] + scale) * (math.pi / 2)
    return torch.cat([angle.cos(), angle.sin()], -1) / math.sqrt(len(scales))
