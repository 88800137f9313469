"""The most frequent calls, without FastAPI's work for every request.

They run the same endpoints with the same checks: the path's memory and right, then the body's fields.
Any other call goes to the application, which also describes these endpoints.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from evomem.service import memories, models
from evomem.service.endpoints import memory_with

START = "/v1/memories/"


class _Operation(NamedTuple):
    endpoint: Callable[..., Awaitable[Response]]
    memory: Callable[..., Awaitable[Any]]
    takes: type[BaseModel]


OPERATIONS = {
    "turns": _Operation(memories.add, memory_with("write"), models.NewTurn),
    "search": _Operation(memories.search, memory_with("read"), models.Search),
    "context": _Operation(memories.context, memory_with("read"), models.Ask),
}


def operation_of(method: str, path: str, media_type: str | None) -> _Operation | None:
    """Return the operation that a request asks for; None if it is not one of these."""
    if method != "POST" or media_type != "application/json" or not path.startswith(START):
        return None
    name, _, word = path[len(START) :].rpartition("/")
    return OPERATIONS.get(word) if name else None


async def call(operation: _Operation, request: Request, path: str, body: bytes) -> Response:
    """Return the response. Raises what the endpoint raises, and `RequestValidationError`."""
    request.scope["endpoint"] = operation.endpoint
    name = path[len(START) :].rpartition("/")[0]
    memory = await operation.memory(request, name)
    try:
        value = operation.takes.model_validate(json.loads(body))
    except ValidationError as error:
        faults = [{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors()]
        raise RequestValidationError(faults) from error
    except (ValueError, RecursionError) as error:
        fault = {"type": "json_invalid", "loc": ("body",), "msg": f"JSON decode error: {error}"}
        raise RequestValidationError([fault]) from error
    return await operation.endpoint(memory, value, request)
