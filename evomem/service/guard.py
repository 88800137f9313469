"""Checks of every request before its endpoint runs, and the log entry after it.

host and origin ─► room? ─► the page, or a key ─► its limits ─► body, bounded and in time ─► endpoint ─► notes
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Coroutine, Mapping
from http import HTTPStatus
from typing import Any

import anyio
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from evomem.service import direct
from evomem.service.access import EVERYTHING, Access
from evomem.service.page import is_public
from evomem.service.problems import GONE, Problem, answer
from evomem.service.service import Service

OPEN = ("/health/live", "/health/ready", "/openapi.json")
"""Paths that need no key."""
STREAMED = ("/turns/many", "/turns/replace", "/import", "/admin/load")
"""Endings of paths whose bodies are streamed to the endpoint."""
READS = ("/search", "/context", "/v1/together", "/inspect/map", "/inspect/alone", "/admin/verify")
"""Endings of paths with POST requests that write nothing."""
LOCAL = ("127.0.0.1", "localhost", "::1")
_Headers = Mapping[bytes, str]
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?", re.ASCII)


class Guard:
    """Wraps the application."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self.service = service
        settings = service.settings
        self._hosts = {*settings.names, *(LOCAL if settings.is_loopback else (settings.host,))}
        self._origins = set(settings.origins)
        self._is_local = settings.is_local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection or request."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        path = scope.get("raw_path", scope["path"].encode()).decode("latin-1").partition("?")[0]
        scope["path"] = path  # still encoded: a label may hold a slash
        request = _Request(scope, send)
        try:
            with self.service.span("request", method=scope["method"]):
                await self._serve(request, path, receive)
        except Exception as error:
            if isinstance(error, _Gone):
                return
            if not request.status:
                await answer(error)(scope, receive, request.send)
            elif not request.ended:
                raise
        finally:
            self._note(request)

    async def _serve(self, request: _Request, path: str, receive: Receive) -> None:
        if path in OPEN:
            return await self._app(request.scope, _no_body, request.send)
        pairs = [*request.scope["headers"]]
        # If a header is repeated, the first one counts.
        headers = {name: value.decode("latin-1") for name, value in reversed(pairs)}
        if len(headers) < len(pairs) and sum(name == b"host" for name, _ in pairs) > 1:
            raise Problem(HTTPStatus.BAD_REQUEST, "there are several Host headers: send one")
        self._check_host(headers)
        service = self.service
        with service.limits.admit():
            if is_public(path):
                return await self._app(request.scope, _Replayed(b""), request.send)
            access = request.access = await self._who(headers)
            request.scope["state"]["access"] = access
            if service.settings.read_only:
                _check_reads(request.scope["method"], path)
            with service.limits.admit_key(access.key):
                if path.endswith(STREAMED):
                    body = _Streamed(receive, service.settings.max_upload, self._patience)
                    return await self._app(request.scope, body, request.send)
                content = await self._whole_body(headers, receive)
                work = self._work(request, path, headers.get(b"content-type"), content)
                await self._until_gone(request, work, receive)

    @property
    def _patience(self) -> float:
        return self.service.settings.body_seconds

    def _check_host(self, headers: _Headers) -> None:
        """Refuse requests that another website could make the browser send (DNS rebinding)."""
        host = headers.get(b"host", "").lower()
        match = _HOST.fullmatch(host)
        if match is None or match[1].strip("[]") not in self._hosts:
            raise Problem(
                HTTPStatus.MISDIRECTED_REQUEST,
                f"this service has no host name {host[:100]!r}: use one of "
                f"{', '.join(sorted(self._hosts))}, or start it with --name",
            )
        origin = headers.get(b"origin")
        own = (None, f"http://{host}", f"https://{host}")
        if origin not in own and origin not in self._origins:
            raise Problem(
                HTTPStatus.FORBIDDEN,
                f"pages of {origin[:100]!r} may not call this service: start it with --origin",
            )

    async def _who(self, headers: _Headers) -> Access:
        service = self.service
        scheme, _, secret = headers.get(b"authorization", "").partition(" ")
        secret = headers.get(b"x-api-key", secret if scheme.lower() == "bearer" else "").strip()
        session = service.session
        if secret and session and (access := session.access_of(secret)):
            return access
        if secret:
            access = service.keys.remembered(secret) or await service.with_keys(
                service.keys.find, secret
            )
            if access is None:
                raise Problem(
                    HTTPStatus.UNAUTHORIZED,
                    "the key is unknown, expired or revoked: create one with evomem keys create",
                )
            return access
        is_open = self._is_local and (
            service.keys.remembered("") or not await service.with_keys(service.keys.any)
        )
        if session or not is_open:
            raise Problem(
                HTTPStatus.UNAUTHORIZED,
                "this needs a key: send it as Authorization: Bearer KEY, or as X-API-Key",
            )
        return EVERYTHING

    async def _whole_body(self, headers: _Headers, receive: Receive) -> bytes:
        """Return the whole body. Raises `Problem` if it is too large or too slow."""
        most = self.service.settings.max_body
        parts: list[bytes] = []
        room = most
        length = headers.get(b"content-length", "0")
        if length.isdecimal() and len(length) < 20 and int(length) > most:
            raise too_large(most)
        try:
            with anyio.fail_after(self._patience):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _Gone
                    parts.append(message.get("body", b""))
                    room -= len(parts[-1])
                    if room < 0:
                        raise too_large(most)
                    more = message.get("more_body", False)
        except TimeoutError:
            raise too_slow(self._patience) from None
        return b"".join(parts)

    async def _work(
        self, request: _Request, path: str, media_type: str | None, body: bytes
    ) -> None:
        """Respond to a request whose body has arrived."""
        scope = request.scope
        operation = direct.operation_of(scope["method"], path, media_type)
        if operation is None:
            return await self._app(scope, _Replayed(body), request.send)
        scope["app"] = self._app
        response = await direct.call(operation, Request(scope), path, body)
        await response(scope, _no_body, request.send)

    async def _until_gone(
        self, request: _Request, answering: Coroutine[Any, Any, None], receive: Receive
    ) -> None:
        """Respond, unless the client disconnects: then work that has not started is dropped."""
        own = asyncio.current_task()
        gone = asyncio.ensure_future(_disconnected(receive))

        def stop(_: asyncio.Future[None]) -> None:
            if (
                own and not request.ended
            ):  # after the response, finish the cleanup, such as removing files
                request.cancelled = own.cancel()

        gone.add_done_callback(stop)
        try:
            await answering
        except asyncio.CancelledError:
            if request.cancelled:
                raise _Gone from None
            raise
        finally:
            gone.remove_done_callback(stop)
            gone.cancel()

    def _note(self, request: _Request) -> None:
        status = GONE if request.cancelled and not request.status else request.status
        metrics, state = self.service.metrics, request.scope["state"]
        action = state.get("action") or getattr(request.scope.get("endpoint"), "__name__", "none")
        metrics.requests.labels(action, str(status)).observe(time.perf_counter() - request.began)
        metrics.in_flight.set(self.service.limits.in_flight)
        if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
            metrics.rejected.labels(str(status)).inc()
        if request.access is not None:
            self.service.note(
                request.access.key,
                action,
                state.get("memory", ()),
                state.get("count", 0),
                state.get("status", status),
            )


