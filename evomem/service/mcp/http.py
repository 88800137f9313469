"""The tools over streamable HTTP, within the service: at `/mcp`, for the memory of the key.

A key's prefix names the memory; `/mcp/{name}` is a memory below it. Tools that the key's rights do
not allow are not listed.
"""

from __future__ import annotations

from collections.abc import Collection
from http import HTTPStatus
from typing import cast

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import BaseModel
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from evomem.errors import AccessDenied
from evomem.memory import Memory
from evomem.service.endpoints import access_of
from evomem.service.mcp import shapes
from evomem.service.mcp.server import Request as Asked
from evomem.service.mcp.server import make_server
from evomem.service.mcp.table import Right, Tool
from evomem.service.names import from_path, split_name
from evomem.service.service import Service
from evomem.store import Namespace

DEFAULT = ("default",)
"""The memory of a key for all memories, the same as that of `evomem mcp`."""


class McpEndpoint:
    """An ASGI application for `/mcp` and `/mcp/{memory}`; `manager` has to run meanwhile."""

    def __init__(self, service: Service) -> None:
        self._service = service
        server = make_server(
            self._memory, secret=service.keys.secret(), rights=self._rights, note=self._note
        )
        self.manager = StreamableHTTPSessionManager(
            server,
            json_response=True,
            stateless=True,
            security_settings=TransportSecuritySettings(  # the guard has looked at both
                enable_dns_rebinding_protection=False
            ),
            max_request_body_size=service.settings.max_body,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one message of the protocol."""
        request = Request(scope)
        request.state.action = "mcp"
        access = access_of(request)
        labels = split_name(from_path(scope["path_params"].get("memory", "")))
        request.state.memory = labels = labels or access.prefix or DEFAULT
        if not access.covers(labels):
            access.check(sorted(access.rights)[0], labels)  # which raises
        await self.manager.handle_request(scope, receive, send)

    def _rights(self, asked: Asked) -> Collection[str]:
        return access_of(_request(asked)).rights

    async def _memory(self, asked: Asked, right: Right) -> Memory:
        """Return the memory of a request; the path and the key name it."""
        request = _request(asked)
        labels: Namespace = request.state.memory
        try:
            access_of(request).check(right, labels)
        except AccessDenied:
            request.state.status = HTTPStatus.FORBIDDEN  # for the access log
            raise
        return self._service.db.memory(*labels)

    def _note(self, asked: Asked, tool: Tool, result: BaseModel | None) -> None:
        """Store a call for the access log and the metrics."""
        state = _request(asked).state
        state.action = f"mcp {tool.name}"
        state.count = 0 if result is None else _turns(result)
        if isinstance(result, shapes.RememberOut):
            self._service.metrics.turns.inc()


def _request(asked: Asked) -> Request:
    return cast(Request, asked.request)


def _turns(result: BaseModel) -> int:
    """Return how many turns a call has added, returned or forgotten."""
    match result:
        case shapes.TurnsOut():
            return len(result.turns)
        case shapes.SearchOut():
            return len(result.results)
        case shapes.ForgetOut():
            return result.count if result.forgotten else 0
        case shapes.StatusOut():
            return 0
    return 1
