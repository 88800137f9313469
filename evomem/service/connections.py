"""Connections of the service: closed if the head of a request is too slow or too large.

uvicorn itself waits without limit for the first byte and the rest of a head; with httptools it
accepts heads of any size.
"""

from __future__ import annotations

import asyncio
import socket

from uvicorn.protocols.http.auto import AutoHTTPProtocol

HEAD = 30.0  # seconds for the head of a request, from the connection or from the head's first byte
HEAD_BYTES = 65_536
REST = 30.0  # seconds for the rest of a body whose request is answered
STALLED = 0.5  # seconds; if a timer fires later than this, the loop was busy and has bytes to read
_LATE = b"408 Request Timeout"
_LARGE = b"431 Request Header Fields Too Large"


class Connection(AutoHTTPProtocol):  # type: ignore[misc, valid-type]  # chosen at import
    """uvicorn's protocol (by httptools if installed, else by h11) with these limits."""

    head_seconds = HEAD
    rest_seconds = REST
    _timer: asyncio.TimerHandle | None = None
    _size = 0
    _in_body = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the limit for the first request."""
        super().connection_made(transport)
        _send_at_once(transport.get_extra_info("socket"))
        self._start(self.head_seconds)

    def data_received(self, data: bytes) -> None:
        """Receive bytes; the limit runs until the head is complete, even if bytes keep arriving."""
        super().data_received(data)
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and cycle.scope is self.scope:
            return self._stop()  # a request is being answered
        if self._body_is_open():
            self._size, seconds = 0, self.rest_seconds
        else:
            self._size, seconds = self._size + len(data), self.head_seconds
        if self._size > HEAD_BYTES:
            self._end(_LARGE)
        elif self._timer is None:
            self._start(seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the limit."""
        self._stop()
        super().connection_lost(exc)

    def on_headers_complete(self) -> None:
        """Note, for httptools, that a body begins."""
        self._in_body = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note, for httptools, that it has ended."""
        self._in_body = False
        super().on_message_complete()

    def _body_is_open(self) -> bool:
        if hasattr(self, "conn"):  # of h11
            return str(self.conn.their_state) == "SEND_BODY"
        return self._in_body

    def _start(self, seconds: float) -> None:
        due = self.loop.time() + seconds
        self._timer = self.loop.call_at(due, self._ring, due)

    def _ring(self, due: float) -> None:
        if self.loop.time() > due + STALLED:
            self._start(STALLED)
        else:
            self._end(_LATE)

    def _stop(self) -> None:
        self._size = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self, status: bytes) -> None:
        self._stop()
        if not self.transport.is_closing():
            if self.cycle is None or self.cycle.response_complete:
                head = b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
                self.transport.write(head)
            self.transport.close()


def _send_at_once(connection: socket.socket) -> None:
    """Let no body wait, for 40 ms, until its head was received.

    asyncio does so only for sockets that name their protocol, uvloop for all.
    """
    if connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
