"""Texts through the small encoder's network, many at once; used at run time and in training.

The latents of a turn need no memory, so those of a whole block of turns are written first and
every turn is then read in the light of the ones before it. What a text yields does not depend on
how texts are grouped, up to the order of floating-point sums.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from evomem.mini.model import Memory, MiniModel

Tokens = Sequence[int]
GROUP = 16  # texts of similar length that are padded together


@dataclass(frozen=True, slots=True)
class Block:
    """Texts as the lower layers leave them: nothing of the past is in them yet."""

    groups: list[tuple[list[int], Tensor, Tensor]]
    """Rows, states (n, T, H) and mask (n, T) of texts of similar length."""
    back: Tensor
    """(N,) where each text is, counted through the groups."""
    latents: Tensor
    """(N, L, H)."""


def lower(model: MiniModel, texts: Sequence[Tokens], role: int, device: torch.device) -> Block:
    """Read texts alone and write their latents; `texts` holds at least one."""
    groups, written, order = [], [], []
    for rows, ids, mask in _groups(texts, device):
        x = model.lower(ids, mask, role)
        groups.append((rows, x, mask))
        written.append(model.write(x, mask))
        order += rows
    back = torch.tensor(order, device=device).argsort()
    return Block(groups, back, torch.cat(written)[back])


def upper_turns(model: MiniModel, block: Block, past: Tensor, now: Tensor, turns: int) -> Tensor:
    """Read consecutive turns in the light of the ones before.

    Args:
        model: The network.
        block: The turns.
        past: (P, L, H), the latents of earlier turns, oldest first.
        now: (N,) how many turns were read before each.
        turns: How many earlier turns each may look at; 0 switches the memory off.

    Returns:
        Evolved vectors (N, E), unit rows.
    """
    queue = torch.cat([past, block.latents])
    vectors = []
    for rows, x, mask in block.groups:
        place = len(past) + torch.tensor(rows, device=past.device)
        memory = _memory(queue, place, now[rows], turns)
        content = model.upper(x, mask, memory)
        mentions = model.mentions(block.latents[rows], memory)
        vectors.append(model.turn_vectors(content, memory.now, mentions))
    return torch.cat(vectors)[block.back]


def upper_queries(
    model: MiniModel, block: Block, past: Tensor, now: float, turns: int
) -> tuple[Tensor, Tensor]:
    """Read queries asked after `past`: (Q, E), not of unit length, and (Q, 1); see `upper_turns`."""
    vectors, shares = [], []
    for rows, x, mask in block.groups:
        place = torch.full((len(rows),), len(past), device=past.device)
        memory = _memory(past, place, past.new_full((len(rows),), now), turns)
        found, share = model.query_vectors(model.upper(x, mask, memory), memory.now)
        vectors.append(found)
        shares.append(share)
    return torch.cat(vectors)[block.back], torch.cat(shares)[block.back]


def upper_alone(model: MiniModel, block: Block) -> Tensor:
    """Read texts without any memory: content (N, H), unit rows."""
    nothing = block.latents[:0].flatten(0, 1)
    vectors = []
    for rows, x, mask in block.groups:
        age = torch.zeros(len(rows), 0, dtype=torch.long, device=nothing.device)
        vectors.append(model.upper(x, mask, Memory(nothing, age, nothing.new_zeros(len(rows)))))
    return torch.cat(vectors)[block.back]


def _memory(queue: Tensor, place: Tensor, now: Tensor, turns: int) -> Memory:
    """Lay the latents of turns, (P, L, H), side by side; only those that some text sees."""
    end = int(place.max())
    first = max(0, int(place.min()) - turns) if turns else end
    age = place[:, None] - torch.arange(first, end, device=place.device)
    age = torch.where(age <= turns, age, 0)
    step = queue.shape[1]
    return Memory(queue[first:end].flatten(0, 1), age.repeat_interleave(step, 1), now)


def _groups(
    texts: Sequence[Tokens], device: torch.device
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Yield rows, ids (N, T) and mask (N, T) of texts of similar length."""
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    for start in range(0, len(order), GROUP):
        rows = order[start : start + GROUP]
        longest = len(texts[rows[-1]])
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        for at, row in enumerate(rows):
            ids[at, : len(texts[row])] = torch.tensor(texts[row])
        lengths = torch.tensor([len(texts[row]) for row in rows])
        mask = torch.arange(longest) < lengths[:, None]
        yield rows, ids.to(device), mask.to(device)
