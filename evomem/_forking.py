"""Process forks: replaces inherited objects that a child cannot use.

A forked child has a copy of its parent's memory, but only the forking thread. A lock that another thread
held stays locked for ever, a thread pool has no threads, and connections belong to the parent. Objects
that hold any of these register here, and replace them in the child.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from typing import Any
from weakref import WeakMethod

from evomem.errors import EncoderError

_resets: dict[Callable[[], Callable[[], None] | None], None] = {}
"""References to the registered functions, in order; a reference to a method dies with its object."""


def reset_in_child(reset: Callable[[], None]) -> None:
    """Call `reset` in every process forked from this one, before anything else runs there.

    Args:
        reset: A function, or a method, which is only called while its object is alive. It runs as the
            only thread of the child, and must not wait for an inherited lock.
    """
    if inspect.ismethod(reset):
        _resets[WeakMethod(reset, lambda dead: _resets.pop(dead, None))] = None
    else:
        _resets[lambda: reset] = None


def _reset() -> None:
    for reference in list(_resets):
        reset = reference()
        if reset is not None:
            reset()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no forks
    os.register_at_fork(after_in_child=_reset)


class TorchForks:
    """Keeps a torch model from hanging, or failing with an obscure error, in a forked child.

    OpenMP's threads do not survive a fork, and the forking thread would wait for them: so torch uses
    one thread in the child. A device's memory cannot be used in the child.
    """

    def __init__(self, device: Any) -> None:
        """Guard a model on `device`, a `torch.device`."""
        self._on_cpu = device.type == "cpu"
        self._device = device
        self._process = os.getpid()
        reset_in_child(self._use_one_thread)

    def check(self) -> None:
        """Raise `EncoderError` if the model is on a device and was loaded before a fork."""
        if not self._on_cpu and self._process != os.getpid():
            raise EncoderError(
                f"the encoder was loaded on {self._device} before this process was forked, and "
                "cannot be used here: open the database after the fork, in each process"
            )

    def _use_one_thread(self) -> None:
        # Even if torch reports one thread: this also sets MKL's own number of threads.
        sys.modules["torch"].set_num_threads(1)
