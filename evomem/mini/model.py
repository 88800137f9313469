"""The small encoder's network: MiniLM, a context of the turns before, and coordinates of order.

A text is read alone. A turn's context is the direction of a weighted sum: its own embedding and those of
the turns before it, of which near and similar ones count most. Both are in the turn's embedding, with coordinates that encode when the
turn was said and how often its subject came up before. A query weighs the text against the context, and
its own coordinates of order encode which end of time it asks for.

So only the text costs time, and a whole history is read in parallel, in training and at run time.

Shapes: N texts with R tokens in all, H hidden units. The tokens of all texts are the rows of one matrix,
shortest text first, without padding: linear layers map all of them in one product, and only attention
treats texts of different lengths separately. States have the type of the weights; embeddings and counts
are float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evomem.mini.config import CLOCK_SCALES, MENTION_SCALES, MiniConfig

TURN, QUERY = 0, 1
EPS = 1e-12  # epsilon of BERT's layer norms
Lengths = Sequence[tuple[int, int]]
"""(n, T) for each length T: the number of texts that have it. They are consecutive."""


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


class MiniModel(nn.Module):
    """Maps tokens and earlier turns to embeddings, in steps that training and inference combine."""

    def __init__(self, config: MiniConfig) -> None:
        super().__init__()
        self.config = config
        self.words = nn.Embedding(config.vocab, config.hidden)
        self.places = nn.Embedding(config.positions, config.hidden)
        self.roles = nn.Parameter(torch.zeros(2, config.hidden))
        self.norm = nn.LayerNorm(config.hidden, eps=EPS)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.match = nn.Linear(config.hidden, config.match)
        self.match_scale = nn.Parameter(torch.tensor(10.0))
        self.match_bar = nn.Parameter(torch.tensor(0.9))
        last = nn.Linear(128, config.order)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        clock = 2 * len(CLOCK_SCALES)
        self.ask = nn.Sequential(nn.Linear(config.hidden + clock, 128), nn.GELU(), last)

    def forward(self, ids: Tensor, lengths: Lengths, role: int) -> Tensor:
        """Read texts alone: token ids (R,) to contents (N, H), float32, unit rows."""
        places = of_positions(self.places.weight, lengths)
        x: Tensor = self.norm(self.words(ids) + places + self.roles[role])
        for layer in self.layers:
            x = layer(x, lengths)
        return direction(x, lengths)

    def before(self, contents: Tensor, turns: int) -> Tensor:
        """Return the weighted sums of the turns before each of consecutive turns, (N, H).

        Turns count the more, the nearer and the more alike they are.

        Args:
            contents: (N, H), unit rows.
            turns: The length of the queue.
        """
        config = self.config
        total = torch.zeros_like(contents)
        for age in range(1, min(config.near, turns, len(contents) - 1) + 1):
            cosines = (contents[age:] * contents[:-age]).sum(-1, keepdim=True)
            weights = config.least + config.gain * (cosines - config.alike).clamp(min=0)
            total[age:] += config.fade ** (age - 1) * weights * contents[:-age]
        return total

    def subjects(self, contents: Tensor) -> Tensor:
        """Return the keys that identify the subjects of turns: (N, H) to (N, match), unit rows."""
        keys: Tensor = self.match(contents.to(self.roles.dtype))
        return F.normalize(keys.float(), dim=-1)

    def alike(self, subjects: Tensor, others: Tensor) -> Tensor:
        """Return scores (N, K), positive where keys (N, match) and (K, match) are of one subject."""
        return self.match_scale.float() * (subjects @ others.T - self.match_bar.float())

    def mentions(self, subjects: Tensor, turns: int) -> Tensor:
        """Return how many of the `turns` turns before each turn share its subject: (N, match) to (N,)."""
        places = torch.arange(len(subjects), device=subjects.device)
        age = places[:, None] - places
        return (self.alike(subjects, subjects).sigmoid() * ((age > 0) & (age <= turns))).sum(-1)

    def turn_vectors(
        self, contents: Tensor, before: Tensor, now: Tensor, mentions: Tensor
    ) -> Tensor:
        """Return the embeddings of turns: (N, D), unit rows.

        Args:
            contents: (N, H), unit rows.
            before: (N, H) the sums of the turns before them.
            now: (N,) the number of turns read before them.
            mentions: (N,) how many of these share their subject.
        """
        clock, count = self.config.clock_share, self.config.mention_share
        text = math.sqrt((1 - clock - count) / 2)
        parts = [
            contents * text,
            F.normalize(contents + before, dim=-1) * text,
            dials(now + 1, CLOCK_SCALES) * math.sqrt(clock),
            dials(mentions, MENTION_SCALES) * math.sqrt(count),
        ]
        return torch.cat(parts, -1)

    def asked(self, contents: Tensor, now: Tensor) -> Tensor:
        """Return the coordinates of order of queries: contents (N, H) and times (N,) to (N, order).

        They encode which end of time a query asks for, and how strongly; zero before training.
        """
        seen = torch.cat([contents * math.sqrt(contents.shape[-1]), dials(now, CLOCK_SCALES)], -1)
        order: Tensor = self.ask(seen.to(self.roles.dtype))
        return 4 * order.float()

    def query_vectors(self, contents: Tensor, asked: Tensor) -> Tensor:
        """Combine contents (N, H) and coordinates of order to (N, D), not of unit length.

        Products with `turn_vectors` are cosines of texts and contexts, weighted, plus what order adds.
        """
        share = self.config.context_share
        text = math.sqrt((1 - self.config.clock_share - self.config.mention_share) / 2)
        return torch.cat([contents * (1 - share), contents * share, asked], -1) / text


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
