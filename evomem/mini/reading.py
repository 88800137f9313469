"""Texts through the small encoder's network, many at once; used at run time and in training.

The latents of a turn need no memory, so those of a whole block of turns are written first and
every turn is then read in the light of the ones before it. What a text yields does not depend on
how texts are grouped, up to the order of floating-point sums.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from evomem.mini.model import Memory, MiniModel

Tokens = Sequence[int]
GROUP = 16  # texts of similar length that are padded together, at most
MOST = 1.125  # of a group's tokens, padding included
ENOUGH = 64  # tokens with which a matrix product runs at full speed


@dataclass(frozen=True, slots=True)
class Block:
    """Texts as the lower layers leave them: nothing of the past is in them yet."""

    groups: list[tuple[list[int], Tensor, Tensor]]
    """Rows, states (n, T, H) and mask (n, T) of texts of similar length."""
    back: Tensor
    """(N,) where each text is, counted through the groups."""
    latents: Tensor
    """(N, L, H)."""
    role: int


def lower(model: MiniModel, texts: Sequence[Tokens], role: int, device: torch.device) -> Block:
    """Read texts alone and write their latents; `texts` holds at least one."""
    groups, written, order = [], [], []
    for rows, ids, mask in _groups(texts, device):
        x = model.lower(ids, mask, role)
        groups.append((rows, x, mask))
        written.append(stored(model.write(x, mask)))
        order += rows
    back = torch.tensor(order, device=device).argsort()
    return Block(groups, back, torch.cat(written)[back], role)


def stored(latents: Tensor) -> Tensor:
    """Return latents as the log keeps them, in half precision: later turns see nothing finer."""
    return latents + (latents.half().to(latents.dtype) - latents).detach()


def upper_alone(model: MiniModel, block: Block) -> Tensor:
    """Read texts without any memory: content (N, H), unit rows."""
    read = [model.upper(x, mask, block.role, None)[0] for _, x, mask in block.groups]
    return torch.cat(read)[block.back]


def show(model: MiniModel, latents: Tensor) -> Tensor:
    """Return latents (P, L, H) as the upper layers look at them, (P, L, W + 1).

    The last number says whether there is a latent: a text of few tokens leaves zeros in the place of
    the others.
    """
    there = latents.any(-1, keepdim=True).to(latents.dtype)
    return torch.cat([model.show(latents), there], -1)


def queues_of(
    model: MiniModel, block: Block, pasts: Sequence[Tensor], counts: Sequence[int]
) -> list[Tensor]:
    """Put the turns of a block behind the pasts of the memories that they belong to.

    Args:
        model: The network.
        block: Turns of several memories, one memory's after another's.
        pasts: What each has in its queue, as `show` gives it: (P, L, W + 1), oldest first.
        counts: How many turns of the block are of each.

    Returns:
        (P + count, L, W + 1) for each memory.
    """
    shown = torch.split(show(model, block.latents), list(counts))
    return [torch.cat(pair) for pair in zip(pasts, shown, strict=True)]


def upper(
    model: MiniModel,
    block: Block,
    queues: Sequence[Tensor],
    owners: Sequence[int],
    places: Sequence[int],
    turns: int,
) -> tuple[Tensor, Tensor]:
    """Read texts twice, alone and in the light of the turns before them.

    Args:
        model: The network.
        block: The texts.
        queues: Of each memory (`queues_of`).
        owners: (N) which of the memories each text belongs to.
        places: (N) how many turns of its queue stand before each text.
        turns: How many earlier turns each may look at, at least 1.

    Returns:
        Two contents, (N, H) each, unit rows.
    """
    starts = [0, *accumulate(len(queue) for queue in queues)]
    everything = torch.cat(list(queues))
    device = everything.device
    place = torch.tensor(places, device=device)
    first = torch.tensor([starts[owner] for owner in owners], device=device)
    alone, evolved = [], []
    for rows, x, mask in block.groups:
        at = place[rows]
        length = min(turns, int(at.max()))
        before = at[:, None] - torch.arange(1, length + 1, device=device)  # (n, P), newest first
        seen = everything[
            (first[rows][:, None] + before.clamp(min=0)).clamp(max=len(everything) - 1)
        ]
        there = (seen[..., -1] > 0) & (before >= 0)[..., None]
        one, other = model.upper(x, mask, block.role, Memory(seen[..., :-1], there))
        alone.append(one)
        evolved.append(other)
    return torch.cat(alone)[block.back], torch.cat(evolved)[block.back]


def _groups(
    texts: Sequence[Tokens], device: torch.device
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Yield rows, ids (N, T) and mask (N, T) of texts of similar length."""
    for rows in similar([len(text) for text in texts]):
        longest = len(texts[rows[-1]])
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        for at, row in enumerate(rows):
            ids[at, : len(texts[row])] = torch.tensor(texts[row])
        lengths = torch.tensor([len(texts[row]) for row in rows])
        mask = torch.arange(longest) < lengths[:, None]
        yield rows, ids.to(device), mask.to(device)


def similar(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Group texts by length, shortest first, so that padding is a small part of the work.

    A group is closed when it is full, or when the next text would make more than an eighth of it
    padding and it is large enough to use the processor well as it is.

    >>> list(similar([50, 48, 52, 51, 200]))
    [[1, 0, 3, 2], [4]]
    """
    rows: list[int] = []
    total = 0
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row]):
        padded = lengths[row] * (len(rows) + 1)
        wasteful = total >= ENOUGH and padded > (total + lengths[row]) * MOST
        if rows and (len(rows) >= GROUP or wasteful):
            yield rows
            rows, total = [], 0
        rows.append(row)
        total += lengths[row]
    if rows:
        yield rows
