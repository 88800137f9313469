"""`evomem mcp` as a process of its own, as clients start it."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

import evomem
from evomem.cli import main
from tests.processes import evomem_command

pytest.importorskip("mcp_types", reason="needs the extra [mcp]")

from mcp import Client, StdioServerParameters

PROGRAM = [sys.executable, "-m", "evomem"]


def arguments(path, *more):
    return ["mcp", "--db", str(path), "--encoder", "hash", *more]


@asynccontextmanager
async def client(path, *more, mode="auto"):
    """Start a server, and connect the SDK's client to it."""
    program, *before = evomem_command()
    server = StdioServerParameters(
        command=program, args=[*before, *arguments(path, *more)], env=dict(os.environ)
    )
    async with Client(server, mode=mode) as connected:
        yield connected


class Raw:
    """A server that is spoken to in lines."""

    def __init__(self, path, program=None):
        self.process: Any = subprocess.Popen(
            [*(program or evomem_command()), *arguments(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        hello = {"capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
        self.request("initialize", protocolVersion="2025-06-18", **hello)
        self.send('{"jsonrpc": "2.0", "method": "notifications/initialized"}')

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.kill()
        with suppress(OSError), self.process:  # closes the pipes, and waits
            pass

    def send(self, line):
        data = line if isinstance(line, bytes) else line.encode()
        self.process.stdin.write(data + b"\n")
        self.process.stdin.flush()

    def ask(self, line):
        self.send(line)
        assert select.select([self.process.stdout], [], [], 120)[0], "it does not answer"
        return json.loads(self.process.stdout.readline())

    def request(self, method, **params):
        return self.ask(json.dumps({"jsonrpc": "2.0", "id": 0, "method": method, "params": params}))

    def remember(self, text, **more):
        return self.request("tools/call", name="remember", arguments={"text": text, **more})


async def test_a_client_uses_it_and_the_next_one_finds_what_it_stored(tmp_path):
    path = tmp_path / "agent.db"
    async with client(path, mode="auto") as first:
        assert first.session.protocol_version == "2026-07-28"
        assert len((await first.list_tools()).tools) == 8
        assert not path.exists()  # nothing is opened or loaded before it is needed
        await first.call_tool("remember", {"text": "I moved to Oslo.", "id": "a"})
    async with client(path, mode="legacy") as second:
        assert second.session.protocol_version == "2025-11-25"
        assert len((await second.list_tools()).tools) == 8
        answer = await second.call_tool("recall", {"query": "Who moved to Oslo?"})
    assert [turn["id"] for turn in answer.structured_content["turns"]] == ["a"]


async def test_without_options_it_reads_with_the_bundled_encoder_in_the_users_folder(
    tmp_path, monkeypatch
):
    monkeypatch.delenv("EVOMEM_DB", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    server = StdioServerParameters(
        command=PROGRAM[0], args=[*PROGRAM[1:], "mcp"], env=dict(os.environ), cwd="/"
    )
    async with Client(server) as connected:
        await connected.call_tool("remember", {"text": "We adopted a beagle called Biscuit."})
        await connected.call_tool("remember", {"text": "The boiler was repaired on Tuesday."})
        answer: Any = await connected.call_tool(
            "recall", {"query": "What is our dog's name?", "k": 1}
        )
        status = await connected.call_tool("status", {})
    assert "Biscuit" in answer.content[0].text
    assert status.structured_content["encoder"] == "mini"
    folder = tmp_path / ".evomem"
    assert (folder / "evomem.db").exists()
    assert folder.stat().st_mode & 0o777 == 0o700


async def test_the_command_line_selects_the_memory(tmp_path):
    path = tmp_path / "agent.db"
    async with client(path, "--memory", "acme", "--memory", "bob") as bob:
        await bob.call_tool("remember", {"text": "My PIN is 1234.", "id": "pin"})
    async with client(path, "--memory", "acme", "--memory", "alice", "--source", "desk") as alice:
        assert (await alice.call_tool("get", {"id": "pin"})).is_error
        await alice.call_tool("remember", {"text": "My PIN is 5678.", "id": "pin"})
    with evomem.open(path) as db:
        assert db.memory("acme", "bob").get("pin").turn.user == "My PIN is 1234."
        assert db.memory("acme", "alice").get("pin").turn.source == "desk"


async def test_a_database_that_cannot_be_opened_is_an_error_until_it_can(tmp_path):
    path = tmp_path / "agent.db"
    path.write_text("not a database " * 100)
    async with client(path) as connected:
        first = await connected.call_tool("status", {})
        path.unlink()
        second = await connected.call_tool("status", {})
    assert first.is_error
    assert str(path) in first.content[0].text
    assert not second.is_error


def test_clients_of_version_1_of_the_sdk_use_it(tmp_path, older_client):
    older_client("stdio", *evomem_command(), *arguments(tmp_path / "agent.db"))


def test_killed_while_it_remembers_it_loses_nothing_that_it_acknowledged(tmp_path):
    path = tmp_path / "agent.db"
    acknowledged: list[str] = []
    for delay in (0, 0.01):
        with Raw(path) as server:
            for id in [
                *acknowledged[-1:],
                *(f"{delay}-{number}" for number in range(8)),
            ]:  # first a retry
                assert not server.remember(f"Note {id}", id=id)["result"]["isError"]
                acknowledged.append(id)
            note = {"text": f"Note {delay}-last", "id": f"{delay}-last"}
            last = {"name": "remember", "arguments": note}
            call = {"jsonrpc": "2.0", "id": 0, "method": "tools/call", "params": last}
            server.send(json.dumps(call))
            time.sleep(delay)
            server.process.kill()
            server.process.wait()
            if server.process.stdout.read():  # it was quicker
                acknowledged.append(f"{delay}-last")
    with evomem.open(path) as db:
        stored = [record.id for record in db.memory("default").history()]
        assert db.verify() == []
    assert set(stored) >= set(acknowledged)
    assert len(stored) == len(set(stored))


def test_stdout_carries_the_protocol_and_nothing_else(tmp_path):
    with Raw(tmp_path / "agent.db", PROGRAM) as server:  # whose imports could print something
        assert "result" in server.request("tools/list")
        assert "result" in server.remember("Hello.")
        server.process.stdin.close()
        assert server.process.wait(60) == 0
        assert server.process.stdout.read() == b""
        assert server.process.stderr.read() == b""


def test_lines_that_are_no_messages_do_not_stop_it(tmp_path):
    with Raw(tmp_path / "agent.db") as server:
        for line in (
            "{",
            "[]",
            "null",
            b"\xff\xfe\x00",
            '{"jsonrpc": "2.0", "id": 1}',
            "x" * 100_000,
        ):
            server.send(line)
        assert "result" in server.remember("Hello.")


@pytest.mark.parametrize(
    ("escaped", "stored"),
    [
        (r"half \ud83d here", "half \ufffd here"),
        (r"half \uDE00", "half \ufffd"),
        (r"\ud83d\ud83d\ude00", "\ufffd\N{GRINNING FACE}"),
        (r"whole \ud83d\ude00", "whole \N{GRINNING FACE}"),
        (r"a path C:\\ud83d\\users", r"a path C:\ud83d\users"),
        (r"\\\ud83d \u00e9 \n \"", '\\\ufffd é \n "'),
    ],
)
def test_half_of_a_surrogate_pair_is_answered_and_stored_as_a_replacement(
    half_pairs, escaped, stored
):
    id = f"{abs(hash(escaped))}"
    line = (
        '{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "remember", '
        f'"arguments": {{"id": "{id}", "text": "{escaped}"}}}}}}'
    )
    assert not half_pairs.ask(line)["result"]["isError"]
    (turn,) = half_pairs.request("tools/call", name="get", arguments={"id": id})["result"][
        "structuredContent"
    ]["turns"]
    assert turn["text"] == f"User: {stored}"


@pytest.fixture(scope="module")
def half_pairs(tmp_path_factory):
    with Raw(tmp_path_factory.mktemp("pairs") / "agent.db") as server:
        yield server


def test_without_its_package_the_command_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "mcp_types", None)
    assert main(["mcp"]) == 3
    assert "pip install -e '.[mcp]'" in capsys.readouterr().err
