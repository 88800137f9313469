"""Async methods: the same code on a thread, never a second implementation."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from evomem.engine import Engine
from evomem.store import Namespace


class _OfEngine(Protocol):
    _engine: Engine
    namespace: Namespace


_CANCELLED = {
    False: "",
    True: (
        "\n\nIf the awaiting task is cancelled before the call has started, nothing is written. Once "
        "started, the call finishes on its thread even if the task is cancelled: its writes stay, and "
        "later writes to the memory wait for it. Turns with ids can be added again."
    ),
}

P = ParamSpec("P")
R = TypeVar("R")
Self = TypeVar("Self", bound=_OfEngine)


def async_method(
    method: Callable[Concatenate[Self, P], R], *, write: bool = False
) -> Callable[Concatenate[Self, P], Coroutine[Any, Any, R]]:
    """Return the async form of a method, which runs on a thread; writes to a memory keep their order."""

    async def call(self: Self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self._engine.run(
            functools.partial(method, self, *args, **kwargs), self.namespace if write else None
        )

    call.__name__ = f"a{method.__name__}"
    call.__doc__ = f"Do as `{method.__name__}`, without blocking the event loop.{_CANCELLED[write]}"
    return call
