"""Errors as `application/problem+json` (RFC 9457): the fault, its location and the remedy.

Errors of the caller are described in full. Errors of the service go to its log; the caller learns
that it failed and whether to try again, but no path, address or text.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from evomem import errors
from evomem.service.wire import KIND

LOG = logging.getLogger("evomem.service")
MEDIA_TYPE = "application/problem+json"
GONE = 499  # nginx's code for a client that disconnected; it is never received
RETRY = 1  # seconds to wait before a retry if the database is busy or unreachable

_TOLD: tuple[tuple[type[errors.EvomemError], HTTPStatus], ...] = (
    (errors.AccessDenied, HTTPStatus.FORBIDDEN),
    (errors.DuplicateTurn, HTTPStatus.CONFLICT),
    (errors.SharedTurns, HTTPStatus.CONFLICT),
    (errors.InputError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (errors.NotFound, HTTPStatus.NOT_FOUND),
)
"""Errors whose messages are about what the caller sent."""
_BROKEN = (errors.DatabaseDamaged, errors.KeyMismatch, errors.EncoderError)
"""Errors of the store that no retry fixes; others, such as an unreachable database, may pass."""


class Problem(Exception):
    """An error response that is not an error of the engine."""

    def __init__(
        self, status: HTTPStatus, detail: str, *, retry: float | None = None, **more: Any
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.retry, self.more = status, detail, retry, more


class _Json(Response):
    media_type = MEDIA_TYPE


def answer(error: Exception) -> Response:
    """Return the response for an error; log the details that the caller may not see."""
    if isinstance(error, ClientDisconnect):
        return Response(status_code=GONE)
    if isinstance(error, Problem):
        denied = error.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
        name = "AccessDenied" if denied else "ServiceError"
        return _response(error.status, name, error.detail, error.retry, error.more)
    if isinstance(error, RequestValidationError):
        faults = [
            {"field": _field(fault["loc"]), "message": fault["msg"]} for fault in error.errors()
        ]
        detail = "; ".join(f"{fault['field']}: {fault['message']}" for fault in faults[:5])
        status = HTTPStatus.UNPROCESSABLE_ENTITY
        return _response(status, "InputError", f"{detail} (see /openapi.json)", faults=faults)
    if isinstance(error, HTTPException):
        status = HTTPStatus(error.status_code)
        response = _response(status, "ServiceError", f"{error.detail} (see /openapi.json)")
        response.headers.update(error.headers or {})
        return response
    for kind, status in _TOLD:
        if isinstance(error, kind):
            more = {"stored": error.stored} if hasattr(error, "stored") else {}
            return _response(status, type(error).__name__, str(error), None, more)
    _log(error)
    if isinstance(error, errors.ConnectionLost):
        detail = (
            "the database is away at the moment; what was being written is there as a whole or not "
            "at all: try again, with the same ids"
        )
        return _response(HTTPStatus.SERVICE_UNAVAILABLE, type(error).__name__, detail, RETRY)
    if isinstance(error, errors.StoreError) and not isinstance(error, _BROKEN):
        kind = errors.DatabaseBusy if isinstance(error, errors.DatabaseBusy) else errors.StoreError
        detail = "the database cannot be used at the moment; nothing was written; try again"
        return _response(HTTPStatus.SERVICE_UNAVAILABLE, kind.__name__, detail, RETRY)
    name = type(error).__name__ if isinstance(error, errors.EvomemError) else "ServiceError"
    detail = "the service failed; its log has the cause"
    return _response(HTTPStatus.INTERNAL_SERVER_ERROR, name, detail)


async def handle(_: Request, error: Exception) -> Response:
    """Return FastAPI's response for an error."""
    return answer(error)


def schema() -> dict[str, Any]:
    """Return the schema of a problem for the OpenAPI description."""
    text = {"type": "string"}
    return {
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {**text, "description": f"{KIND} and the name of an error of evomem.errors"},
            "title": text,
            "status": {"type": "integer"},
            "detail": {**text, "description": "what was wrong, and what to do about it"},
            "faults": {
                "type": "array",
                "items": {"type": "object", "properties": {"field": text, "message": text}},
            },
            "stored": {
                "type": "integer",
                "description": "number of the request's turns that are stored",
            },
        },
    }


def _response(
    status: HTTPStatus,
    name: str,
    detail: str,
    retry: float | None = None,
    more: Mapping[str, Any] | None = None,
    **also: Any,
) -> Response:
    body = {"type": KIND + name, "title": status.phrase, "status": int(status), "detail": detail}
    response = _Json(
        json.dumps({**body, **(more or {}), **also}), status
    )  # ASCII: messages may quote any character
    if retry is not None:
        response.headers["Retry-After"] = str(max(1, round(retry)))
    if status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _field(location: tuple[Any, ...]) -> str:
    names = [str(part) for part in location]
    return ".".join(
        names[1:] if len(names) > 1 and names[0] in ("body", "query", "path") else names
    )


def _log(error: Exception) -> None:
    """Log the error and its location, without messages that may quote texts."""
    message = f": {error}" if isinstance(error, errors.StoreError) else ""
    frames = "".join(traceback.format_tb(error.__traceback__))
    LOG.error("%s%s\n%s", type(error).__name__, message, frames)
