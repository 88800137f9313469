"""Texts through the small encoder's network, many at once; used at run time and in training.

The latents of a turn need no memory, so the latents of a whole block of turns are written first, and
then every turn is read with attention to earlier ones. The results do not depend on how texts are
grouped, up to the order of floating-point sums.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from evomem.mini.model import Lengths, Memory, MiniModel, bucket

Tokens = Sequence[int]
PASS = 512  # tokens of one pass, unless one text has more; more rows in a product are not faster


@dataclass(frozen=True, slots=True)
class Block:
    """The outputs of the lower layers for some texts; they do not depend on memory."""

    passes: list[tuple[list[int], Tensor, Lengths]]
    """The indices of each pass's texts, shortest first; their states (R, H), and their lengths."""
    back: Tensor
    """(N,) the position of each text in the concatenated passes."""
    latents: Tensor
    """(N, L, H)."""


def lower(model: MiniModel, texts: Sequence[Tokens], role: int, device: torch.device) -> Block:
    """Read texts alone and write their latents; `texts` holds at least one."""
    passes, latents, order = [], [], []
    for indices, ids, lengths in packed(texts, device):
        x = model.lower(ids, lengths, role)
        passes.append((indices, x, lengths))
        latents.append(model.write(x, lengths))
        order += indices
    back = torch.tensor(order, device=device).argsort()
    return Block(passes, back, torch.cat(latents)[back])


def upper_alone(model: MiniModel, block: Block) -> Tensor:
    """Read texts without any memory: content (N, H), unit rows."""
    contents = [model.upper(x, lengths, None)[0] for _, x, lengths in block.passes]
    return torch.cat(contents)[block.back]


def queues_of(
    model: MiniModel, block: Block, pasts: Sequence[Tensor], counts: Sequence[int]
) -> list[Tensor]:
    """Append the turns of a block to the queues of their memories.

    Args:
        model: The network.
        block: Turns of several memories, grouped by memory.
        pasts: The queue of each, as `MiniModel.show` returns it: (P, L, W), oldest first.
        counts: The number of the block's turns for each memory.

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
    """Read the turns of several memories, without and with their earlier turns.

    Args:
        model: The network.
        block: The turns, grouped by memory, in order.
        queues: The queue of each memory, including the block's turns (`queues_of`).
        counts: The number of the block's turns for each memory.
        now: (N,) the number of turns read before each.
        turns: The number of earlier turns that each may attend to, at least 1.
        place: The number of turns that precede each in its queue; None if the block's turns are the
            last ones of the queues.

    Returns:
        Contents (N, H) and evolved vectors (N, E), unit rows.
    """
    if place is None:
        starts = [len(queue) - count for queue, count in zip(queues, counts, strict=True)]
        place = [start + i for start, n in zip(starts, counts, strict=True) for i in range(n)]
    contents, vectors = [], []
    for rows, alone, content, memory in _upper(model, block, queues, counts, place, now, turns):
        mentions = model.mentions(block.latents[rows], memory)
        contents.append(alone)
        vectors.append(model.turn_vectors(content, memory.now, mentions))
    return torch.cat(contents)[block.back], torch.cat(vectors)[block.back]


def upper_queries(
    model: MiniModel,
    block: Block,
    queues: Sequence[Tensor],
    counts: Sequence[int],
    now: Tensor,
    turns: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Read queries at the end of the queues; arguments as in `upper_turns`.

    Returns:
        Contents (N, H), unit rows; evolved vectors (N, E), not of unit length; and (N, 1), the
        query's weight of the latter.
    """
    place = [len(queue) for queue, n in zip(queues, counts, strict=True) for _ in range(n)]
    contents, vectors, shares = [], [], []
    for _, alone, content, memory in _upper(model, block, queues, counts, place, now, turns):
        evolved, share = model.query_vectors(content, memory.now)
        contents.append(alone)
        vectors.append(evolved)
        shares.append(share)
    return tuple(torch.cat(parts)[block.back] for parts in (contents, vectors, shares))  # type: ignore[return-value]


def _upper(
    model: MiniModel,
    block: Block,
    queues: Sequence[Tensor],
    counts: Sequence[int],
    place: Sequence[int],
    now: Tensor,
    turns: int,
) -> Iterator[tuple[list[int], Tensor, Tensor, Memory]]:
    """Yield the indices, both contents (n, H) and the memory of each pass.

    `place` is the number of turns that precede each text in its queue.
    """
    device = now.device
    owners = [memory for memory, count in enumerate(counts) for _ in range(count)]
    for rows, x, lengths in block.passes:
        present = sorted({owners[row] for row in rows})
        seen = _side_by_side([queues[memory] for memory in present])
        at = torch.tensor([place[row] for row in rows], device=device)
        first, end = max(0, int(at.min()) - turns), int(at.max())
        age = at[:, None] - torch.arange(first, end, device=device)
        memory = Memory(
            seen[:, first:end].flatten(1, 2),
            torch.tensor([present.index(owners[row]) for row in rows], device=device),
            bucket(age, turns).repeat_interleave(seen.shape[2], 1),
            now[rows],
        )
        yield rows, *model.upper(x, lengths, memory), memory


def _side_by_side(queues: Sequence[Tensor]) -> Tensor:
    """Return queues (P, L, W) as one tensor (m, P, L, W), padded at the end; a single queue is not copied."""
    return queues[0][None] if len(queues) == 1 else pad_sequence(list(queues), batch_first=True)


def packed(
    texts: Sequence[Tokens], device: torch.device
) -> Iterator[tuple[list[int], Tensor, Lengths]]:
    """Divide texts into passes of at most `PASS` tokens, shortest texts first.

    Yields the indices of a pass's texts, the ids of all their tokens (R,), and their lengths.

    >>> for indices, ids, lengths in packed([[7] * 300, [8] * 200, [9] * 200], torch.device("cpu")):
    ...     print(indices, len(ids), lengths)
    [1, 2] 400 [(2, 200)]
    [0] 300 [(1, 300)]
    """
    for indices in _passes([len(text) for text in texts]):
        ids = torch.tensor([token for index in indices for token in texts[index]], device=device)
        counts = Counter(len(texts[index]) for index in indices)
        yield indices, ids, [(count, length) for length, count in counts.items()]


def _passes(lengths: Sequence[int]) -> Iterator[list[int]]:
    indices: list[int] = []
    total = 0
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        if indices and total + lengths[index] > PASS:
            yield indices
            indices, total = [], 0
        indices.append(index)
        total += lengths[index]
    if indices:
        yield indices
