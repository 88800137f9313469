"""The small encoder's network: MiniLM whose upper layers see a queue of earlier turns.

The lower layers read a text alone and write its latents. They need no memory, so the latents of a
whole history are computed at once, both in training and at run time. The upper layers read the same
text again with attention to the latents of earlier turns.

Shapes: N texts with R tokens in all, K latents in memory, H hidden units. The tokens of all texts are
the rows of one matrix, shortest text first, without padding: linear layers map all of them in one
product, and only attention treats texts of different lengths separately. States and latents have the
type of the weights; embeddings and counts are float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evomem.mini.config import CLOCK_SCALES, MENTION_SCALES, MiniConfig

TURN, QUERY = 0, 1
AGES = 16  # buckets for the age of a latent, two per doubling: up to 256 turns
UNSEEN = AGES  # the bucket of latents that a text cannot see
EPS = 1e-12  # epsilon of BERT's layer norms
Lengths = Sequence[tuple[int, int]]
"""(n, T) for each length T: the number of texts that have it. They are consecutive."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Queues of latents, and which of the latents each text may attend to."""

    seen: Tensor
    """(M, K, W), the latents of M memories as `MiniModel.show` gives them; padded at the end."""
    owner: Tensor
    """(N,) int64: the index of the memory that each text belongs to."""
    bucket: Tensor
    """(N, K) int64: the age of each latent (`bucket`), or `UNSEEN`."""
    now: Tensor
    """(N,) the number of turns read before each text."""

    def of_texts(self, seen: Tensor) -> Tensor:
        """Return the rows of `seen`, (M, ...), for each text: (N, ...); (1, ...) if there is one memory."""
        return seen if len(seen) == 1 else seen[self.owner]


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

    def forward(self, x: Tensor, lengths: Lengths) -> Tensor:
        """Map (R, H) to (R, H)."""
        mixed = []
        for qkv in by_length(self.qkv(x).view(len(x), 3, self.heads, -1), lengths):
            q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (n, heads, T, d) each
            attended = F.scaled_dot_product_attention(q, k, v)
            mixed.append(attended.transpose(1, 2).reshape(-1, x.shape[1]))
        x = self.norm(x + self.out(_concatenate(mixed)))
        return self.last_norm(x + self.shrink(self.grow(x)))  # type: ignore[no-any-return]


