"""Texts through the small encoder's network, many at once; used at run time and in training.

The results do not depend on how texts are grouped, up to the order of floating-point sums.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from evomem.mini.model import Lengths, MiniModel

Tokens = Sequence[int]
PASS = 512  # tokens of one pass, unless one text has more; more rows in a product are not faster


def contents_of(
    model: MiniModel, texts: Sequence[Tokens], role: int, device: torch.device
) -> Tensor:
    """Read texts alone: (N, H), float32, unit rows, in their order."""
    if not texts:
        return torch.zeros(0, model.config.hidden, device=device)
    contents, order = [], []
    for indices, ids, lengths in packed(texts, device):
        contents.append(model(ids, lengths, role))
        order += indices
    return torch.cat(contents)[torch.tensor(order, device=device).argsort()]


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
