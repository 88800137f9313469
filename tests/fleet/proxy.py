"""`Proxy`: a network between workers and a PostgreSQL server that can be cut at any message."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, urlsplit

Fate = Literal["pass", "cut", "swallow"]
"""Of a piece of data: forwarded; lost with its connection, as after a reset; or lost in silence, with
all that follows on this connection."""
Judge = Callable[[bool, bytes], Fate]
"""Decides the fate of a piece of data; the first argument says whether a worker sent it."""

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends a reset


def always(_: bool, __: bytes) -> Fate:
    """Let everything pass."""
    return "pass"


class Proxy:
    """Listens on a TCP port of this machine, and forwards to the Unix socket of a server."""

    def __init__(self, url: str) -> None:
        split = urlsplit(url)
        self._server = str(Path(parse_qs(split.query)["host"][0]) / ".s.PGSQL.5432")
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"postgresql://{split.username}@127.0.0.1:{self._listening.getsockname()[1]}{split.path}"
        self.judge: Judge = always
        self._guard = threading.Lock()
        self._links: list[tuple[socket.socket, socket.socket]] = []
        self._start(self._accept)

    def cut(self) -> None:
        """Close every connection."""
        with self._guard:
            links, self._links = self._links, []
        for link in links:
            _close(link)

    def close(self) -> None:
        """End everything."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                worker, _ = self._listening.accept()
                server = socket.socket(socket.AF_UNIX)
                try:
                    server.connect(self._server)
                except OSError:  # it restarts
                    _close((worker, server))
                    continue
                with self._guard:
                    self._links.append((worker, server))
                silent = threading.Event()
                self._start(self._forward, worker, server, True, silent)
                self._start(self._forward, server, worker, False, silent)

    def _forward(
        self, source: socket.socket, target: socket.socket, is_sent: bool, silent: threading.Event
    ) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if silent.is_set():
                    continue
                fate = self.judge(is_sent, data)
                if fate == "pass":
                    target.sendall(data)
                elif fate == "swallow":
                    silent.set()
                else:
                    break
        if not silent.is_set():  # nobody is told of the end of a connection that went silent
            _close((source, target))

    @staticmethod
    def _start(call: Callable[..., None], *arguments: object) -> None:
        threading.Thread(target=call, args=arguments, daemon=True).start()


def _close(link: tuple[socket.socket, socket.socket]) -> None:
    for end in link:
        with suppress(OSError):
            if end.family == socket.AF_INET:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            end.shutdown(socket.SHUT_RDWR)
        end.close()
