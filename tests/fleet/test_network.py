"""The network between workers and their database is cut: nothing acknowledged is lost, doubled or reordered."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest
from starlette.testclient import TestClient

import evomem
from evomem.errors import ConnectionLost, EvomemError
from evomem.service.app import make_app
from evomem.service.settings import Settings
from evomem_stores.database import postgresql
from tests.fleet.proxy import Fate, Proxy, always
from tests.service.http.test_service import client_of
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


class CommitLost:
    """Cuts the connection when the server tells that it has stored a change, once."""

    def __init__(self) -> None:
        self._changed = self._done = False

    def __call__(self, is_sent: bool, data: bytes) -> Fate:
        self._changed |= is_sent and (b"INSERT INTO" in data or b"UPDATE memories" in data)
        if self._done or is_sent or not self._changed or b"COMMIT" not in data:
            return "pass"
        self._done = True
        return "cut"


@contextmanager
def service_across(proxy: Proxy, location: str) -> Iterator[TestClient]:
    """A service whose database is across the network; its keys are elsewhere."""
    schema = location.rpartition("schema=")[2]
    settings = Settings(
        database=f"{proxy.url}?schema={schema}", encoder="hash:32", keys=location, lease=LEASE
    )
    with TestClient(make_app(settings), base_url="http://localhost") as client:
        yield client


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
    with evomem.open(across, encoder=ENCODER, lease=0.1) as first:
        first.memory("m").add_many([turn("text 1", 1)])
    with monkeypatch.context() as patched:
        patched.setattr(postgresql, "IDLE_TIMEOUTS", (0.5, 0.5))
        silent = evomem.open(across, encoder=ENCODER, lease=0.1)
    with silent:  # which has prepared no statement yet, so it sends their SQL
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
    proxy.judge = CommitLost()
    with pytest.raises(ConnectionLost, match="completely or not at all"):
        memory.add_many([turn("text 2", 2)])
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


def test_a_service_tells_clients_that_the_answer_was_lost_and_its_client_repeats_what_it_may(
    proxy, location
):
    with service_across(proxy, location) as client, client_of(client) as db:
        memory = db.memory("m")
        memory.add("one", id="t1")
        proxy.judge = CommitLost()
        memory.add("two", id="t2")  # again, with the same id
        proxy.judge = CommitLost()
        with pytest.raises(ConnectionLost, match="with the same ids"):
            memory.delete("t1")  # which cannot be done twice
        assert [record.id for record in memory.history()] == ["t2"]
        proxy.judge = CommitLost()
        lost = client.post("/v1/memories/m/turns", json={"text": "three", "id": "t3"})
        assert (lost.status_code, lost.headers["Retry-After"]) == (503, "1")
        assert "nothing was written" not in lost.text
        assert [record.id for record in memory.history()] == ["t2", "t3"]
