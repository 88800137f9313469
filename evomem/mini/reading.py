"""Texts through the small encoder's network, many at once; used at run time and in training.

The latents of a turn need no memory, so those of a whole block of turns are written first and
every turn is then read in the light of the ones before it. What a text yields does not depend on
how texts are grouped, up to the order of floating-point sums.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from evomem.mini.model import QUERY, TURN, Memory, MiniModel

Tokens = Sequence[int]
GROUP = 16  # texts of similar length that are padded together


def read_turns(
    model: MiniModel, texts: Sequence[Tokens], past: Tensor, now: Tensor, turns: int
) -> tuple[Tensor, Tensor]:
    """Read consecutive turns.

    Args:
        model: The network.
        texts: Their tokens, at least one of each.
        past: (P, L, H), the latents of earlier turns, oldest first.
        now: (N,) how many turns were read before each.
        turns: How many earlier turns each may look at; 0 switches the memory off.

    Returns:
        Embeddings (N, D), unit rows, and latents (N, L, H).
    """
    groups = list(_groups(texts, past.device))
    states = [model.lower(ids, mask, TURN) for _, ids, mask in groups]
    written = [model.write(x, mask) for x, (_, _, mask) in zip(states, groups, strict=True)]
    back = torch.tensor([i for rows, _, _ in groups for i in rows], device=past.device).argsort()
    latents = torch.cat(written)[back]
    queue = torch.cat([past, latents])
    vectors = []
    for x, (rows, _, mask) in zip(states, groups, strict=True):
        place = len(past) + torch.tensor(rows, device=past.device)
        memory = _memory(queue, place, now[rows], turns)
        content = model.upper(x, mask, memory)
        mentions = model.mentions(latents[rows], memory)
        vectors.append(model.turn_vectors(content, memory.now, mentions))
    return torch.cat(vectors)[back], latents


def read_queries(
    model: MiniModel, texts: Sequence[Tokens], past: Tensor, now: float, turns: int
) -> Tensor:
    """Read queries asked after `past`: (Q, D), not of unit length; see `read_turns`."""
    vectors, order = [], []
    for rows, ids, mask in _groups(texts, past.device):
        place = torch.full((len(rows),), len(past), device=past.device)
        memory = _memory(past, place, past.new_full((len(rows),), now), turns)
        content = model.upper(model.lower(ids, mask, QUERY), mask, memory)
        vectors.append(model.query_vectors(content, memory.now))
        order += rows
    return torch.cat(vectors)[torch.tensor(order).argsort()]


def _memory(queue: Tensor, place: Tensor, now: Tensor, turns: int) -> Memory:
    """Lay the latents of turns, (P, L, H), side by side; only those that some text sees."""
    first, end = max(0, int(place.min()) - turns), int(place.max())
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
