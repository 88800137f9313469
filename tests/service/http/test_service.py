"""What the service does with requests, good and bad."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import threading
import time
import zipfile

import httpx
import pytest
from starlette.testclient import TestClient

import evomem
from evomem.errors import AccessDenied, NotFound, ServiceError, StoreError, TurnError
from evomem.service.app import make_app
from evomem.service.limits import Limits
from evomem.service.problems import Problem
from evomem.service.settings import Settings
from tests.service.http.running import running

ONE = "/v1/memories/acme/alice"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def client():
    """A service without keys, asked without sockets."""
    app = make_app(Settings(database=":memory:", encoder="hash", max_body=1 << 20))
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as made:
        yield made


def problem(response, status, *words):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    value = response.json()
    assert value["status"] == status
    assert all(word in value["detail"] for word in words), value
    return value


# hosts and pages -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "localhost@evil", "", "[::2]"]
)
def test_a_host_that_the_service_is_not_called_is_refused(client, host):
    problem(client.get("/v1", headers={"Host": host}), 421, "--name")


def test_two_hosts_are_refused(client):
    for second in ("evil.example", "localhost"):
        problem(client.get("/v1", headers=[("Host", "localhost"), ("Host", second)]), 400, "Host")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8377", "127.0.0.1:1", "[::1]:8377"])
def test_this_machine_s_own_names_are_taken(client, host):
    assert client.get("/v1", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("page", ["http://evil.example", "null", "http://localhost:3000"])
def test_pages_of_others_may_not_call(client, page):
    problem(client.get("/v1", headers={"Origin": page}), 403, "--origin")


def test_its_own_pages_may_call(client):
    assert client.get("/v1", headers={"Origin": "http://localhost"}).status_code == 200


# bad bodies ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "word"),
    [
        ("/turns", b'{"text": "a", "colour": "red"}', "colour"),
        ("/turns", b"{}", "text"),
        ("/turns", b'{"text": 5}', "text"),
        ("/turns", b'{"text": " "}', "empty"),
        ("/turns", b'{"text": "a", "time": "yesterday"}', "ISO 8601"),
        ("/turns", b'{"text": "a", "time": "2024-01-01T00:00:00"}', "time zone"),
        ("/turns", b'{"text": "\\ud800"}', "unicode"),
        ("/turns", b'{"text": "a\\u0000b"}', "NUL"),
        ("/turns", b'{"text": "a", "metadata": {"x": NaN}}', "metadata"),
        ("/search", b'{"query": "a", "k": 0}', "k"),
        ("/search", b'{"query": "a", "k": true}', "k"),
        ("/search", b'{"query": "a", "session": "\\ud800"}', "session"),
        ("/search", b'{"query": "a", "where": {"x": "\\ud800"}}', "surrogate"),
        ("/search", b'{"query": "a", "where": {"x": {"$near": 1}}}', "$near"),
        ("/search", b'{"query": "a", "at": 99}', "no turn 99"),
        ("/expire", b"{}", "everything"),
        ("/fork", b'{"labels": []}', "labels"),
        ("/turns/many", b'{"user": "a"}\n{"user": "b", "colour": 1}', "line 2"),
        ("/turns/many", b'{"user": "a"}\n[1', "line 2"),
        ("/turns/many", b"[]", "line 1"),
        ("/import", b"\x00\x01\x02 no chat", "upload"),
    ],
)
def test_a_body_that_makes_no_sense_is_refused_and_says_what_is_wrong(client, path, body, word):
    assert client.post(f"{ONE}/turns", json={"text": "first", "id": "first"}).status_code == 200
    value = problem(client.post(ONE + path, content=body, headers=JSON), 422, word)
    assert value["type"].startswith("urn:evomem:")


@pytest.mark.parametrize(
    "body", [b"{", b"\xff\xfe", b"[" * 100_000, b'{"k": 1' + b"0" * 5000 + b"}"]
)
def test_bodies_that_are_not_json_are_refused(client, body):
    made = client.post(ONE + "/search", content=body, headers=JSON)
    assert made.status_code in (400, 422)
    assert made.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/search", "/turns/many"])
def test_a_body_or_a_line_that_is_too_large_is_refused(client, path):
    body = b'{"query": "' + b"x" * (2 << 20) + b'"}'
    problem(client.post(ONE + path, content=body, headers=JSON), 413, "1,048,576 bytes")
    parts = (body[i : i + 65_536] for i in range(0, len(body), 65_536))
    problem(client.post(ONE + path, content=parts, headers=JSON), 413)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("PUT", ONE + "/turns", 405),
        ("GET", ONE + "/turns/none", 404),
        ("GET", ONE + "/turns?limit=0", 422),
        ("GET", ONE + "/turns?after=-1", 422),
        ("GET", ONE + "/turns?where=[", 422),
        ("GET", ONE + "?at=tomorrow", 422),
        ("GET", "/v1/memories/%FF", 422),
        ("GET", "/v1/memories/acme//alice", 422),
        ("GET", "/v1/memories/acme/turns/search", 404),
        ("DELETE", "/v1/memories/acme/search", 422),
        ("DELETE", "/v1/memories/nobody", 404),
        ("GET", "/v1/memories/" + "%20a" * 600, 422),
        ("GET", "/metrics", 404),
    ],
)
def test_an_address_that_makes_no_sense_is_refused(client, method, path, status):
    problem(client.request(method, path), status)


def test_ids_and_labels_may_hold_anything(client):
    labels, id = ("turns", "a/b %2F", "..", "ü"), "x/y?z#%41 …"
    with client_of(client) as db:
        memory = db.memory(*labels)
        record = memory.add("odd", id=id)
        assert memory.get(id) == record
        assert labels in db.memories("turns")
        memory.drop()


class client_of:
    """A client of ours that asks an application without sockets."""

    def __init__(self, client):
        self.db = evomem.connect("http://localhost")
        self.db._caller._client.close()
        self.db._caller._client = client

    def __enter__(self):
        return self.db

    def __exit__(self, *_):
        """Leave the test client open."""


def test_an_error_of_the_service_itself_tells_no_path(tmp_path, caplog):
    path = tmp_path / "very-private.db"
    app = make_app(Settings(database=str(path), encoder="hash"))
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        client.post(ONE + "/turns", json={"text": "a"})
        app.service.db.close()
        made = client.post(ONE + "/search", json={"query": "a"})
    problem(made, 503, "try again")
    assert made.headers["Retry-After"]
    assert "private" not in made.text
    assert "StoreError" in caplog.text


# limits --------------------------------------------------------------------------------------


def test_too_many_requests_get_429_and_a_time_to_retry():
    now = [0.0]
    limits = Limits(4, 10.0, lambda: now[0])
    with limits.admit(), limits.admit(), limits.admit(), limits.admit():
        with pytest.raises(Problem) as full, limits.admit():
            pass
        assert full.value.status == 503
    with limits.admit_key("a"), limits.admit_key("a"):
        with pytest.raises(Problem) as share, limits.admit_key("a"):
            pass
        with limits.admit_key("b"):  # others have room still
            assert share.value.status == 429
    for _ in range(18):
        with limits.admit_key("a"):
            pass
    with pytest.raises(Problem) as rate, limits.admit_key("a"):
        pass
    assert (rate.value.status, rate.value.retry) == (429, 0.1)
    now[0] += 0.1
    with limits.admit_key("a"):
        pass


def test_access_from_outside_needs_a_key_a_name_and_tls(tmp_path):
    from evomem.service.key_tables import keys_location
    from evomem.service.keys import KeyStore
    from evomem.service.running import check

    place = str(tmp_path / "a.db")
    outside = Settings(database=place, host="0.0.0.0", names=("memory.example.com",))
    assert not check(Settings(database=place), tls=False)
    with pytest.raises(evomem.errors.InputError, match="make one first"):
        check(outside, tls=True)
    store = KeyStore(keys_location(place))
    store.create((), ["read"])
    store.close()
    assert check(outside, tls=True)
    with pytest.raises(evomem.errors.InputError, match="in the clear"):
        check(outside, tls=False)
    with pytest.raises(evomem.errors.InputError, match="--name"):
        check(Settings(database=place, host="0.0.0.0", behind_proxy=True), tls=False)
    os.chmod(keys_location(place), 0o644)
    with pytest.raises(evomem.errors.InputError, match="chmod 600"):
        check(outside, tls=True)


# over real sockets ---------------------------------------------------------------------------


@pytest.mark.enable_socket
def test_a_slow_body_is_given_up_and_holds_up_no_other_request():
    with running(body_seconds=0.3) as service:
        address = service.socket.getsockname()
        with socket.create_connection(address) as slow:
            slow.sendall(
                f"POST {ONE}/turns HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
                "Content-Type: application/json\r\n\r\n{".encode()
            )
            assert httpx.get(service.url + "/v1").status_code == 200
            assert b" 408 " in slow.recv(4096)


@pytest.mark.enable_socket
def test_a_connection_that_is_closed_halfway_stores_nothing():
    with running() as service:
        with socket.create_connection(service.socket.getsockname()) as half:
            half.sendall(
                f"POST {ONE}/turns HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
                'Content-Type: application/json\r\n\r\n{"text": "'.encode()
            )
        with service.connect() as db:
            assert db.memories() == []
            db.memory("a").add("x")
        end = time.monotonic() + 10  # the client has the answer before the server counts it
        while service.service.limits.in_flight and time.monotonic() < end:
            time.sleep(0.01)
        assert service.service.limits.in_flight == 0


class Gate(evomem.HashEncoder):
    """Reads when it is told to."""

    def __init__(self):
        super().__init__()
        self.open, self.asked = threading.Event(), threading.Event()

    def read(self, state, turns):
        self.asked.set()
        self.open.wait(20)
        return super().read(state, turns)


@pytest.mark.enable_socket
async def test_a_request_that_is_given_up_ends_and_what_waited_for_it_is_not_done():
    with running() as service:
        gate = Gate()
        service.service.db._engine._encoder = service.service.db._engine._reader = gate
        db = service.connect()
        first = asyncio.create_task(db.memory("m").aadd("first", id="1"))
        await asyncio.to_thread(gate.asked.wait)
        other = service.connect()
        second = asyncio.create_task(other.memory("m").aadd("second", id="2"))
        while service.service.limits.in_flight < 2:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)  # until it has its place behind the first
        second.cancel()
        while service.service.limits.in_flight > 1:
            await asyncio.sleep(0.01)
        assert await db.memory("other").asearch("a reader waits for nobody") == []
        gate.open.set()
        assert (await first).id == "1"
        assert [record.id for record in await db.memory("m").ahistory()] == ["1"]
        await db.aclose()
        await other.aclose()


@pytest.mark.enable_socket
def test_stopping_completes_requests_that_have_started(tmp_path):
    place = str(tmp_path / "a.db")
    answers = []
    with running(database=place) as service:
        gate = Gate()
        service.service.db._engine._encoder = service.service.db._engine._reader = gate

        def add():
            with service.connect() as db:
                answers.append(db.memory("m").add("kept", id="1"))

        thread = threading.Thread(target=add)
        thread.start()
        gate.asked.wait()
        service.server.should_exit = True
        time.sleep(0.2)
        gate.open.set()
        thread.join()
    assert [record.id for record in answers] == ["1"]
    with evomem.open(place) as db:
        assert db.memory("m").get("1") == answers[0]


@pytest.mark.enable_socket
def test_a_client_that_is_turned_away_comes_again():
    with running(in_flight=1) as service, service.connect() as db:
        gate = Gate()
        service.service.db._engine._encoder = service.service.db._engine._reader = gate
        first = threading.Thread(target=lambda: db.memory("m").add("first"))
        first.start()
        gate.asked.wait()
        refused = httpx.get(service.url + "/v1")
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        assert httpx.get(service.url + "/health/live").status_code == 200
        threading.Timer(0.1, gate.open.set).start()
        assert db.memories() == [("m",)]
        first.join()


@pytest.mark.enable_socket
def test_a_client_asks_again_until_a_service_that_was_away_is_back(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    back = threading.Event()

    def come_back():
        with running(database=str(tmp_path / "a.db"), port=port):
            back.wait(20)

    service = threading.Timer(0.3, come_back)
    service.start()
    with evomem.connect(f"http://127.0.0.1:{port}") as db:
        assert db.memory("m").add("again", id="1").seq == 1
        assert db.memory("m").add("again", id="1").seq == 1
    back.set()
    service.join()


@pytest.mark.enable_socket
async def test_a_client_loads_authorities_once_and_for_plain_http_never(monkeypatch):
    monkeypatch.setattr("evomem.client.transport.PAUSE", 0.001)  # it tries again and again
    loaded = []
    load = ssl.create_default_context

    def counted(**options):
        loaded.append(options)
        return load(**options)

    monkeypatch.setattr(ssl, "create_default_context", counted)
    with socket.create_server(("127.0.0.1", 0)) as server:  # which says nothing
        for scheme, times in (("http", 0), ("https", 1)):
            url = f"{scheme}://127.0.0.1:{server.getsockname()[1]}"
            db = evomem.connect(url, timeout=0.01)
            with pytest.raises(ServiceError):
                await db.memory("a").asearch("x")
            await db.aclose()
            assert len(loaded) == times


@pytest.mark.enable_socket
def test_a_client_says_what_is_wrong_with_an_address_or_a_key(monkeypatch):
    monkeypatch.setattr("evomem.client.transport.PAUSE", 0.001)
    with socket.create_server(("127.0.0.1", 0)) as free:
        closed = f"http://127.0.0.1:{free.getsockname()[1]}"
    with evomem.connect(closed) as db, pytest.raises(ServiceError, match="cannot be reached"):
        db.memories()
    for url in ("memory.example.com", "ftp://a.b", "http://", "http://[::1"):
        with pytest.raises(ServiceError, match="URL|address"):
            evomem.connect(url)
    with pytest.raises(ServiceError, match="no certificates"):
        evomem.connect("https://localhost", verify=__file__)
    with running() as service:
        service.service.keys.create((), ["read"])
        for key in (None, "evk_x_y"):
            with service.connect(key) as db, pytest.raises(AccessDenied, match="key"):
                db.memories()


@pytest.mark.enable_socket
async def test_files_go_both_ways(tmp_path, service, db):
    memory = db.memory("files")
    talk = [
        {"role": "user", "content": "I live in Bergen.", "time": "2024-01-01T00:00:00Z"},
        {"role": "assistant", "content": "A rainy place!", "time": "2024-01-01T00:00:01Z"},
    ]
    path = tmp_path / "chat.json"
    path.write_text(json.dumps(talk))
    with zipfile.ZipFile(tmp_path / "chat.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, "chat.json")
    assert memory.import_chats(path, dry_run=True).new == 1
    assert memory.import_chats(path, turn_source="web").new == 1
    for source in (path.read_bytes(), tmp_path / "chat.zip", talk, str(path)):
        again = memory.import_chats(source, format="openai-chat")
        assert (again.new, again.known) == (0, 1)
    assert (await memory.aimport_chats(path)).known == 1
    assert memory.history()[0].turn.source == "web"
    with pytest.raises(evomem.errors.InputError, match="flat.json"):
        memory.import_chats(b'"no chat"', name="flat.json")

    assert db.export(tmp_path / "dump") >= 1
    db.backup(tmp_path / "copy.db")
    with evomem.open(str(tmp_path / "copy.db")) as copy:
        assert copy.memory("files").history() == memory.history()
    with running(database=str(tmp_path / "new.db")) as other, other.connect() as new:
        assert new.load(tmp_path / "dump") == 1
        assert new.memory("files").history() == memory.history()
        with pytest.raises(evomem.errors.NamespaceError):
            new.load(tmp_path / "dump")
    with pytest.raises(StoreError, match="already"):
        db.backup(tmp_path / "copy.db")


@pytest.mark.enable_socket
def test_an_exported_memory_can_be_added_to_another(service):
    with service.connect() as db:
        db.memory("from").add_many([{"role": "user", "content": f"note {n}"} for n in range(70)])
        lines = httpx.get(service.url + "/v1/memories/from/export").content
        made = httpx.post(service.url + "/v1/memories/to/turns/many", content=lines)
        assert made.json() == {"stored": 70, "records": None}
        assert [r.turn for r in db.memory("to").history()] == [
            r.turn for r in db.memory("from").history()
        ]
        db.drop("from")
        db.drop("to")


@pytest.mark.enable_socket
def test_an_error_among_many_lines_says_how_many_are_stored(service):
    lines = [json.dumps({"user": f"note {n}", "id": str(n)}) for n in range(100)]
    made = httpx.post(
        service.url + "/v1/memories/many/turns/many", content="\n".join([*lines, "{}"]).encode()
    )
    value = problem(made, 422, "line 101")
    assert value["stored"] == 100
    with service.connect() as db:
        assert len(db.memory("many")) == 100
        db.drop("many")


@pytest.mark.enable_socket
def test_many_histories_at_once(service):
    with service.connect() as db:
        count = db.add_many(
            ((("team", str(n)), [{"role": "user", "content": "hi"}]) for n in range(20)), workers=4
        )
        assert count == 20
        assert len(db.memories("team")) == 20
        assert db.drop("team").turns == 20
        with pytest.raises(NotFound):
            db.drop("team")
        with pytest.raises(TurnError):
            db.memory("team").add("x", role="system")


def test_a_database_on_a_server_is_served_with_its_keys(new_schema):
    place = new_schema()
    app = make_app(Settings(database=place, encoder="hash"))
    with TestClient(app, base_url="http://localhost") as client:
        assert client.get("/health/ready").json() == {"status": "ready"}
        secret, _ = app.service.keys.create(("acme",), ["read", "write"])
        assert client.get("/v1").status_code == 401
        client.headers["X-API-Key"] = secret
        assert client.post(ONE + "/turns", json={"text": "I live in Bergen."}).status_code == 200
        [hit] = client.post(ONE + "/search", json={"query": "Where?"}).json()["hits"]
        assert hit["parts"]


def test_health_says_when_the_database_is_away_and_back(tmp_path):
    app = make_app(Settings(database=str(tmp_path / "a.db"), encoder="hash"))
    with TestClient(app, base_url="http://localhost") as client:
        assert client.get("/health/live", headers={"Host": "10.0.0.7"}).status_code == 200
        assert client.get("/health/ready").status_code == 200
        app.service.db.close()
        problem(client.get("/health/ready"), 503, "does not answer")
        assert client.get("/health/live").status_code == 200


@pytest.mark.enable_socket
def test_open_and_the_command_line_accept_the_url_of_a_service(service, capsys):
    from evomem.cli import main

    with evomem.open(service.url) as db:
        db.memory("cli").add("I adopted a cat called Miso.")
        assert main(["search", "Which cat?", "--db", service.url, "--memory", "cli"]) == 0
        assert "Miso" in capsys.readouterr().out
        db.drop("cli")
    with pytest.raises(StoreError, match="omit encoder=, reranker= and store options"):
        evomem.open(service.url, encoder="hash")
