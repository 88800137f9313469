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
from torch.nn.utils.rnn import pad_sequence

from evomem.mini.model import Memory, MiniModel, bucket

Tokens = Sequence[int]
GROUP = 16  # texts of similar length that are padded together, at most
MOST = 1.125  # of a group's tokens, padding included
ENOUGH = 64  # tokens with which a matrix product runs at full speed


@dataclass(frozen=True, slots=True)
class Block:
    """Texts as the lower layers leave them: nothing of the past is in them yet."""

    groups: list[tuple[list[int], Tensor, Tensor | None]]
    """Rows, states (n, T, H) and mask (n, T) of texts of similar length; no mask, of the same."""
    back: Tensor
    """(N,) where each text is, counted through the groups."""
    latents: Tensor
    """(N, L, H)."""


def lower(model: MiniModel, texts: Sequence[Tokens], role: int, device: torch.device) -> Block:
    """Read texts alone and write their latents; `texts` holds at least one."""
    groups, written, order = [], [], []
    for rows, ids, mask in grouped(texts, device):
        x = model.lower(ids, mask, role)
        groups.append((rows, x, mask))
        written.append(model.write(x, mask))
        order += rows
    back = torch.tensor(order, device=device).argsort()
    return Block(groups, back, torch.cat(written)[back])


def upper_alone(model: MiniModel, block: Block) -> Tensor:
    """Read texts without any memory: content (N, H), unit rows."""
    return torch.cat([model.upper(x, mask, None)[0] for _, x, mask in block.groups])[block.back]


def queues_of(
    model: MiniModel, block: Block, pasts: Sequence[Tensor], counts: Sequence[int]
) -> list[Tensor]:
    """Put the turns of a block after the pasts of the memories that they belong to.

    Args:
        model: The network.
        block: Turns of several memories, one memory's after another's.
        pasts: What each has in its queue, as `MiniModel.show` gives it: (P, L, W), oldest first.
        counts: How many turns of the block are of each.

    Returns:
        (P + count, L, W) for each memory.
    """
    shown = torch.split(model.show(block.latents), list(counts))
    return [torch.cat(pair) for pair in zip(pasts, shown, strict=True)]


def upper_turns(
    model: MiniModel,
    block: Block,
    queues: Sequence[Tensor],
    counts: Sequence[int],
    now: Tensor,
    turns: int,
    place: Sequence[int] | None = None,
) -> tuple[Tensor, Tensor]:
    """Read the turns of several memories, alone and in the light of the ones before.

    Args:
        model: The network.
        block: The turns, consecutive ones of one memory after another's.
        queues: Of each memory; the block's own turns are in it (`queues_of`).
        counts: How many turns of the block are of each.
        now: (N,) how many turns were read before each.
        turns: How many earlier turns each may look at, at least 1.
        place: How many turns of its queue precede each; None where the block's turns are the
            queues' last.

    Returns:
        Contents (N, H) and evolved vectors (N, E), unit rows.
    """
    if place is None:
        starts = [len(queue) - count for queue, count in zip(queues, counts, strict=True)]
        place = [start + i for start, n in zip(starts, counts, strict=True) for i in range(n)]
    read, vectors = [], []
    for rows, alone, content, memory in _upper(model, block, queues, counts, place, now, turns):
        mentions = model.mentions(block.latents[rows], memory)
        read.append(alone)
        vectors.append(model.turn_vectors(content, memory.now, mentions))
    return torch.cat(read)[block.back], torch.cat(vectors)[block.back]


def upper_queries(
    model: MiniModel,
    block: Block,
    queues: Sequence[Tensor],
    counts: Sequence[int],
    now: Tensor,
    turns: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Read queries that are asked after the queues; arguments as in `upper_turns`.

    Returns:
        Contents (N, H), unit rows; evolved vectors (N, E), not of unit length; and (N, 1), how much
        of the latter is asked for.
    """
    place = [len(queue) for queue, n in zip(queues, counts, strict=True) for _ in range(n)]
    read, vectors, shares = [], [], []
    for _, alone, content, memory in _upper(model, block, queues, counts, place, now, turns):
        evolved, share = model.query_vectors(content, memory.now)
        read.append(alone)
        vectors.append(evolved)
        shares.append(share)
    return tuple(torch.cat(each)[block.back] for each in (read, vectors, shares))  # type: ignore[return-value]


def _upper(
    model: MiniModel,
    block: Block,
    queues: Sequence[Tensor],
    counts: Sequence[int],
    place: Sequence[int],
    now: Tensor,
    turns: int,
) -> Iterator[tuple[list[int], Tensor, Tensor, Memory]]:
    """Yield rows, both contents (n, H) and the memory of each group of texts.

    `place` says how many turns of its queue precede each text.
    """
    device = now.device
    owners = [memory for memory, count in enumerate(counts) for _ in range(count)]
    for rows, x, mask in block.groups:
        here = sorted({owners[row] for row in rows})
        seen = _side_by_side([queues[memory] for memory in here])
        at = torch.tensor([place[row] for row in rows], device=device)
        first, end = max(0, int(at.min()) - turns), int(at.max())
        age = at[:, None] - torch.arange(first, end, device=device)
        memory = Memory(
            seen[:, first:end].flatten(1, 2),
            torch.tensor([here.index(owners[row]) for row in rows], device=device),
            bucket(age, turns).repeat_interleave(seen.shape[2], 1),
            now[rows],
        )
        yield rows, *model.upper(x, mask, memory), memory


def _side_by_side(queues: Sequence[Tensor]) -> Tensor:
    """Return queues (P, L, W) as one tensor (m, P, L, W), padded at the end; of one, without copying."""
    return queues[0][None] if len(queues) == 1 else pad_sequence(list(queues), batch_first=True)


def grouped(
    texts: Sequence[Tokens], device: torch.device
) -> Iterator[tuple[list[int], Tensor, Tensor | None]]:
    """Yield rows, ids (N, T) and mask (N, T) of texts of similar length; no mask, of the same."""
    for rows in similar([len(text) for text in texts]):
        longest = len(texts[rows[-1]])
        if len(texts[rows[0]]) == longest:
            yield rows, torch.tensor([texts[row] for row in rows], device=device), None
            continue
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
