"""The connections of a client."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import evomem

pytestmark = pytest.mark.enable_socket  # to a server of this process, on loopback
THREADS = 40


class _Together(BaseHTTPRequestHandler):
    """Answers when as many requests are there as there are threads."""

    protocol_version = "HTTP/1.1"
    timeout = 30
    barrier = threading.Barrier(THREADS, timeout=30)
    addresses: set[tuple[str, int]]

    def do_GET(self):
        self.addresses.add(self.client_address)
        self.barrier.wait()
        body = json.dumps({"memories": [], "turns": None, "next": None}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_threads_that_call_at_once_keep_their_connections():
    _Together.addresses = set()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Together)
    server.daemon_threads = True
    server.request_queue_size = THREADS
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with (
            evomem.connect(f"http://127.0.0.1:{server.server_port}") as db,
            ThreadPoolExecutor(THREADS) as threads,
        ):
            for _ in range(3):
                assert list(threads.map(lambda _: db.memories(), range(THREADS))) == [[]] * THREADS
        assert len(_Together.addresses) == THREADS
    finally:
        server.shutdown()
        server.server_close()
