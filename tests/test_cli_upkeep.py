"""The commands that look after a database: each goes all the way, and says what it did."""

from __future__ import annotations

import json
from typing import Any

import pytest

import evomem
from evomem.cli import main


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A database with three turns and a fork, named by the environment."""
    path = tmp_path / "agent.db"
    monkeypatch.setenv("EVOMEM_DB", str(path))
    with evomem.open(str(path), encoder="hash") as db:
        memory = db.memory("default")
        memory.add("I live in Bergen.", id="a", session="monday", time="2024-01-01T00:00:00Z")
        memory.add("I adopted a cat.", id="b", time="2024-02-01T00:00:00Z")
        memory.add("I moved to Oslo.", id="c", time="2024-03-01T00:00:00Z")
    return path


@pytest.fixture
def run(capsys):
    """Run a command with --json; return its exit code and what it said."""

    def call(*arguments):
        code = main([*map(str, arguments), "--json"])
        output = capsys.readouterr()
        return code, json.loads(output.out) if output.out else output.err

    return call


def ids(path, *labels):
    with evomem.open(str(path)) as db:
        return [record.id for record in db.memory(*(labels or ("default",))).history()]


def test_a_purge_prints_its_receipt(run, path):
    code, receipt = run("purge", "b")
    assert (code, receipt["ids"], receipt["turns"], receipt["reread"]) == (0, ["b"], 1, 1)
    assert ids(path) == ["a", "c"]
    assert run("purge", "b")[0] == 3


@pytest.mark.parametrize(
    ("options", "left"),
    [(["--before", "2024-02-15T00:00:00Z"], ["c"]), (["--session", "monday"], ["b", "c"])],
)
def test_expiring_takes_a_time_or_a_session(run, path, options, left):
    assert run("expire", *options)[0] == 0
    assert ids(path) == left


def test_forks_are_left_alone_unless_named(run, path):
    with evomem.open(str(path)) as db:
        db.memory("default").fork("f")
    assert run("expire", "--session", "monday")[0] == 3
    assert run("expire", "--session", "monday", "--forks")[1]["turns"] == 2
    assert run("purge", "b", "--forks")[1]["memories"] == [["default"], ["default", "f"]]
    assert ids(path) == ids(path, "default", "f") == ["c"]


@pytest.mark.parametrize("command", [["expire"], ["drop"], ["reencode"]])
def test_upkeep_commands_change_nothing_by_default(run, path, command):
    assert run(*command)[0] == 2
    assert ids(path) == ["a", "b", "c"]


def test_a_dropped_memory_is_gone(run, path):
    assert run("drop", "--memory", "default")[1]["turns"] == 3
    assert run("stats")[1]["by_memory"] == []
    assert run("drop", "--memory", "default")[0] == 3


def test_the_encoder_is_changed_and_the_old_one_dropped(run, path):
    assert run("reencode", "--encoder", "hash:32", "--workers", 2)[1]["read"] == 3
    _, stats = run("stats")
    assert (stats["encoder"], stats["other_encoders"]) == ("hash:32", ["hash"])
    assert run("reencode", "--drop-old")[1]["dropped"] == ["hash"]
    assert ids(path) == ["a", "b", "c"]


def test_turns_are_put_in_the_order_of_time(run, path):
    with evomem.open(str(path)) as db:
        db.memory("default").add("It was cold.", id="z", time="2001-01-01T00:00:00Z")
    assert run("show", "--at", "2002-01-01")[1]["turns"][0]["id"] == "z"
    assert run("reread")[1]["read"] == 4
    assert ids(path) == ["z", "a", "b", "c"]
    assert run("reread")[1]["read"] == 0


def test_a_backup_is_restored_elsewhere_and_replaces_nothing(run, path, tmp_path):
    assert run("backup", tmp_path / "b.db")[0] == 0
    assert run("backup", tmp_path / "b.db")[0] == 3
    assert run("restore", tmp_path / "b.db")[0] == 3
    assert run("restore", tmp_path / "b.db", "--db", tmp_path / "c.db")[0] == 0
    assert ids(tmp_path / "c.db") == ["a", "b", "c"]
    assert run("restore", tmp_path / "nothing.db", "--db", tmp_path / "d.db")[0] == 3


def test_an_export_is_imported_into_a_new_database_of_its_encoder(run, path, tmp_path):
    assert run("export", tmp_path / "dump")[1]["turns"] == 3
    assert run("import", tmp_path / "dump", "--db", tmp_path / "b.db")[1]["turns"] == 3
    assert ids(tmp_path / "b.db") == ["a", "b", "c"]
    assert run("import", tmp_path / "dump")[0] == 2  # these memories are here already
    (tmp_path / "empty").mkdir()
    assert run("import", tmp_path / "empty", "--db", tmp_path / "c.db")[0] == 2
    assert not (tmp_path / "c.db").exists()


def test_verify_with_repair_fixes_and_names_faults(run, path):
    with evomem.open(str(path)) as db:
        store: Any = db._engine.store
        with store._connections.writing() as connection:
            connection.exec_driver_sql("DELETE FROM postings")
    assert run("verify")[0] == 1
    code, faults = run("verify", "--repair")
    assert (code, faults["faults"]) == (0, [])
    assert "word index" in faults["repaired"][0]


def test_compacting_says_what_it_gave_back(run, path):
    texts = run("compact")[1]
    assert 0 < texts["after"] <= texts["before"]


def test_the_doctor_exits_with_1_if_something_is_wrong(run, path):
    code, texts = run("doctor")
    assert code == 0, texts
    path.chmod(0o644)
    code, texts = run("doctor")
    assert code == 1
    assert [finding["what"] for finding in texts["findings"] if not finding["sound"]] == [
        "permissions"
    ]


def test_embeddings_are_stored_again_where_that_is_asked_for(run, path):
    assert run("stats")[1]["embeddings"] == "int8"
    run("compact", "--embeddings", "float32")
    assert run("stats")[1]["embeddings"] == "float32"
    assert run("verify")[0] == 0
