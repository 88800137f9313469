"""Keys: what they are for is all that they reach, at once and for every worker."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from evomem.errors import InputError, NotFound
from evomem.service.access import RIGHTS, Access
from evomem.service.app import make_app
from evomem.service.keys import Entry, KeyStore
from evomem.service.metrics import Metrics
from evomem.service.names import join_name, split_name, to_path
from evomem.service.settings import Settings
from tests.conftest import ROOT

LABELS = st.text(min_size=1, max_size=8).filter(
    lambda text: text.strip() and "\x00" not in text and text.isprintable()
)
NAMESPACES = st.lists(LABELS, min_size=1, max_size=4).map(tuple)
FEW = settings(max_examples=15)


@pytest.fixture
def store(tmp_path):
    made = KeyStore(str(tmp_path / "db.keys"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A service with a root key, asked without sockets."""
    place = str(tmp_path_factory.mktemp("service") / "a.db")
    app = make_app(Settings(database=place, encoder="hash", metrics=True))
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as made:
        yield made


def headers(secret):
    return {"Authorization": f"Bearer {secret}"}


def at(*labels):
    return f"/v1/memories/{to_path(join_name(labels))}"


# the store -----------------------------------------------------------------------------------


def test_a_secret_opens_what_its_key_is_for(store):
    secret, key = store.create(("acme", "alice"), ["write", "read"], note="the app")
    assert secret.startswith(f"evk_{key.id}_")
    assert store.find(secret) == Access(key.id, ("acme", "alice"), frozenset({"read", "write"}))
    assert key.rights == ("read", "write")
    assert store.get(key.id).used is not None


def test_no_secret_is_stored_and_salts_differ(store, tmp_path):
    words = [store.create((), ["read"])[0].split("_", 2)[2] for _ in range(3)]
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert not any(word.encode() in stored for word in words)
    assert (tmp_path / "db.keys").stat().st_mode & 0o077 == 0


def test_a_key_is_refused_once_it_is_revoked_or_has_expired_in_another_worker_too(store):
    soon = datetime.now(timezone.utc) + timedelta(milliseconds=200)
    revoked, key = store.create((), ["read"])
    expired, _ = store.create((), ["read"], expires=soon)
    other = KeyStore(store.location)
    assert other.find(revoked)
    store.revoke(key.id)
    assert other.find(revoked) is None
    while datetime.now(timezone.utc) <= soon:
        pass
    assert other.find(expired) is None
    other.close()


@pytest.mark.parametrize(
    "secret", ["", "evk", "evk__", "evk_x_y", "a" * 5000, "evk_\ud800_ü", "_" * 9]
)
def test_a_text_that_is_not_a_secret_gives_no_access(store, secret):
    store.create((), RIGHTS)
    assert store.find(secret) is None


def test_a_secret_with_one_other_character_opens_nothing(store):
    secret, _ = store.create((), RIGHTS)
    for place in range(len(secret)):
        other = secret[:place] + chr(ord(secret[place]) ^ 1) + secret[place + 1 :]
        assert store.find(other) is None


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"rights": ["fly"]}, "rights are some of"),
        ({"rights": []}, "rights are some of"),
        ({"prefix": ("acme", " ")}, "empty"),
        ({"expires": datetime(2020, 1, 1, tzinfo=timezone.utc)}, "in the past"),
        ({"note": "x" * 600}, "limit is 512"),
    ],
)
def test_a_key_that_makes_no_sense_is_not_made(store, wrong, says):
    with pytest.raises(InputError, match=says):
        store.create(**{"prefix": (), "rights": ["read"], **wrong})
    assert not store.any()


def test_a_cached_key_is_valid_until_any_key_changes(store, tmp_path):
    secret, key = store.create(("acme",), ["read"])
    assert store.remembered(secret) is None
    assert store.find(secret) == store.find(secret) == store.remembered(secret)
    assert store.remembered(secret + "x") is None
    other = KeyStore(str(tmp_path / "db.keys"))
    other.revoke(key.id)
    other.close()
    assert store.remembered(secret) is None
    assert store.find(secret) is None
    assert store.remembered(secret) is None


