"""`evomem inspect`: the page for one database, on this machine, until Ctrl-C."""

from __future__ import annotations

import socket
import webbrowser
from collections.abc import Callable
from contextlib import suppress

import uvicorn

from evomem.service.access import RIGHTS, Access
from evomem.service.app import make_app
from evomem.service.connections import Connection
from evomem.service.session import Session
from evomem.service.settings import Settings

HOST = "127.0.0.1"
READING = ("read", "admin")
FINISH = 5  # seconds to finish requests after a signal to stop


def serve(settings: Settings, *, port: int, browse: bool, show: Callable[[str], None]) -> None:
    """Serve the page until a signal to stop.

    Args:
        settings: The service's settings; it only listens on this machine.
        port: The port; 0 for any free one.
        browse: Whether to open a browser.
        show: Called with the address, which works for the first visitor only.

    Raises:
        StoreError: The keys cannot be read.
    """
    guard = make_app(settings)
    rights = READING if settings.read_only else RIGHTS
    session = guard.service.session = Session(Access("inspect", (), frozenset(rights)))
    with socket.create_server((HOST, port)) as listener:
        url = f"http://{HOST}:{listener.getsockname()[1]}/#ticket={session.ticket}"

        def begin() -> None:
            show(url)
            if browse:
                webbrowser.open(url)

        config = uvicorn.Config(
            guard,
            http=Connection,
            access_log=False,
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=FINISH,
        )
        with suppress(KeyboardInterrupt):  # raised after uvicorn has stopped
            _Server(config, begin).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Calls `begin` once the database is open and requests are answered."""

    def __init__(self, config: uvicorn.Config, begin: Callable[[], None]) -> None:
        super().__init__(config)
        self._begin = begin

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._begin()
