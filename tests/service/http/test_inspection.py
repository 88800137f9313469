"""What the service tells the page: the endpoints behind it, its files, and who may use it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import contextmanager

import pytest
from starlette.testclient import TestClient

import evomem
from evomem.inspector.alone import Alone
from evomem.records import Turn
from evomem.service.access import RIGHTS, Access
from evomem.service.app import make_app
from evomem.service.page import FOLDER
from evomem.service.session import Session
from evomem.service.settings import Settings
from evomem.state import State
from tests.processes import evomem_command
from tests.test_together import Lengths

STORY = [
    "I live in Leeds.",
    "The weather is fine.",
    "I moved to Bristol and live there.",
    "My dog barks.",
    "I live in Cardiff now.",
    "The dog likes Cardiff.",
]


@pytest.fixture(scope="module")
def client():
    """A service without keys, with a story, a fork and a correction."""
    app = make_app(Settings(database=":memory:", encoder="hash"))
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as made:
        db = app.service.db
        tess = db.memory("acme", "tess")
        for number, text in enumerate(STORY):
            tess.add(text, id=f"t{number}", session="one" if number < 3 else "two")
        tess.at(seq=4).fork("what-if")
        db.memory("acme", "tess", "what-if").add("I stayed in Leeds.", id="stayed")
        tess.correct("t1", "The weather was awful.")
        tess.add("You said so.", id="answer", recalled=["t0"])
        yield made


@pytest.fixture(scope="module")
def tess(client):
    return client.app.service.db.memory("acme", "tess")


def get(client, path, **values):
    made = client.get(path, params=values)
    assert made.status_code == 200, made.text
    return made.json()


ONE = "/v1/memories/acme/tess"


# memories ------------------------------------------------------------------------------------


def test_memories_come_with_their_sizes_and_what_they_were_forked_from(client):
    body = get(client, "/v1/tree")
    assert body["next"] is None
    assert [tuple(node.values()) for node in body["memories"]] == [
        (["acme", "tess"], 7, 8, 0, None),
        (["acme", "tess", "what-if"], 5, 5, 4, ["acme", "tess"]),
    ]
    first = get(client, "/v1/tree", limit=1)
    assert get(client, "/v1/tree", after=first["next"])["memories"] == body["memories"][1:]


def test_a_parent_beyond_a_key_s_prefix_is_not_named(client):
    app = make_app(Settings(database=":memory:", encoder="hash"))
    with TestClient(app, base_url="http://localhost") as other:
        memory = app.service.db.memory("acme", "tess")
        memory.add("shared")
        memory.fork("what-if")
        secret, _ = app.service.keys.create(("acme", "tess", "what-if"), ["read"])
        headers = {"Authorization": f"Bearer {secret}"}
        [node] = other.get("/v1/tree", headers=headers).json()["memories"]
        path = "/v1/memories/acme%2Ftess%2Fwhat-if/inspect"
        overview = other.get(path, headers=headers).json()
    assert (node["parent"], node["shared"], node["turns"]) == (None, 1, 1)
    assert overview["parent"] is None


def test_an_overview_tells_of_sessions_times_forks_and_the_digest(client, tess):
    body = get(client, ONE + "/inspect")
    assert (body["turns"], body["last"], body["sessions"]) == (7, 8, ["one", "two"])
    assert body["digest"] == tess._view().key.hex()
    assert [fork["memory"][-1] for fork in body["forks"]] == ["what-if"]
    earlier = get(client, ONE + "/inspect", at=4)
    assert (earlier["turns"], earlier["last"]) == (4, 4)
    assert earlier["digest"] == tess.at(seq=4)._view().key.hex()
    assert client.get("/v1/memories/nobody/inspect").status_code == 404


def test_replaced_turns_come_with_those_that_took_their_places(client):
    body = get(client, ONE + "/inspect/replaced")
    assert [(pair["old"]["id"], pair["new"]["text"]) for pair in body["pairs"]] == [
        ("t1", "User: The weather was awful.")
    ]
    assert get(client, ONE + "/inspect/replaced", at=6)["pairs"] == []
    assert get(client, ONE + "/inspect/replaced", after=2)["pairs"] == []


@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        ({"words": "dogs"}, ["t3", "t5"]),
        ({"words": "dog Leeds"}, ["t0", "t3", "t5"]),
        ({"words": "dog", "session": "one"}, []),
        ({"words": "live", "limit": 1, "after": 1}, ["t2"]),
        ({"words": "fine"}, []),
        ({"words": "fine", "all": True}, ["t1"]),
        ({"words": "live", "at": 3}, ["t0", "t2"]),
    ],
)
def test_a_history_can_be_limited_to_turns_that_share_a_word(client, filters, ids):
    body = get(client, ONE + "/turns", **filters)
    assert [turn["id"] for turn in body["turns"]] == ids
    assert (body["next"] is None) == ("limit" not in filters)


# purging -------------------------------------------------------------------------------------


def test_a_preview_says_what_the_purge_then_does(client):
    memory = client.app.service.db.memory("preview")
    for number, text in enumerate(STORY):
        memory.add(text, id=f"t{number}")
    memory.correct("t2", "I moved to Bath.")
    memory.fork("fork")
    new = memory.history()[-1].id
    memory.add("So you live in Bath.", id="said", recalled=[new])
    path = f"/v1/memories/preview/turns/{new}/purge"
    body = get(client, path)
    assert [turn["id"] for turn in body["replaced"]] == ["t2"]
    assert [turn["id"] for turn in body["answers"]["turns"]] == ["said"]
    assert body["direct"]["count"] == len(memory.influence(new).direct) == 1
    assert body["forks"] == body["sharing"] == [["preview", "fork"]]
    assert len(memory) == 7
    refused = client.post(path, json={})
    assert refused.status_code == 409
    done = client.post(path, json={"forks": True}).json()
    in_fork = 3  # t3 to t5
    assert done["reread"] == body["reread"] + in_fork
    assert sorted(done["ids"]) == sorted([new, "t2"])
    assert client.get(path).status_code == 404


# searches ------------------------------------------------------------------------------------


def test_the_map_has_the_cosines_of_searches_at_each_point(client, tess):
    body = {"query": "Where do I live?", "points": 4}
    result = client.post(ONE + "/inspect/map", json=body).json()
    assert [point["seq"] for point in result["points"]] == [1, 3, 5, 8]
    assert [turn["seq"] for turn in result["turns"]] == [1, 3, 4, 5, 6, 7, 8]
    for column, point in enumerate(result["points"]):
        hits = tess.search("Where do I live?", 20, mode="evolvable", at=point["seq"])
        expected = {hit.seq: round(hit.score, 4) for hit in hits}
        for turn, row in zip(result["turns"], result["cosines"], strict=True):
            assert row[column] == expected.get(turn["seq"])


def test_a_map_of_many_turns_shows_those_that_are_close_at_some_point(client, tess):
    body = {"query": "Where do I live?", "points": 4, "turns": 3}
    result = client.post(ONE + "/inspect/map", json=body).json()
    assert len(result["turns"]) == 3
    best = [
        tess.search("Where do I live?", 1, mode="evolvable", at=point["seq"])[0]
        for point in result["points"]
    ]
    assert max(best, key=lambda hit: hit.score).seq in {turn["seq"] for turn in result["turns"]}


def test_a_search_without_memory_reads_every_text_alone(client, tess):
    body = {"query": "Where do I live?", "mode": "evolvable", "k": 20}
    result = client.post(ONE + "/inspect/alone", json=body).json()
    encoder = tess._engine.encoder
    empty: State[Turn] = State.empty(encoder.spec)
    query = encoder.embed_queries(empty, ["Where do I live?"])[0]
    expected = {
        record.id: float(encoder.read(empty, [record.turn])[0].embedding @ query)
        for record in tess.history()
    }
    assert {hit["id"]: hit["score"] for hit in result["hits"]} == pytest.approx(expected)
    assert [hit["score"] for hit in result["hits"]] == sorted(expected.values(), reverse=True)
    assert (result["compared"], result["remembers"]) == (7, True)
    ordinary = client.post(ONE + "/search", json=body).json()["hits"]
    assert [hit["score"] for hit in ordinary] != [hit["score"] for hit in result["hits"]]


def test_a_search_without_memory_keeps_the_parts_filters_and_points_of_a_search(client):
    body = {"query": "Where do I live?", "at": 4, "session": "one"}
    result = client.post(ONE + "/inspect/alone", json=body).json()["hits"]
    assert {hit["id"] for hit in result} == {"t0", "t1", "t2"}
    assert all(sum(hit["parts"].values()) == pytest.approx(hit["score"]) for hit in result)
    assert "lexical" in result[0]["parts"]


def test_only_the_best_turns_of_a_search_are_read_without_memory(tess, monkeypatch):
    monkeypatch.setattr("evomem.inspector.alone.MOST", 3)
    result = Alone().search(tess, "Where do I live?", 2, mode="evolvable")
    assert result.compared == 3
    best = {hit.seq for hit in tess.search("Where do I live?", 3, mode="evolvable")}
    assert {hit.seq for hit in result.hits} <= best


def test_cached_readings_are_not_shared_between_memories(client, tess):
    alone, db = Alone(), client.app.service.db
    alone.search(tess, "live", 1)
    read = len(alone._known._held)
    db.memory("stranger").add(STORY[0])
    alone.search(db.memory("stranger"), "live", 1)
    assert len(alone._known._held) == read + 1


def test_an_encoder_without_memory_is_reported():
    with evomem.open(":memory:", Lengths()) as db:
        db.memory("m").add("I live in Leeds.")
        result = Alone().search(db.memory("m"), "Where do I live?", 1)
    assert not result.remembers
    assert result.hits[0].text == "User: I live in Leeds."


# the access log ------------------------------------------------------------------------------


def test_the_access_log_can_be_read_from_its_end(client):
    get(client, ONE)
    client.portal.call(client.app.service._flush)
    oldest = get(client, "/v1/admin/access", limit=1000)["lines"]
    newest = get(client, "/v1/admin/access", limit=2, before=2**53)
    numbers = [line["number"] for line in oldest]
    assert [line["number"] for line in newest["lines"]] == numbers[:-3:-1]
    older = get(client, "/v1/admin/access", limit=1, before=newest["next"])
    assert [line["number"] for line in older["lines"]] == [numbers[-3]]


# the page, and who may use it ----------------------------------------------------------------


def test_every_file_of_the_page_is_served_with_a_strict_policy(client):
    files = [path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()]
    for path in ["/", *(f"/page/{name}" for name in files)]:
        made = client.get(path)
        assert made.status_code == 200
        policy = made.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert made.headers["x-content-type-options"] == "nosniff"
    assert client.get("/page/../page.py").status_code == 404
    assert client.get("/page/%2e%2e/local.py").status_code == 404
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 421


def test_the_page_loads_nothing_from_elsewhere_and_writes_no_markup():
    for path in FOLDER.rglob("*"):
        if path.suffix in (".js", ".css", ".html"):
            text = path.read_text("utf-8")
            assert "innerHTML" not in text
            assert not [
                word for word in ("http://", "https://", "//cdn", 'onclick="') if word in text
            ]
    assert " style=" not in (FOLDER / "index.html").read_text("utf-8")


def test_a_ticket_gives_its_key_once_and_is_no_key_itself():
    session = Session(Access("inspect", (), frozenset(["read"])))
    assert session.access_of(session.ticket) is None
    assert session.redeem("another") is None
    key = session.redeem(session.ticket)
    assert key
    assert session.redeem(session.ticket) is None
    assert session.access_of(session.ticket) is None
    result = session.access_of(key)
    assert result is not None
    assert result.rights == {"read"}
    assert Session(Access("", (), frozenset())).access_of("") is None


WRITES = [
    ("POST", ONE + "/turns", {"text": "x"}),
    ("POST", ONE + "/turns/many", {"user": "x"}),
    ("POST", ONE + "/turns/t0/purge", {}),
    ("POST", ONE + "/turns/search/correct", {"text": "x"}),
    ("PATCH", ONE + "/turns/t0", {"metadata": {}}),
    ("DELETE", ONE, None),
    ("POST", ONE + "/fork", {"labels": ["x"]}),
    ("POST", "/v1/admin/keys", {"rights": ["read"]}),
    ("POST", "/v1/admin/repair", None),
    ("POST", "/v1/admin/compact", None),
]


def test_a_read_only_service_changes_nothing_and_shows_everything():
    app = make_app(Settings(database=":memory:", encoder="hash", read_only=True))
    with TestClient(app, base_url="http://localhost") as client:
        memory = app.service.db.memory("acme", "tess")
        memory.add("I live in Leeds.", id="t0")
        for method, path, body in WRITES:
            made = client.request(method, path, json=body)
            assert made.status_code == 403, path
            assert "--write" in made.json()["detail"]
        assert [record.id for record in memory.history()] == ["t0"]
        for path in ("/search", "/context", "/inspect/map", "/inspect/alone"):
            assert client.post(ONE + path, json={"query": "live"}).status_code == 200
        assert client.post("/v1/admin/verify", json={}).json() == {"faults": []}
        assert client.get("/v1").json()["read_only"]


@contextmanager
def killed_at_the_end(process):
    """End a process that a test left running."""
    try:
        yield
    finally:
        process.kill()


@pytest.mark.enable_socket  # to the process, on loopback
@pytest.mark.parametrize("option", [(), ("--write",)])
def test_inspect_shows_a_file_to_anyone_who_has_the_link_first_and_ends_with_ctrl_c(
    tmp_path, option
):
    import httpx

    place = str(tmp_path / "a.db")
    with evomem.open(place, "hash") as db:
        db.memory("acme", "tess").add("I live in Leeds.")
    files = sorted(tmp_path.iterdir())
    words = [*evomem_command(), "inspect", place, "--no-open", "--json", *option]
    environment = {**os.environ, "COLUMNS": "200"}
    with (
        subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as process,
        killed_at_the_end(process),
    ):
        assert process.stdout is not None
        shown = ""
        while "}" not in shown:
            shown += process.stdout.readline()
        address, _, ticket = json.loads(shown)["url"].partition("/#ticket=")
        with httpx.Client(base_url=address) as client:
            assert client.get("/").status_code == 200
            assert client.get("/v1").status_code == 401
            assert client.get("/v1", headers={"X-API-Key": ticket}).status_code == 401
            answer = client.post("/page/ticket", headers={"Authorization": f"Bearer {ticket}"})
            key = {"Authorization": f"Bearer {answer.json()['key']}"}
            again = client.post("/page/ticket", headers={"Authorization": f"Bearer {ticket}"})
            about = client.get("/v1", headers=key).json()
            body = client.get("/v1/tree", headers=key).json()["memories"]
            added = client.post(ONE + "/turns", json={"text": "more"}, headers=key)
        assert again.status_code == 401
        assert [node["memory"] for node in body] == [["acme", "tess"]]
        assert about["key"]["rights"] == sorted(RIGHTS if option else ("read", "admin"))
        assert added.status_code == (200 if option else 403)
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
    assert sorted(tmp_path.iterdir()) == files  # no file of keys was made


def test_inspect_makes_no_database(tmp_path, capsys):
    from evomem.cli import main

    assert main(["inspect", str(tmp_path / "none.db"), "--no-open"]) == 3
    assert not list(tmp_path.iterdir())
