"""Calls over HTTP: retries, and two drivers, one synchronous, one asynchronous."""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import time
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

import httpx

from evomem._forking import reset_in_child
from evomem.client.calls import Call, Steps
from evomem.errors import AccessDenied, ConnectionLost, EvomemError, ServiceError
from evomem.service.wire import error_from_json
from evomem.store import Namespace

R = TypeVar("R")

ATTEMPTS = 6
PAUSE = 0.1  # seconds before the first retry, doubled before each further one
MAX_PAUSE = 30.0  # seconds between two attempts, even if the service asks for more
CHUNK_BYTES = 1 << 18
CONNECTIONS = 64  # open at a time; further calls wait
_BUSY = (429, 503)
"""Statuses of requests that changed nothing, except for `ConnectionLost`."""
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class _Response(NamedTuple):
    status: int
    headers: httpx.Headers
    content: bytes


_Outcome = _Response | httpx.TransportError | None
_Exchange = Generator[Call | float, _Outcome, R]
"""Yields calls to make and seconds to wait."""


class Transport:
    """Connections to one service. Safe for threads and event loops; usable after a fork."""

    def __init__(self, url: str, key: str | None, timeout: float, verify: bool | str) -> None:
        """Store the address of the service; connections are opened when needed.

        Raises:
            ServiceError: The URL is invalid, or the file contains no certificates.
        """
        try:
            parsed = httpx.URL(url)
        except (httpx.InvalidURL, TypeError) as error:
            raise ServiceError(f"{url!r:.200} is not a URL: {error}") from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ServiceError(
                f"{url!r:.200} is not the address of a service; write it like "
                "https://memory.example.com or http://127.0.0.1:8377"
            )
        if key is not None and not (key.isascii() and key.isprintable()):
            raise AccessDenied("the key is not one from evomem keys create")
        self.url = str(parsed).rstrip("/")
        self._options: dict[str, Any] = {
            "headers": {} if key is None else {"Authorization": f"Bearer {key}"},
            "timeout": timeout,
            "verify": _trusted(verify, parsed.scheme),
            # Keep all connections alive: httpcore's limit also counts busy ones, and closes the rest.
            "limits": httpx.Limits(
                max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS
            ),
        }
        self._make_clients()
        reset_in_child(self._make_clients)

    def run(self, steps: Steps[R]) -> R:
        """See `Caller.run`."""
        talk = self._exchange(steps)
        outcome: _Outcome = None
        try:
            while True:
                step = talk.send(outcome)
                outcome = None
                if isinstance(step, float):
                    time.sleep(step)
                else:
                    outcome = self._send(step)
        except StopIteration as end:
            result: R = end.value
            return result

    async def arun(self, steps: Steps[R], lane: Namespace | None = None) -> R:
        """See `Caller.arun`."""
        if lane is not None:
            lanes = self._lanes.setdefault(asyncio.get_running_loop(), WeakValueDictionary())
            async with lanes.setdefault(lane, asyncio.Lock()):  # serves waiting calls in order
                return await self.arun(steps)
        talk = self._exchange(steps)
        outcome: _Outcome = None
        try:
            while True:
                step = talk.send(outcome)
                outcome = None
                if isinstance(step, float):
                    await asyncio.sleep(step)
                else:
                    outcome = await self._asend(step)
        except StopIteration as end:
            result: R = end.value
            return result

    def close(self) -> None:
        """Close the connections of synchronous methods; harmless when repeated."""
        self._client.close()

    async def aclose(self) -> None:
        """Close these, and the connections of async methods in this event loop."""
        self.close()
        with suppress(KeyError):
            await self._clients.pop(asyncio.get_running_loop()).aclose()

    # ---------------------------------------------------------------------------------------

    def _make_clients(self) -> None:
        self._client = httpx.Client(**self._options)
        self._clients: WeakKeyDictionary[Any, httpx.AsyncClient] = WeakKeyDictionary()
        self._lanes: WeakKeyDictionary[Any, WeakValueDictionary[Namespace, asyncio.Lock]]
        self._lanes = WeakKeyDictionary()

    def _exchange(self, steps: Steps[R]) -> _Exchange[R]:
        """Make the calls of a method, each with retries."""
        try:
            call = next(steps)
            while True:
                try:
                    value = yield from self._retry(call)
                except EvomemError as error:
                    call = steps.throw(error)
                else:
                    call = steps.send(value)
        except StopIteration as end:
            result: R = end.value
            return result

    def _retry(self, call: Call) -> _Exchange[Any]:
        """Make a call, with retries if they are safe; return the JSON of its response."""
        for attempt in range(1, ATTEMPTS + 1):
            outcome = yield call
            pause = PAUSE * 2**attempt * random.uniform(0.5, 1)
            if isinstance(outcome, _Response):
                if outcome.status < 400:
                    return None if call.into else _json(outcome)
                error = _error(outcome)
                may_repeat = call.repeats or not isinstance(error, ConnectionLost)
                if outcome.status not in _BUSY or attempt == ATTEMPTS or not may_repeat:
                    raise error
                pause = max(pause, _seconds(outcome.headers))
            else:
                assert outcome is not None
                may_repeat = call.repeats and not isinstance(outcome, httpx.TimeoutException)
                if attempt == ATTEMPTS or not (may_repeat or isinstance(outcome, _UNSENT)):
                    raise ServiceError(
                        f"{self.url} cannot be reached ({type(outcome).__name__}: {outcome}); "
                        + (
                            "check that the service runs"
                            if may_repeat
                            else "it may have completed the request or not"
                        )
                    ) from outcome
            yield min(MAX_PAUSE, pause)
        raise AssertionError

    def _send(self, call: Call) -> _Outcome:
        body = _pieces(call.body) if isinstance(call.body, Path) else call.body
        try:
            with self._client.stream(**self._request(call), content=body) as response:
                if call.into and response.status_code < 400:
                    with call.into.open("wb") as file:
                        for piece in response.iter_bytes():
                            file.write(piece)
                    return _Response(response.status_code, response.headers, b"")
                return _Response(response.status_code, response.headers, response.read())
        except httpx.TransportError as error:
            return error

    async def _asend(self, call: Call) -> _Outcome:
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._clients[loop] = httpx.AsyncClient(**self._options)
        client = self._clients[loop]
        body = _apieces(call.body) if isinstance(call.body, Path) else call.body
        try:
            async with client.stream(**self._request(call), content=body) as response:
                if call.into and response.status_code < 400:
                    with call.into.open("wb") as file:
                        async for piece in response.aiter_bytes():
                            await asyncio.to_thread(file.write, piece)
                    return _Response(response.status_code, response.headers, b"")
                return _Response(response.status_code, response.headers, await response.aread())
        except httpx.TransportError as error:
            return error

    def _request(self, call: Call) -> dict[str, Any]:
        headers = {} if call.body is None else {"Content-Type": call.media_type}
        if call.path.startswith("/memories/"):
            headers["X-Session-Id"] = call.path.split("/")[2]  # one replica per memory
        return {
            "method": call.method,
            "url": f"{self.url}/v1{call.path}",
            "params": {name: value for name, value in call.params.items() if value is not None},
            "headers": headers,
        }


def _trusted(authorities: bool | str, scheme: str) -> ssl.SSLContext:
    """Return what checks certificates for all connections: loading authorities takes 50 ms."""
    if not isinstance(authorities, str):
        return httpx.create_ssl_context(verify=authorities and scheme == "https")
    try:
        return ssl.create_default_context(cafile=authorities)
    except (OSError, ssl.SSLError) as error:
        raise ServiceError(f"{authorities} has no certificates to trust: {error}") from error


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            yield piece


async def _apieces(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield piece


def _json(answer: _Response) -> Any:
    try:
        return json.loads(answer.content)
    except ValueError as error:
        raise ServiceError(
            f"the answer is not JSON ({answer.content[:60]!r}): is this the address of evomem serve?"
        ) from error


def _error(answer: _Response) -> EvomemError:
    try:
        value = json.loads(answer.content)
    except ValueError:
        value = None
    return error_from_json(value if isinstance(value, dict) else {}, answer.status)


def _seconds(headers: httpx.Headers) -> float:
    """Return the seconds of the header Retry-After, 0 if it is missing or invalid."""
    text = headers.get("retry-after", "")
    return float(text) if text.isdecimal() and len(text) < 7 else 0.0
