"""`Device`, which holds copies of large shards, and `DeviceCopy`, one such copy.

A device names the rows that can be among the best: one product and one comparison over all that may
be found. The shard scores these again, so that scores, order and ties are those of the CPU. Whatever
a device fails at, the CPU does.
"""

from __future__ import annotations

import sys
import warnings

import numpy as np
import torch

from evomem.errors import StoreError
from evomem.state import Vectors
from evomem.store import Seqs
from evomem_stores.vectors.held import Held

ROWS = 10_000  # more are worth a copy (docs/measurements/scale.md)
SPARE = 4  # a copy that is full gets room for a fourth more than it needs
AT_ONCE = 2**16  # rows copied together
TF32 = 2**-8  # two scores, two factors each, all cut to 10 bits: as torch may be told to on a GPU


class Device:
    """Where torch searches large shards."""

    def __init__(self, name: str, *, rows: int = ROWS, max_bytes: int | None = None) -> None:
        """Find a device.

        Args:
            name: As torch has it: `"cuda"`, `"cuda:1"`.
            rows: Shards of more have a copy.
            max_bytes: Of copies; None for half of a GPU's memory, the rest is for an encoder, and
                for no limit elsewhere.

        Raises:
            StoreError: There is no such device, or torch cannot compute there.
        """
        self.name = name
        self.rows = rows
        try:
            self.place = torch.device(name)
            torch.ones(1, device=self.place).sum().item()
            if max_bytes is None and self.place.type == "cuda":
                max_bytes = torch.cuda.mem_get_info(self.place)[1] // 2
        except (RuntimeError, AssertionError) as error:  # an assertion, in builds without CUDA
            raise StoreError(
                f"index_device={name!r} cannot be used here ({_first_line(error)}): leave it out to "
                "search on the CPU, or install the build of torch that is made for your GPU"
            ) from error
        self.max_bytes = sys.maxsize if max_bytes is None else max_bytes
        self._warned = False

    def empty_copy(self) -> DeviceCopy:
        """Return a copy that has no rows yet."""
        return DeviceCopy(self)

    def failed(self, error: RuntimeError) -> None:
        """Warn once that the CPU takes over from the device."""
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"index_device={self.name!r} failed ({_first_line(error)}): the memory that was "
                "searched there, and others that fare so, are searched on the CPU from now on; a "
                "smaller index_bytes leaves more of the device to others",
                stacklevel=2,
            )


class DeviceCopy:
    """A copy of a shard's first rows on a device, until that fails. Not safe for threads."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._rows = torch.empty(0)
        self._count = 0
        self._failed = False

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """Bytes on the device."""
        return self._rows.nbytes

    def follow(self, held: Held) -> bool:
        """Copy the rows of a shard that are missing here; return whether all are here now."""
        if self._failed:
            return False
        count, dim = len(held), held.dim
        try:
            if count > len(self._rows):
                self._rows, self._count = torch.empty(0), 0  # make room first
                self._rows = _allocate(count + count // SPARE, dim, self._device)
            for start in range(self._count, count, AT_ONCE):
                end = min(start + AT_ONCE, count)
                new = np.array(held.between(start, end))  # torch warns of what cannot be written
                self._rows[start:end].copy_(torch.from_numpy(new))
        except RuntimeError as error:
            return self._give_up(error)
        self._count = count
        return True

    def narrow(
        self, places: Seqs, query: Vectors, k: int, slack: float, turns: Seqs | None = None
    ) -> Seqs | None:
        """Return those of `places` that include the `k` best turns; None if the device fails.

        Args:
            places: Ascending, and more than `k`.
            query: (D,) float32.
            k: At least 1.
            slack: What float32 sums can be off by, of two scores together.
            turns: Which turn each of `places` is of; None where no two are of the same.
        """
        first, last = int(places[0]), int(places[-1])
        try:
            scores = self._rows[first : last + 1] @ torch.tensor(query, device=self._device.place)
            if len(places) < len(scores):
                scores = scores[torch.from_numpy(places - first).to(self._device.place)]
            best = scores.topk(k)
            while turns is not None and len(np.unique(turns[best.indices.cpu().numpy()])) < k:
                if len(best.values) == len(scores):  # of fewer turns
                    return places
                best = scores.topk(min(4 * len(best.values), len(scores)))
            worst = best.values[-1]
            near = (scores >= worst - (TF32 + slack)).nonzero()[:, 0].cpu().numpy()
        except RuntimeError as error:
            self._give_up(error)
            return None
        narrowed: Seqs = places[near]
        return narrowed

    def fits(self, vectors: Vectors) -> bool:
        """Return whether the rows are those of `vectors`, (n, D)."""
        return np.array_equal(self._rows[: len(vectors)].cpu().numpy(), vectors)

    def _give_up(self, error: RuntimeError) -> bool:
        self._rows, self._count, self._failed = torch.empty(0), 0, True
        self._device.failed(error)
        return False


def _allocate(rows: int, dim: int, device: Device) -> torch.Tensor:
    return torch.empty((rows, dim), dtype=torch.float32, device=device.place)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
