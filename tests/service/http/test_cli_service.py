"""`evomem keys` and `evomem serve`, as far as it can be told without a server."""

from __future__ import annotations

import json

import pytest

from evomem.cli import main


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Run a command on a database that is not there yet; return its exit code, stdout and stderr."""
    monkeypatch.setenv("EVOMEM_DB", str(tmp_path / "a.db"))
    monkeypatch.setenv("COLUMNS", "200")

    def call(*words):
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_a_key_is_made_listed_and_revoked(run):
    code, secret, err = run("keys", "create", "--prefix", "acme/a%2Fb", "--rights", "read,forget")
    assert (code, secret[:4]) == (0, "evk_")
    assert "read, forget in acme/a%2Fb" in err
    code, out, _ = run("keys", "list", "--json")
    [key] = json.loads(out)["keys"]
    assert (key["prefix"], key["rights"], key["revoked"]) == (
        ["acme", "a/b"],
        ["read", "forget"],
        None,
    )
    assert secret.strip() not in out
    assert run("keys", "list", "--prefix", "other", "--json")[1] == '{\n  "keys": []\n}\n'
    assert run("keys", "revoke", key["id"])[0] == 0
    code, out, _ = run("keys", "list")
    assert "revoked" in out
    assert run("keys", "revoke", "nobody")[0] == 3


@pytest.mark.parametrize("expires", ["90d", "12h", "2w", "2999-01-01T00:00:00Z"])
def test_a_key_can_expire(run, expires):
    code, out, _ = run("keys", "create", "--expires", expires, "--json")
    assert code == 0
    assert json.loads(out)["expires"]


@pytest.mark.parametrize(
    "words",
    [
        ("keys",),
        ("keys", "create", "--rights", "fly"),
        ("keys", "create", "--expires", "soon"),
        ("keys", "create", "--expires", "2020-01-01T00:00:00Z"),
        ("keys", "create", "--prefix", "a//b"),
        ("serve", "--in-flight", "0"),
        ("serve", "--rate", "-1"),
        ("serve", "--host", "0.0.0.0"),
        ("serve", "--behind-proxy"),
    ],
)
def test_invalid_and_unsafe_options_are_refused(run, words):
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err


def test_keys_of_a_store_that_is_not_known_need_a_place(run, tmp_path):
    code, _, err = run("keys", "list", "--db", "other://host/x")
    assert code == 3
    assert "--keys" in err
    assert run("keys", "list", "--db", "other://host/x", "--keys", tmp_path / "k")[0] == 0
