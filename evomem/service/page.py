"""The page at `/`, and its files below `/page/`. They are public; what the page shows is not."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

import evomem.inspector
from evomem.service.endpoints import answer, service_of
from evomem.service.problems import Problem

FOLDER = Path(evomem.inspector.__file__).parent / "page"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",  # revalidated by its ETag
}


def is_public(path: str) -> bool:
    """Return whether a path belongs to the page or one of its files."""
    return path == "/" or path.startswith("/page/")


def add_page(app: FastAPI) -> None:
    """Add the page to the application."""
    hidden: dict[str, Any] = {"include_in_schema": False}
    app.add_api_route("/", index, response_class=FileResponse, **hidden)
    app.add_api_route("/page/ticket", redeem, methods=["POST"], **hidden)
    app.mount("/page", _Files(directory=FOLDER))


async def index() -> Response:
    """Return the page."""
    return FileResponse(FOLDER / "index.html", headers=HEADERS)


async def redeem(request: Request) -> Response:
    """Exchange the ticket of a link for a key, once."""
    session = service_of(request).session
    _, _, ticket = request.headers.get("authorization", "").partition(" ")
    key = session.redeem(ticket) if session else None
    if key is None:
        raise Problem(
            HTTPStatus.UNAUTHORIZED, "this link was used already: start evomem inspect again"
        )
    return answer({"key": key})


class _Files(StaticFiles):
    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(HEADERS)
        return response
