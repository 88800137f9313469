"""The network between workers and their database is cut: nothing acknowledged is lost, doubled or reordered."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest

import evomem
from evomem.errors import ConnectionLost, EvomemError
from evomem_stores.database import postgresql
from tests.fleet.proxy import Fate, Proxy, always
from tests.stores.helpers import ENCODER, running, turn

pytestmark = pytest.mark.enable_socket
LEASE = 600.0


@pytest.fixture
def proxy(postgres: str) -> Iterator[Proxy]:
    if "host=/" not in postgres:
        pytest.skip("needs a server on a Unix socket")
    opened = Proxy(postgres)
    yield opened
    opened.cut()
    opened.close()


@pytest.fixture
def location(new_schema: Any) -> str:
    made: str = new_schema()
    return made


@pytest.fixture
def worker(proxy: Proxy, location: str) -> Iterator[evomem.Database]:
    """Opens the database across the network."""
    schema = location.rpartition("schema=")[2]
    with evomem.open(f"{proxy.url}?schema={schema}", encoder=ENCODER, lease=LEASE) as db:
        yield db


class Nth:
    """Seals the fate of the n-th piece of data, on either way."""

    def __init__(self, n: int, fate: Fate) -> None:
        self.left, self._fate = n, fate

    def __call__(self, is_sent: bool, data: bytes) -> Fate:
        self.left -= 1
        return "pass" if self.left else self._fate


def check(db: evomem.Database, count: int) -> None:
    """The memory is as if one process had read the turns, each once, in order."""
    turns = [turn(f"text {n}", n) for n in range(1, count + 1)]
    assert [record.id for record in db.memory("m").history()] == [each.id for each in turns]
    assert db._engine.store.view(("m",)).key == running(turns).key
    assert db.verify() == []


def test_a_write_that_is_cut_at_any_message_is_there_as_a_whole_or_not_at_all(proxy, worker):
    memory = worker.memory("m")
    memory.add_many([turn("text 1", 1)])
    counter = Nth(0, "pass")
    proxy.judge = counter
    memory.add_many([turn("text 2", 2)])
    pieces = -counter.left
    assert pieces > 20
    lost = 0
    for n in range(1, pieces + 1):
        new = [turn(f"text {n + 2}", n + 2)]
        proxy.judge = Nth(n, "cut")
        try:
            memory.add_many(new)
        except ConnectionLost:
            lost += 1
            memory.add_many(new)  # with the same id
    assert lost > pieces / 2  # the others met the test of an idle connection, and were made again
    check(worker, pieces + 2)


@pytest.mark.parametrize("statement", [b"FOR NO KEY UPDATE", b"INSERT INTO turns", b"COMMIT"])
def test_a_worker_that_falls_silent_in_a_write_keeps_no_other_from_going_on(
    proxy, worker, location, monkeypatch, statement
):
    schema = location.rpartition("schema=")[2]
    across = f"{proxy.url}?schema={schema}"
    with monkeypatch.context() as patched:
        patched.setattr(postgresql, "IDLE", (0.5, 0.5))
        silent = evomem.open(across, encoder=ENCODER, lease=0.1)
    with silent:
        silent.memory("m").add_many([turn("text 1", 1)])
        is_silent = threading.Event()

        def judge(is_sent: bool, data: bytes) -> Fate:
            if is_sent and statement in data:
                is_silent.set()
                return "swallow"
            return "pass"

        proxy.judge = judge
        outcomes: list[EvomemError | None] = []

        def write() -> None:
            try:
                silent.memory("m").add_many([turn("text 3", 3)])
                outcomes.append(None)
            except EvomemError as error:
                outcomes.append(error)

        thread = threading.Thread(target=write)
        thread.start()
        assert is_silent.wait(30)
        with evomem.open(location, lease=LEASE) as other:
            other.memory("m").add_many([turn("text 2", 2)])  # with the lease that ended
        proxy.judge = always
        proxy.cut()  # as keepalive does after some time
        thread.join()
        assert isinstance(outcomes[0], ConnectionLost)
    with evomem.open(across, lease=LEASE) as again:
        again.memory("m").add_many([turn("text 3", 3)])
        check(again, 3)


def test_an_answer_that_is_lost_on_its_way_was_not_acknowledged_and_is_not_doubled(proxy, worker):
    memory = worker.memory("m")
    memory.add_many([turn("text 1", 1)])
    sent: list[bytes] = []

    def judge(is_sent: bool, data: bytes) -> Fate:
        sent.append(data)
        committed = not is_sent and b"COMMIT" in data
        return "cut" if committed and any(b"INSERT INTO turns" in each for each in sent) else "pass"

    proxy.judge = judge
    with pytest.raises(ConnectionLost, match="as a whole or not at all"):
        memory.add_many([turn("text 2", 2)])
    proxy.judge = always
    assert len(memory.history()) == 2  # it was written
    memory.add_many([turn("text 2", 2)])
    check(worker, 2)


def test_a_server_that_is_silent_is_noticed_by_tcp(worker):
    with worker._engine.store._connections._engine.connect() as connection:
        raw = connection.connection.driver_connection
        assert isinstance(raw, psycopg.Connection)
        with closing(socket.fromfd(raw.fileno(), socket.AF_INET, socket.SOCK_STREAM)) as tcp:
            assert tcp.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 10
            assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 25_000