class Recall(nn.Module):
    """Cross-attention from a text's tokens to the queue. Its output is zero before training."""

    def __init__(self, config: MiniConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.query = nn.Linear(config.hidden, config.hidden)
        self.key = nn.Linear(config.hidden, config.hidden)
        self.value = nn.Linear(config.hidden, config.hidden)
        self.out = nn.Linear(config.hidden, config.hidden, bias=False)
        nn.init.zeros_(self.out.weight)
        self.nothing = nn.Parameter(torch.zeros(config.heads, config.hidden // config.heads))
        """A key whose value is zero: a head attends to it when nothing in the queue is relevant."""
        slope = torch.arange(config.heads) / config.heads
        self.age = nn.Parameter(-0.5 * slope[:, None] * torch.arange(AGES))
        """(heads, AGES): at first, some heads prefer recent turns, others none."""

    def look(self, latents: Tensor) -> Tensor:
        """Return the keys and values of latents (..., H): (..., 2 H)."""
        return torch.cat([self.key(latents), self.value(latents)], -1)

    def forward(self, x: Tensor, lengths: Lengths, seen: Tensor, memory: Memory) -> Tensor:
        """Map (R, H) to (R, H); `seen` is the result of `look`, (M, K, 2 H)."""
        keys_and_values = torch.unflatten(memory.of_texts(seen), -1, (2, self.heads, -1))
        pairs = keys_and_values.permute(2, 0, 3, 1, 4)  # (2, N or 1, heads, K, d)
        nothing = torch.stack([self.nothing, torch.zeros_like(self.nothing)])[:, None, :, None]
        pairs = torch.cat([pairs, nothing.expand(-1, pairs.shape[1], -1, -1, -1)], 3)
        k, v = pairs.expand(-1, len(memory.bucket), -1, -1, -1)
        unseen = self.age.new_full((self.heads, 1), -torch.inf)
        bias = torch.cat([self.age, unseen], 1)[:, memory.bucket].transpose(0, 1)  # (N, heads, K)
        bias = F.pad(bias, (0, 1))[:, :, None]
        counts = [count for count, _ in lengths]
        queries = by_length(self.query(x).view(len(x), self.heads, -1), lengths)
        mixed = []
        parts = (torch.split(tensor, counts) for tensor in (k, v, bias))
        for q, keys, values, ages in zip(queries, *parts, strict=True):
            attended = F.scaled_dot_product_attention(
                q.transpose(1, 2), keys, values, attn_mask=ages
            )
            mixed.append(attended.transpose(1, 2).reshape(-1, x.shape[1]))
        return x + self.out(_concatenate(mixed))  # type: ignore[no-any-return]


class Writer(nn.Module):
    """Pools a text's token states into L latents; the mean of all tokens before training."""

    def __init__(self, config: MiniConfig) -> None:
        super().__init__()
        self.look = nn.Parameter(torch.zeros(config.latents, config.hidden))
        self.project = nn.Linear(config.hidden, config.hidden)
        nn.init.eye_(self.project.weight)
        nn.init.zeros_(self.project.bias)
        self.norm = nn.LayerNorm(config.hidden)

    def forward(self, x: Tensor, lengths: Lengths) -> Tensor:
        """Map (R, H) to (N, L, H)."""
        scores = by_length(x @ self.look.T / math.sqrt(x.shape[-1]), lengths)  # (n, T, L)
        pooled = [
            weights.transpose(1, 2).softmax(-1) @ texts
            for weights, texts in zip(scores, by_length(x, lengths), strict=True)
        ]
        return self.norm(self.project(_concatenate(pooled)))  # type: ignore[no-any-return]


class MiniModel(nn.Module):
    """Maps tokens and memory to embeddings, in steps that training and inference combine."""

    def __init__(self, config: MiniConfig) -> None:
        super().__init__()
        self.config = config
        self.words = nn.Embedding(config.vocab, config.hidden)
        self.places = nn.Embedding(config.positions, config.hidden)
        self.roles = nn.Parameter(torch.zeros(2, config.hidden))
        self.norm = nn.LayerNorm(config.hidden, eps=EPS)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.write = Writer(config)
        # One before every upper layer, and one before pooling.
        self.recall = nn.ModuleList(
            Recall(config) for _ in range(config.layers - config.write_layer + 1)
        )
        self.match = nn.Linear(config.hidden, config.match)
        self.match_scale = nn.Parameter(torch.tensor(10.0))
        self.match_bar = nn.Parameter(torch.tensor(0.9))
        clock = 2 * len(CLOCK_SCALES)
        last = nn.Linear(128, config.order + 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.ask = nn.Sequential(nn.Linear(config.hidden + clock, 128), nn.GELU(), last)

    def lower(self, ids: Tensor, lengths: Lengths, role: int) -> Tensor:
        """Read texts alone: token ids (R,) to states (R, H)."""
        places = of_positions(self.places.weight, lengths)
        x: Tensor = self.norm(self.words(ids) + places + self.roles[role])
        for layer in self.layers[: self.config.write_layer]:
            x = layer(x, lengths)
        return x

    def show(self, latents: Tensor) -> Tensor:
        """Return latents (..., H) in the form that the upper layers read: (..., W).

        It holds the keys and values of every recall, and the key that identifies the subject.
        """
        looks = [recall.look(latents) for recall in self._recalls()]
        return torch.cat([*looks, F.normalize(self.match(latents), dim=-1)], -1)

    def upper(self, x: Tensor, lengths: Lengths, memory: Memory | None) -> tuple[Tensor, Tensor]:
        """Run the upper layers twice, without and with `memory`: states (R, H) to two (N, H).

        Both results have unit length. They share every pass, so that weights are read once; without
        a memory they are equal.
        """
        layers = self.layers[self.config.write_layer :]
        if memory is None or not memory.seen.shape[1]:
            for layer in layers:
                x = layer(x, lengths)
            alone = direction(x, lengths)
            return alone, alone
        alone = evolved = x
        *looks, _ = torch.split(memory.seen, self._widths(), -1)
        *recalls, last = self._recalls()
        both = [*lengths, *lengths] if len(lengths) > 1 else [(2 * n, t) for n, t in lengths]
        for layer, recall, look in zip(layers, recalls, looks, strict=False):
            stacked = layer(torch.cat([alone, recall(evolved, lengths, look, memory)]), both)
            alone, evolved = stacked.chunk(2)
        evolved = last(evolved, lengths, looks[-1], memory)
        return direction(alone, lengths), direction(evolved, lengths)

    def alike(self, latents: Tensor, others: Tensor) -> Tensor:
        """Return scores (N, K), positive where latents, (N, H) and (K, H), share a subject."""
        left = F.normalize(self.match(latents), dim=-1)
        right = F.normalize(self.match(others), dim=-1)
        return self.match_scale * (left @ right.T - self.match_bar)

    def mentions(self, latents: Tensor, memory: Memory) -> Tensor:
        """Return how many of the queue's turns share the subject of each turn, (N,).

        Args:
            latents: The latents of each turn, (N, L, H).
            memory: The queues; the first latent of each turn is compared.
        """
        step = self.config.latents
        subject = F.normalize(self.match(latents[:, 0]), dim=-1)[:, :, None]
        known = memory.of_texts(memory.seen[:, ::step, -self.config.match :])
        likeness = self.match_scale * ((known @ subject)[..., 0] - self.match_bar)
        return (likeness.float().sigmoid() * (memory.bucket[:, ::step] < UNSEEN)).sum(-1)

    def turn_vectors(self, content: Tensor, now: Tensor, mentions: Tensor) -> Tensor:
        """Combine an evolved turn's content (N, H), number (N,) and mentions (N,) to (N, E), unit rows."""
        clock, count = self.config.clock_share, self.config.mention_share
        parts = [
            content * math.sqrt(1 - clock - count),
            dials(now + 1, CLOCK_SCALES) * math.sqrt(clock),
            dials(mentions, MENTION_SCALES) * math.sqrt(count),
        ]
        return torch.cat(parts, -1)

    def query_vectors(self, content: Tensor, now: Tensor) -> tuple[Tensor, Tensor]:
        """Combine an evolved query's content (N, H) and time (N,) to (N, E), not of unit length.

        The coordinates of order encode which end of time the query asks for, and how strongly;
        they are zero before training. The second tensor, (N, 1) in 0 .. 1, is the query's weight of
        a turn's evolved reading.
        """
        seen = torch.cat([content * math.sqrt(content.shape[-1]), dials(now, CLOCK_SCALES)], -1)
        asked = self.ask(seen.to(self.roles.dtype)).float()
        share = torch.sigmoid(asked[:, -1:] + self.config.lean)
        return torch.cat([content, 4 * asked[:, :-1]], -1), share

    def both_turns(self, alone: Tensor, evolved: Tensor) -> Tensor:
        """Concatenate a turn's two readings, (N, H) and (N, E), to (N, D), unit rows.

        The content has the same weight in both.
        """
        order = self.config.clock_share + self.config.mention_share
        share = (1 - order) / (2 - order)
        return torch.cat([alone * math.sqrt(share), evolved * math.sqrt(1 - share)], -1)

    def both_queries(self, alone: Tensor, evolved: Tensor, share: Tensor) -> Tensor:
        """Weigh the two readings of a turn for a query: (N, H), (N, E), (N, 1) to (N, D), unit rows."""
        return F.normalize(self.weighed(alone, evolved, share), dim=-1)

    def weighed(self, alone: Tensor, evolved: Tensor, share: Tensor) -> Tensor:
        """Return `both_queries` before they are normalised.

        Their products with `both_turns` have the scale of cosines, which training needs.
        """
        order = self.config.clock_share + self.config.mention_share
        size = math.sqrt((2 - order) / (1 - order))
        return torch.cat([alone * (1 - share), evolved * share], -1) * size

    def _recalls(self) -> list[Recall]:
        return [cast(Recall, recall) for recall in self.recall]

    def _widths(self) -> list[int]:
        return [2 * self.config.hidden] * len(self.recall) + [self.config.match]


def by_length(x: Tensor, lengths: Lengths) -> list[Tensor]:
    """Return the texts of each length, (n, T, ...), as views of rows (R, ...)."""
    if len(lengths) == 1:
        return [x.view(*lengths[0], *x.shape[1:])]
    parts = torch.split(x, [count * length for count, length in lengths])
    return [torch.unflatten(part, 0, shape) for part, shape in zip(parts, lengths, strict=True)]


def of_positions(table: Tensor, lengths: Lengths) -> Tensor:
    """Return the row of a table of positions, (P, H), for each token: (R, H)."""
    return _concatenate([table[:length].repeat(count, 1) for count, length in lengths])


def direction(x: Tensor, lengths: Lengths) -> Tensor:
    """Return the direction of the mean of each text's token states, (R, H) to (N, H)."""
    means = [texts.mean(1) for texts in by_length(x.float(), lengths)]
    return F.normalize(_concatenate(means), dim=-1)


def _concatenate(parts: list[Tensor]) -> Tensor:
    """Concatenate along the first dimension; a single part is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def dials(value: Tensor, scales: tuple[float, ...]) -> Tensor:
    """Encode numbers (N,) as (N, 2 * scales), unit rows: an angle from 0 to 90 degrees for each scale.

    Each coordinate is monotone in the number, so a dot product can ask for small or large ones.
    """
    scale = torch.tensor(scales, device=value.device)
    angle = value[:, None] / (value[:, None] + scale) * (math.pi / 2)
    return torch.cat([angle.cos(), angle.sin()], -1) / math.sqrt(len(scales))


def bucket(age: Tensor, most: int) -> Tensor:
    """Return the buckets of ages in turns, two per doubling; `UNSEEN` outside 1 .. `most`."""
    buckets = (2 * age.clamp(min=1).float().log2()).long().clamp(max=AGES - 1)
    return buckets.masked_fill((age < 1) | (age > most), UNSEEN)
