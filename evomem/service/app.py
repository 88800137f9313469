"""`make_app`: the service as an ASGI application; `from_environment` for servers that import it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress
from http import HTTPStatus
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

import evomem
from evomem.errors import EvomemError
from evomem.inspector.alone import Alone
from evomem.service import admin, inspection, memories, together, uploads
from evomem.service.endpoints import PROBLEMS, answer, check_root, service_of
from evomem.service.guard import Guard
from evomem.service.page import add_page
from evomem.service.problems import Problem, handle
from evomem.service.service import READY, Service
from evomem.service.settings import Settings

if TYPE_CHECKING:
    from evomem.service.mcp.http import McpEndpoint


_ARENA_MAX = -8  # M_ARENA_MAX of malloc.h


def from_environment() -> ASGIApp:
    """Create the application with the settings of `Settings.to_environment`, in a separate process."""
    _limit_arenas()
    return make_app(Settings.from_environment())


def _limit_arenas() -> None:
    """Keep glibc from giving each thread a heap, which would hold on to freed memory.

    Does nothing with another C library, or where `MALLOC_ARENA_MAX` says otherwise.
    """
    if "MALLOC_ARENA_MAX" not in os.environ:
        with suppress(AttributeError, OSError, TypeError):
            ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)


def make_app(settings: Settings) -> Guard:
    """Create the application. Its database is opened and closed with the server.

    Raises:
        StoreError: The keys cannot be read.
    """
    service = Service(settings)
    tools = _tools(service)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.open()
        try:
            async with tools.manager.run() if tools else nullcontext():
                yield
        finally:
            await service.close()

    app = FastAPI(
        title="evomem",
        version=evomem.__version__,
        description="Memories for agents. Errors are application/problem+json.",
        lifespan=lifespan,
        responses=PROBLEMS,
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,
        },  # its spans contain addresses
        docs_url=None,  # its page would load scripts from other sites
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
        redirect_slashes=False,
    )
    app.state.service = service
    app.state.alone = Alone()
    kinds: tuple[Any, ...] = (
        EvomemError,
        Problem,
        RequestValidationError,
        HTTPException,
        Exception,
    )
    for kind in kinds:
        app.add_exception_handler(kind, handle)
    for path in ("/mcp", "/mcp/{memory:path}"):  # first: routes are tried in order
        app.router.routes.append(Route(path, tools or no_tools, methods=["POST"]))
    app.add_api_route("/health/live", live, tags=["service"])
    app.add_api_route("/health/ready", ready, tags=["service"])
    if settings.metrics:
        app.add_api_route("/metrics", metrics, tags=["service"], response_class=PlainTextResponse)
    # inspection, memories, ... in this order: the path of a memory matches any path
    for part in (uploads, inspection, memories, together, admin):
        app.include_router(part.router)
    add_page(app)
    return Guard(app, service)


async def no_tools(request: Request) -> Response:
    """Return an error: the extra for the Model Context Protocol is missing."""
    raise Problem(
        HTTPStatus.NOT_IMPLEMENTED,
        "the service has no tools, since the extra [mcp] is not installed where it runs",
    )


async def live() -> dict[str, str]:
    """Report that the process responds, without any checks."""
    return {"status": "live"}


async def ready(request: Request) -> Response:
    """Report whether the database can be read."""
    service = service_of(request)
    try:
        await service.check()
    except (EvomemError, TimeoutError):
        raise Problem(
            HTTPStatus.SERVICE_UNAVAILABLE, "the database does not answer", retry=READY
        ) from None
    return answer({"status": "ready"})


async def metrics(request: Request) -> Response:
    """Return counts and times for Prometheus."""
    text, kind = check_root(request).metrics.text()
    return Response(text, media_type=kind)


def _tools(service: Service) -> McpEndpoint | None:
    if find_spec("mcp_types") is None:  # version 1 of the SDK lacks it
        return None
    from evomem.service.mcp.http import McpEndpoint

    return McpEndpoint(service)
