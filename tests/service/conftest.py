"""A client of version 1 of the protocol's SDK, which lives in a virtual environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

OLDER = "mcp==1.30.0"
SESSION = """
import asyncio, json, sys
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamablehttp_client

async def use(transport, address, *arguments):
    if transport == "stdio":
        environment = json.loads(sys.stdin.read())
        opened = stdio_client(StdioServerParameters(command=address, args=arguments, env=environment))
    else:
        opened = streamablehttp_client(address, headers={"Authorization": f"Bearer {arguments[0]}"})
    async with opened as streams, ClientSession(*streams[:2]) as session:
        begun = await session.initialize()
        names = [tool.name for tool in (await session.list_tools()).tools]
        await session.call_tool("remember", {"text": "I moved to Oslo.", "id": "a"})
        found = await session.call_tool("recall", {"query": "Who moved to Oslo?"})
        wrong = await session.call_tool("recall", {"query": "x", "memory": "acme/bob"})
        shown = await session.call_tool("forget", {"id": "a"})
        token = shown.structuredContent["confirm"]
        gone = await session.call_tool("forget", {"id": "a", "confirm": token})
        print(json.dumps({
            "version": begun.protocolVersion,
            "names": names,
            "ids": [turn["id"] for turn in found.structuredContent["turns"]],
            "text": found.content[0].text,
            "wrong": [wrong.isError, wrong.content[0].text],
            "gone": gone.structuredContent["count"],
        }))

asyncio.run(use(*sys.argv[1:]))
"""


@pytest.fixture(scope="session")
def older_client(pytestconfig: pytest.Config) -> Callable[..., None]:
    """Uses the tools from version 1 of the SDK, whose virtual environment is kept between runs.

    Called with `"stdio"` and the server's command, or with `"http"`, its address and a key.
    """
    folder = pytestconfig.cache.mkdir("mcp-1")
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-compile", OLDER]
    make = [[sys.executable, "-m", "venv", "--without-pip", folder], pip]
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if not (folder / "ready").exists():
        for command in make:
            # No time limit: without a network, pip gives up by itself; on a busy machine, it is slow.
            done = subprocess.run(list(map(str, command)), env=bare, capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"no virtual environment with {OLDER}: {done.stderr[-500:]}")
        (folder / "ready").touch()

    def use(*arguments: str) -> None:
        done = subprocess.run(
            [str(python), "-c", SESSION, *arguments],
            input=json.dumps(dict(os.environ)),
            env=bare,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        result: dict[str, Any] = json.loads(done.stdout)
        assert result["version"] == "2025-11-25"
        assert result["names"][:6] == ["remember", "recall", "timeline", "get", "forget", "status"]
        assert result["ids"] == ["a"]
        assert "> User: I moved to Oslo." in result["text"]
        assert result["wrong"][0]
        assert "memory: Extra inputs are not permitted" in result["wrong"][1]
        assert result["gone"] == 1

    return use
