"""Requests as values. A method is a generator that yields calls and receives the responses."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Coroutine, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from evomem.errors import InputError, ServiceError
from evomem.store import Namespace

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Call:
    """One request."""

    method: str
    path: str
    """Percent-encoded, from `/v1` on."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Query parameters; None values are left out."""
    body: bytes | Path | None = None
    """Bytes, or a file to send."""
    media_type: str = "application/json"
    into: Path | None = None
    """A file for the response body; None for JSON."""
    repeats: bool = True
    """Whether the request is idempotent."""


Steps = Generator[Call, Any, R]
"""Yields calls, receives the JSON of each response, and returns the method's result."""


class Caller(Protocol):
    """Makes calls."""

    def run(self, steps: Steps[R]) -> R:
        """Make all calls; return the method's result."""
        ...

    async def arun(self, steps: Steps[R], lane: Namespace | None = None) -> R:
        """Like `run`, without blocking the event loop; calls of one lane are made in order."""
        ...


class _Remote(Protocol):
    namespace: Namespace

    @property
    def _caller(self) -> Caller: ...


Self = TypeVar("Self", bound=_Remote)


def blocking(
    describe: Callable[Concatenate[Self, P], Steps[R]],
) -> Callable[Concatenate[Self, P], R]:
    """Create a method from its description."""

    @functools.wraps(describe)
    def call(self: Self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._caller.run(describe(self, *args, **kwargs))

    call.__name__ = describe.__name__.lstrip("_")
    return call


def awaiting(
    describe: Callable[Concatenate[Self, P], Steps[R]], *, write: bool = False
) -> Callable[Concatenate[Self, P], Coroutine[Any, Any, R]]:
    """Create the async form of a method from its description; writes keep the order of the calls."""

    @functools.wraps(describe)
    async def call(self: Self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        lane = self.namespace if write else None
        return await self._caller.arun(describe(self, *args, **kwargs), lane)

    call.__name__ = "a" + describe.__name__.lstrip("_")
    return call


def to_json(value: object) -> bytes:
    """Return a body. Raises `InputError` if the value is not plain JSON."""
    try:
        return json.dumps(value, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"this is not plain JSON, which a service takes: {error}") from error


def not_over_http(thing: str) -> ServiceError:
    """Return the error for an operation that does not work over HTTP."""
    return ServiceError(
        f"{thing} needs the database itself and does not work over HTTP: use evomem.open with the "
        "database's own location, on a machine that reaches it"
    )
