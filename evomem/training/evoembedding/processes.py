"""The processes that train one model: several under `accelerate launch`, otherwise one."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor

from evomem._extras import require


class Processes:
    """This process and its group."""

    def __init__(self, device: str | None) -> None:
        """Join the other processes, if there are any.

        Args:
            device: Such as `"cpu"`; by default each process's own GPU, if there are any.

        Raises:
            MissingExtra: There are several processes, but `accelerate` is not installed.
        """
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = 0
        self.device = device
        if self.count > 1:
            self._accelerate = require("accelerate", extra="train")
            self._state = self._accelerate.PartialState(cpu=device == "cpu")
            self.rank, self.device = self._state.process_index, str(self._state.device)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over all processes; float32, on the device of this process."""
        if self.count == 1:
            return
        # One message instead of one per gradient.
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        flat = self._accelerate.utils.reduce(flat, "mean")
        for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def wait(self) -> None:
        """Wait for all processes."""
        if self.count > 1:
            self._state.wait_for_everyone()

    def leave(self) -> None:
        """Leave the group."""
        if self.count > 1:
            self._state.destroy_process_group()