class _Request:
    """One request and its result."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.scope = scope
        self.scope["state"] = dict(scope.get("state") or {})
        self.access: Access | None = None
        self.status = 0
        self.cancelled = False
        self.ended = False
        self.began = time.perf_counter()
        self._send = send

    async def send(self, message: Message) -> None:
        """Forward a response, and record its status."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
        self.ended = message["type"] == "http.response.body" and not message.get("more_body")
        await self._send(message)


class _Gone(Exception):
    """The client disconnected."""


class _Replayed:
    """Replays a body that was already read."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body

    async def __call__(self) -> Message:
        """Return the body, then wait forever: the guard itself waits for the disconnect."""
        if self._body is None:
            await asyncio.Event().wait()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


class _Streamed:
    """Streams a body, as long as it arrives fast enough and is not too large."""

    def __init__(self, receive: Receive, most: int, patience: float) -> None:
        self._receive = receive
        self._most = self._room = most
        self._patience = patience
        self._ended = False

    async def __call__(self) -> Message:
        """Return the next chunk. Raises `Problem`."""
        if self._ended:
            return await self._receive()
        try:
            with anyio.fail_after(self._patience):
                message = await self._receive()
        except TimeoutError:
            raise too_slow(self._patience) from None
        self._room -= len(message.get("body", b""))
        if self._room < 0:
            raise too_large(self._most)
        self._ended = not message.get("more_body", False)
        return message


def too_large(most: int) -> Problem:
    """Return the error for a body or a line that is too large."""
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"the body, or one line of it, has more than {most:,} bytes: send it in parts",
    )


def too_slow(seconds: float) -> Problem:
    """Return the error for a body that does not arrive."""
    return Problem(
        HTTPStatus.REQUEST_TIMEOUT, f"the body did not arrive within {seconds:g} seconds"
    )


def _check_reads(method: str, path: str) -> None:
    """Refuse requests that could change something. Raises `Problem`."""
    if method not in ("GET", "HEAD") and not (method == "POST" and path.endswith(READS)):
        raise Problem(
            HTTPStatus.FORBIDDEN,
            "this page is read-only: start evomem inspect with --write",
        )


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _no_body() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}
