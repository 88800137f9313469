"""A service on a thread of this process: real HTTP over loopback."""

import asyncio
import inspect
import socket
import threading
from contextlib import contextmanager

import uvicorn

import evomem
from evomem.service.app import make_app
from evomem.service.connections import Connection
from evomem.service.settings import Settings


class Running:
    """An application that answers at `url`."""

    def __init__(self, settings):
        self.settings = settings
        self.app = make_app(settings)
        self.service = self.app.service
        self.socket = socket.create_server(("127.0.0.1", settings.port))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        config = uvicorn.Config(
            self.app, http=Connection, log_config=None, lifespan="on", access_log=False
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        while not self.server.started and self.thread.is_alive():
            self.thread.join(0.005)

    def _run(self):
        asyncio.run(self.server.serve(sockets=[self.socket]))

    def connect(self, key=None):
        return evomem.connect(self.url, key=key or "")

    @property
    def connections(self):
        """The server's sides of the connections that are open."""
        return list(self.server.server_state.connections)

    def stop(self):
        self.server.should_exit = True
        self.thread.join()
        self.socket.close()


@contextmanager
def running(**settings):
    """Run a service with the hashing encoder, in memory unless told otherwise."""
    service = Running(
        Settings(**{"database": ":memory:", "encoder": "hash", "port": 0, **settings})
    )
    try:
        yield service
    finally:
        service.stop()


def borrowed(module, *, without):
    """Return the tests of a module that ask a database, by name: to be run with one of a service.

    Those that open a database themselves are left out.
    """
    opens = {"location", "tmp_path", "fresh"}
    return {
        name: test
        for name, test in vars(module).items()
        if name.startswith("test_") and name not in without
        if not opens & set(inspect.signature(test).parameters)
    }
