"""A service that is killed in the middle of its work loses nothing that it has acknowledged."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest

import evomem
from evomem.cli import main
from evomem.errors import EvomemError
from tests.processes import FORKS

pytestmark = [pytest.mark.enable_socket, pytest.mark.slow]
CLIENTS = 4


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Let clients ask again soon, since services start soon here."""
    monkeypatch.setattr("evomem.client.transport.PAUSE", 0.01)


def command(place, port):
    return ["serve", "--db", place, "--encoder", "hash", "--port", str(port)]


def start(place, port):
    process = FORKS.Process(target=serve, args=(command(place, port),))
    process.start()
    return process


def serve(arguments):
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)  # its log
    main(arguments)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def await_ready(db):
    for _ in range(600):
        try:
            return db.memories()
        except EvomemError:
            time.sleep(0.05)
    raise AssertionError("the service does not start")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_no_acknowledged_turn_is_lost_or_duplicated(tmp_path, how):
    place, port = str(tmp_path / "a.db"), free_port()
    url = f"http://127.0.0.1:{port}"
    done: list[list[evomem.Record]] = [[] for _ in range(CLIENTS)]
    stop = threading.Event()

    def write(client):
        """Add turns with ids, and the same one again where no answer came."""
        with evomem.connect(url) as db:
            memory = db.memory("m", str(client))
            while not stop.is_set():
                id = str(len(done[client]))
                try:
                    done[client].append(memory.add(f"note {id} of {client}", id=id))
                except EvomemError:
                    time.sleep(0.05)

    process = start(place, port)
    with evomem.connect(url) as db:
        await_ready(db)
        threads = [threading.Thread(target=write, args=(n,)) for n in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for _ in range(2):
            before = sum(map(len, done))
            while sum(map(len, done)) < before + 20:
                time.sleep(0.02)
            os.kill(process.pid, how)
            process.join()
            process = start(place, port)
            await_ready(db)
        stop.set()
        for thread in threads:
            thread.join()
    process.terminate()
    process.join()
    with evomem.open(place) as left:
        assert left.verify() == []
        for client in range(CLIENTS):
            history = left.memory("m", str(client)).history()
            assert history[: len(done[client])] == done[client]
            assert len(history) <= len(done[client]) + 1  # one whose answer never came


def test_a_key_that_one_worker_revokes_is_refused_by_all(tmp_path):
    place, port = str(tmp_path / "a.db"), free_port()
    arguments = [*command(place, port), "--workers", "2"]  # spawned, as a fresh interpreter does
    process = subprocess.Popen(
        [sys.executable, "-m", "evomem", *arguments], stderr=subprocess.DEVNULL
    )
    try:
        with evomem.connect(f"http://127.0.0.1:{port}") as db:
            await_ready(db)
            from evomem.service.key_tables import keys_location
            from evomem.service.keys import KeyStore

            store = KeyStore(keys_location(place))
            secret, key = store.create((), ["read"])
            for _ in range(8):
                with (
                    pytest.raises(evomem.errors.AccessDenied),
                    evomem.connect(db._caller.url) as no,
                ):
                    no.memories()
                with evomem.connect(db._caller.url, key=secret) as yes:
                    assert yes.memories() == []
            store.revoke(key.id)
            store.close()
            for _ in range(8):
                with (
                    evomem.connect(db._caller.url, key=secret) as no,
                    pytest.raises(evomem.errors.AccessDenied),
                ):
                    no.memories()
    finally:
        process.terminate()
        process.wait()


def test_a_full_disk_is_reported_loses_nothing_and_the_service_continues_when_there_is_room(
    tmp_path,
):
    place, port = str(tmp_path / "a.db"), free_port()
    turns = f"http://127.0.0.1:{port}/v1/memories/m/turns"
    process = start(place, port)
    try:
        with evomem.connect(f"http://127.0.0.1:{port}") as db:
            await_ready(db)
        room = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (600_000, room[1]))
        stored: list[str] = []
        with httpx.Client(timeout=60) as client:
            while len(stored) < 100:
                turn = {"text": "x" * 30_000, "id": str(len(stored))}
                answer = client.post(turns, json=turn)
                if answer.status_code != 200:
                    break
                stored.append(turn["id"])
            assert answer.status_code == 503
            assert answer.headers["Retry-After"]
            assert "nothing was written" in answer.json()["detail"]
            kept = client.get(turns, params={"limit": 1000}).json()["turns"]
            assert [turn["id"] for turn in kept] == stored
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, room)
            assert client.post(turns, json=turn).status_code == 200
    finally:
        process.terminate()
        process.join()
    with evomem.open(place) as left:
        assert left.verify() == []
        assert [record.id for record in left.memory("m").history()] == [*stored, turn["id"]]
