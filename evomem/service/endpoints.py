"""Shared code of endpoints: the memory that a path names, and the required right."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, NamedTuple, cast

from fastapi import Depends, Path, Query, Request
from starlette.responses import Response

from evomem.errors import QueryError
from evomem.memory import Memory
from evomem.memory_view import MemoryView
from evomem.service import problems
from evomem.service.access import Access
from evomem.service.names import from_path, namespace_in_path
from evomem.service.service import Service

PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {
        "description": "A problem",
        "content": {problems.MEDIA_TYPE: {"schema": problems.schema()}},
    },
    "5XX": {
        "description": "A problem",
        "content": {problems.MEDIA_TYPE: {"schema": problems.schema()}},
    },
}
SAID = "with the turns said by then, ISO 8601 with a time zone"
ADDED = "with the turns added by then, ISO 8601 with a time zone"
NAME = "labels joined by slashes; a slash or a percent sign inside a label is written %2F or %25"


def service_of(request: Request) -> Service:
    """Return the service of a request."""
    return cast(Service, request.app.state.service)


def access_of(request: Request) -> Access:
    """Return the rights of a request."""
    return cast(Access, request.state.access)


def memory_with(right: str) -> Callable[..., Awaitable[Memory]]:
    """Return a dependency: the memory that the path names, if the key has `right` to it."""

    async def find(
        request: Request, memory: Annotated[str, Path(description=NAME, examples=["acme/alice"])]
    ) -> Memory:
        labels = namespace_in_path(memory)
        request.state.memory = labels
        access_of(request).check(right, labels)
        return service_of(request).db.memory(*labels)

    return find


Readable = Annotated[Memory, Depends(memory_with("read"))]
Writable = Annotated[Memory, Depends(memory_with("write"))]
Forgettable = Annotated[Memory, Depends(memory_with("forget"))]


async def _id(id: Annotated[str, Path(description="of the turn")]) -> str:
    return from_path(id)


Id = Annotated[str, Depends(_id)]


class Past(NamedTuple):
    """A point in the past, as requests name it."""

    at: int | str | None
    said: str | None
    added: str | None

    def of(self, memory: Memory) -> MemoryView:
        """Return the memory at this point; the memory itself if no limit is given."""
        seen: MemoryView = memory
        if self.at is not None:
            seen = seen.at(seq=self.at) if isinstance(self.at, int) else seen.at(time=self.at)
        if self.said is not None:
            seen = seen.at(time=self.said)
        if self.added is not None:
            seen = seen.at(added=self.added)
        return seen


async def _past(
    at: Annotated[str | None, Query(max_length=512, description="as of that turn or time")] = None,
    said: Annotated[str | None, Query(max_length=512, description=SAID)] = None,
    added: Annotated[str | None, Query(max_length=512, description=ADDED)] = None,
) -> Past:
    number = at is not None and at.isascii() and at.isdecimal() and len(at) < 20
    return Past(int(at) if at is not None and number else at, said, added)


Seen = Annotated[Past, Depends(_past)]


def condition(where: str | None) -> Mapping[str, Any] | None:
    """Return the metadata filter that a query holds as JSON. Raises `QueryError`."""
    if where is None:
        return None
    try:
        value = json.loads(where)
    except (ValueError, RecursionError) as error:
        raise QueryError(
            f'where is not JSON ({error}): write it like {{"topic": "travel"}}'
        ) from error
    if not isinstance(value, dict):
        raise QueryError(f"where must be a JSON object, got {type(value).__name__}")
    return value


def sources(labels: list[str] | None) -> list[str | None] | None:
    """Return the sources in a query, where "" stands for turns without one."""
    return None if labels is None else [label or None for label in labels]


def check_root(request: Request) -> Service:
    """Return the service if the key may administer the whole database. Raises `AccessDenied`."""
    access_of(request).check("admin", ())
    return service_of(request)


def answer(value: Any) -> Response:
    """Return plain JSON values that are known to be valid, without checking them again."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Response(text.encode("utf-8", "backslashreplace"), media_type="application/json")