def test_a_cached_key_is_dropped_when_it_expires(store, monkeypatch):
    soon = datetime.now(timezone.utc) + timedelta(seconds=50)
    secret, _ = store.create((), ["read"], expires=soon)
    assert [store.find(secret), store.find(secret)] == [store.remembered(secret)] * 2
    monkeypatch.setattr("evomem.service.key_cache.time.time", lambda: soon.timestamp() + 1)
    assert store.remembered(secret) is None


def test_the_absence_of_keys_is_cached_until_a_key_is_created(store):
    assert not store.any()
    assert store.remembered("") is not None
    store.create((), ["read"])
    assert store.remembered("") is None
    assert store.any()
    assert store.remembered("") is None


def test_a_key_that_is_not_there_cannot_be_revoked(store):
    with pytest.raises(NotFound, match="no key with the id 'x'"):
        store.revoke("x")


def test_the_access_log_shows_each_admin_what_is_below_its_prefix(store):
    _, alice = store.create(("acme", "alice"), ["read"])
    _, eve = store.create(("evil",), ["read"])
    store.note(
        [
            Entry(1.0, alice.id, "search", ("acme", "alice"), 3, 200),
            Entry(2.0, eve.id, "search", ("acme", "alice"), 0, 403),
            Entry(3.0, eve.id, "search", ("evil",), 1, 200),
            Entry(4.0, alice.id, "search", ("evil",), 0, 403),
        ]
    )
    times = lambda prefix: [  # noqa: E731
        entry.time for _, entry in store.accesses(Access("", prefix, frozenset()))
    ]
    assert times(()) == [1.0, 2.0, 3.0, 4.0]
    assert times(("acme",)) == [1.0]
    assert store.forget_accesses(2.5) == 2
    assert times(()) == [3.0, 4.0]


def test_keys_and_the_log_are_in_a_schema_of_their_own_on_a_server(new_schema):
    location = new_schema()
    store, other = KeyStore(location), KeyStore(location)
    secret, key = store.create(("a",), ["read"])
    store.note([Entry(1.0, key.id, "search", ("a",), 1, 200)])
    result = other.find(secret)
    assert result is not None
    assert result.prefix == ("a",)
    assert len(other.accesses(Access("", ("a",), frozenset()))) == 1
    other.revoke(key.id)
    assert store.find(secret) is None
    store.close()
    other.close()


# names ---------------------------------------------------------------------------------------


@given(NAMESPACES)
def test_every_namespace_has_a_name_of_its_own(labels):
    assert split_name(join_name(labels)) == labels
    assert "/" not in to_path(join_name(labels))


# the service ---------------------------------------------------------------------------------

CALLS: list[tuple[str, str, object]] = [
    ("GET", "", None),
    ("GET", "/turns", None),
    ("GET", "/turns/secret", None),
    ("GET", "/turns/secret/influence", None),
    ("GET", "/turns/secret/purge", None),
    ("GET", "/turns?words=secret", None),
    ("GET", "/inspect", None),
    ("GET", "/inspect/replaced", None),
    ("POST", "/inspect/map", {"query": "secret"}),
    ("POST", "/inspect/alone", {"query": "secret"}),
    ("GET", "/export", None),
    ("POST", "/search", {"query": "secret"}),
    ("POST", "/context", {"query": "secret"}),
    ("POST", "/turns", {"text": "mine"}),
    ("POST", "/turns/many", {"user": "mine"}),
    ("POST", "/import", [{"role": "user", "content": "mine"}]),
    ("POST", "/fork", {"labels": ["mine"]}),
    ("PATCH", "/turns/secret", {"metadata": {}}),
    ("DELETE", "/turns/secret", None),
    ("POST", "/turns/secret/purge", {}),
    ("POST", "/expire", {"source": [None]}),
    ("DELETE", "", None),
    ("DELETE", "?below=true", None),
]
ADMIN = ["stats", "anchor", "backup", "export"]


