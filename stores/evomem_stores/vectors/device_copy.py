"""`Device`, which holds copies of large shards, and `DeviceCopy`, one such copy.

A device narrows a search to the rows that can be among the best, with one product and one comparison
over all candidates. The shard rescores these rows, so that scores, order and ties equal those of the
CPU. If a device fails, the CPU takes over.
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

MIN_ROWS = 10_000  # larger shards are copied (docs/measurements/scale.md)
SPARE_PART = 4  # a copy that grows is allocated with a quarter of spare rows
ROWS_PER_COPY = 2**16  # rows copied together
TF32_ERROR = 2**-8  # error of two scores of factors cut to 10 bits, a setting of torch on GPUs


class Device:
    """Where torch searches large shards."""

    def __init__(self, name: str, *, rows: int = MIN_ROWS, max_bytes: int | None = None) -> None:
        """Find a device.

        Args:
            name: As torch has it: `"cuda"`, `"cuda:1"`.
            rows: Larger shards are copied to the device.
            max_bytes: Bytes of all copies; None for half of a GPU's memory, which leaves the rest to
                an encoder, and for no limit on other devices.

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
                "search on the CPU, or install the build of torch for your GPU"
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
                f"index_device={self.name!r} failed ({_first_line(error)}): memories whose search fails "
                "there are searched on the CPU instead; a smaller index_bytes leaves more of the "
                "device to other uses",
                stacklevel=2,
            )


class DeviceCopy:
    """A copy of a shard's first rows on a device, dropped when the device fails. Not safe for threads."""

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
        """Copy a shard's missing rows to the device; return whether it has all rows."""
        if self._failed:
            return False
        count, dim = len(held), held.dim
        try:
            if count > len(self._rows):
                self._rows, self._count = torch.empty(0), 0  # make room first
                self._rows = _allocate(count + count // SPARE_PART, dim, self._device)
            for start in range(self._count, count, ROWS_PER_COPY):
                end = min(start + ROWS_PER_COPY, count)
                new = np.array(held.between(start, end))  # torch warns of read-only arrays
                self._rows[start:end].copy_(torch.from_numpy(new))
        except RuntimeError as error:
            return self._give_up(error)
        self._count = count
        return True

    def narrow(
        self, places: Seqs, query: Vectors, k: int, slack: float, turns: Seqs | None = None
    ) -> Seqs | None:
        """Return the part of `places` that includes the `k` best turns; None if the device fails.

        Args:
            places: Ascending, and more than `k`.
            query: (D,) float32.
            k: At least 1.
            slack: The greatest rounding error of two float32 scores together.
            turns: The turn of each of `places`; None if every row is of another turn.
        """
        first, last = int(places[0]), int(places[-1])
        try:
            scores = self._rows[first : last + 1] @ torch.tensor(query, device=self._device.place)
            if len(places) < len(scores):
                scores = scores[torch.from_numpy(places - first).to(self._device.place)]
            best = scores.topk(k)
            while turns is not None and len(np.unique(turns[best.indices.cpu().numpy()])) < k:
                if len(best.values) == len(scores):  # there are fewer than k turns
                    return places
                best = scores.topk(min(4 * len(best.values), len(scores)))
            worst = best.values[-1]
            near = (scores >= worst - (TF32_ERROR + slack)).nonzero()[:, 0].cpu().numpy()
        except RuntimeError as error:
            self._give_up(error)
            return None
        narrowed: Seqs = places[near]
        return narrowed

    def fits(self, vectors: Vectors) -> bool:
        """Return whether the rows equal `vectors`, (n, D)."""
        return np.array_equal(self._rows[: len(vectors)].cpu().numpy(), vectors)

    def _give_up(self, error: RuntimeError) -> bool:
        self._rows, self._count, self._failed = torch.empty(0), 0, True
        self._device.failed(error)
        return False


def _allocate(rows: int, dim: int, device: Device) -> torch.Tensor:
    return torch.empty((rows, dim), dtype=torch.float32, device=device.place)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