@FEW
@given(own=NAMESPACES, other=NAMESPACES)
def test_no_key_reaches_reads_or_counts_another_prefix_whether_it_exists_or_not(client, own, other):
    """The answers about a memory that is there and one that is not are the same, to the byte."""
    if other[: len(own)] == own:
        other = ("another", *other)
    absent = (*other[:-1], other[-1] + "?")
    if absent[: len(own)] == own:
        return
    db = client.app.service.db
    there = db.memory(*other)
    there.add("a secret", id="secret")
    secret, key = client.app.service.keys.create(own, RIGHTS)
    before, names = there.history(), db.memories()
    for method, path, body in CALLS:
        answers = []
        for labels in (other, absent):
            content = None if body is None else json.dumps(body)
            made = client.request(
                method,
                at(*labels) + path,
                content=content,
                headers={**headers(secret), "Content-Type": "application/json"},
            )
            answers.append((made.status_code, made.text))
        assert answers[0] == answers[1]
        assert answers[0][0] == 403
    assert list(other) not in client.get("/v1/memories", headers=headers(secret)).json()["memories"]
    for path in ("/v1/memories", "/v1/tree"):
        listed = client.get(path, params={"prefix": join_name(other)}, headers=headers(secret))
        assert listed.status_code == (200 if own[: len(other)] == other else 403)
        written = json.dumps(list(other), separators=(",", ":"), ensure_ascii=False)
        assert written not in client.get(path, headers=headers(secret)).text
    for path in ADMIN:
        assert client.get(f"/v1/admin/{path}", headers=headers(secret)).status_code == 403
    assert there.history() == before
    assert db.memories() == names
    client.app.service.keys.revoke(key.id)


@FEW
@given(own=NAMESPACES, below=st.lists(LABELS, max_size=3).map(tuple))
def test_a_key_reaches_everything_below_its_prefix(client, own, below):
    secret, key = client.app.service.keys.create(own, ["read", "write"])
    labels = (*own, *below)
    made = client.post(at(*labels) + "/turns", json={"text": "x"}, headers=headers(secret))
    assert made.status_code == 200
    names = client.get("/v1/memories", headers=headers(secret)).json()["memories"]
    assert list(labels) in names
    assert all(tuple(name[: len(own)]) == own for name in names)
    client.app.service.keys.revoke(key.id)


NEEDS = {"GET": "read", "PATCH": "write", "DELETE": "forget"}
FORGETS = ("/purge", "/expire")
READS = ("/search", "/context", "/inspect/map", "/inspect/alone")


@pytest.mark.parametrize("right", RIGHTS)
def test_each_right_allows_its_calls_and_no_others(client, right):
    secret, key = client.app.service.keys.create(("rights",), [right])
    for method, path, body in CALLS:
        needed = NEEDS.get(method, "write")
        if method == "POST":
            needed = "read" if path in READS else "forget" if path.endswith(FORGETS) else needed
        content = None if body is None else json.dumps(body)
        made = client.request(
            method,
            at("rights", "m") + path,
            content=content,
            headers={**headers(secret), "Content-Type": "application/json"},
        )
        assert (made.status_code == 403) == (needed != right), (method, path, made.text)
    client.app.service.keys.revoke(key.id)


def test_a_revoked_key_is_refused_at_once_and_without_a_key_nothing_is_allowed(client):
    secret, key = client.app.service.keys.create((), RIGHTS)
    assert client.get("/v1", headers=headers(secret)).status_code == 200
    assert client.get("/v1", headers={"X-API-Key": secret}).status_code == 200
    client.app.service.keys.revoke(key.id)
    for sent in (headers(secret), {}, headers("evk_nobody_x"), {"Authorization": "Basic eDp5"}):
        refused = client.get("/v1", headers=sent)
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"] == "Bearer"


def test_an_admin_makes_keys_for_its_prefix_with_its_rights_and_no_others(client):
    secret, key = client.app.service.keys.create(("acme",), ["read", "admin"])
    ask = lambda **body: client.post("/v1/admin/keys", json=body, headers=headers(secret))  # noqa: E731
    made = ask(prefix=["acme", "bob"], rights=["read"])
    assert made.status_code == 200
    assert client.get(at("acme", "bob"), headers=headers(made.json()["key"])).status_code == 200
    assert ask(prefix=["evil"], rights=["read"]).status_code == 403
    assert ask(prefix=[], rights=["read"]).status_code == 403
    assert ask(prefix=["acme"], rights=["forget"]).status_code == 403
    _, other = client.app.service.keys.create(("evil",), ["read"])
    listed = client.get("/v1/admin/keys", headers=headers(secret)).json()["keys"]
    assert {key["id"] for key in listed} >= {key.id, made.json()["id"]}
    assert other.id not in {key["id"] for key in listed}
    there = client.delete(f"/v1/admin/keys/{other.id}", headers=headers(secret))
    absent = client.delete(f"/v1/admin/keys/{'0' * 12}", headers=headers(secret))
    assert there.status_code == absent.status_code == 404
    assert there.text.replace(other.id, "0" * 12) == absent.text
    gone = client.delete(f"/v1/admin/keys/{made.json()['id']}", headers=headers(secret))
    assert gone.json()["revoked"]


def test_the_access_log_says_who_did_what_and_never_what_was_said(client):
    secret, key = client.app.service.keys.create(("logged",), RIGHTS)
    client.post(at("logged") + "/turns", json={"text": "BERGEN"}, headers=headers(secret))
    client.post(at("logged") + "/search", json={"query": "BERGEN"}, headers=headers(secret))
    client.portal.call(client.app.service._flush)
    value = client.get("/v1/admin/access", headers=headers(secret))
    lines = value.json()["lines"]
    assert [(line["action"], line["memory"], line["count"], line["key"]) for line in lines] == [
        ("add", ["logged"], 1, key.id),
        ("search", ["logged"], 1, key.id),
    ]
    assert "BERGEN" not in value.text


def test_metrics_count_and_contain_no_names(client):
    secret, _ = client.app.service.keys.create((), ["admin", "write", "read"])
    client.post(at("metered") + "/turns", json={"text": "BERGEN"}, headers=headers(secret))
    text = client.get("/metrics", headers=headers(secret)).text
    for name in ("turns_added_total", "encoder_seconds", "batch_items", "event_loop_lag_seconds"):
        assert f"evomem_{name}" in text
    assert 'action="add"' in text
    assert not any(word in text for word in ("BERGEN", "metered", "evk_"))
    limited, _ = client.app.service.keys.create(("metered",), RIGHTS)
    assert client.get("/metrics", headers=headers(limited)).status_code == 403


def test_a_foreign_memory_is_refused_before_the_database_is_asked(tmp_path):
    app = make_app(Settings(database=str(tmp_path / "a.db"), encoder="hash"))
    with TestClient(app, base_url="http://localhost") as client:
        secret, _ = app.service.keys.create(("own",), RIGHTS)
        app.service.db.close()
        asked = client.get(at("other"), headers=headers(secret))
        own = client.get(at("own"), headers=headers(secret))
    assert (asked.status_code, own.status_code) == (403, 503)


def test_every_metric_of_the_dashboard_is_there_and_every_metric_is_on_it():
    text = (ROOT / "docs" / "operations" / "grafana.json").read_text("utf-8")
    shown = set(re.findall(r"evomem_[a-z_]+?(?=_bucket|_count|_sum|_total|[^a-z_])", text))
    made = Metrics().text()[0].decode()
    assert shown == set(
        re.findall(r"^# TYPE (evomem_[a-z_]+?)(?:_total)? (?:counter|histogram)", made, re.M)
    ) | {"evomem_in_flight"}
