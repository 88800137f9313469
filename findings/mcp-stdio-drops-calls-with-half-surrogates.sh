#!/usr/bin/env bash
# mcp 2.3.0: over stdio, a call whose text holds half of a surrogate pair is never answered.
#
# Clients in JavaScript send such texts where an emoji was cut: JSON.stringify writes the half as an
# escape. The server's parser (pydantic's) refuses the line, and the server drops it: no JSON-RPC error,
# nothing on stderr, so the client waits until it gives up. Version 1.30.0 at least logged the fault and
# notified the client.
#
# Seen on 2026-11-29 with Python 3.11:
#   whole pair: answered
#   half a pair: no answer in 10 s
#   afterwards: answered
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check mcp==2.3.0
cat >"$folder/server.py" <<'PYTHON'
from mcp.server.mcpserver import MCPServer

server = MCPServer("echo")


@server.tool()
def echo(text: str) -> str:
    return text


server.run()
PYTHON
"$folder/venv/bin/python" - "$folder/server.py" <<'PYTHON'
import json
import select
import subprocess
import sys

server = subprocess.Popen(
    [sys.executable, sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE
)


def answers(line: str) -> bool:
    server.stdin.write(line.encode() + b"\n")
    server.stdin.flush()
    ready = bool(select.select([server.stdout], [], [], 10)[0])
    return ready and bool(server.stdout.readline())


def call(number: int, text: str) -> str:
    """Return a call; `text` is JSON already, as a client in JavaScript writes it."""
    arguments = f'{{"name": "echo", "arguments": {{"text": "{text}"}}}}'
    return f'{{"jsonrpc": "2.0", "id": {number}, "method": "tools/call", "params": {arguments}}}'


hello = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}
assert answers(json.dumps({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello}))
server.stdin.write(b'{"jsonrpc": "2.0", "method": "notifications/initialized"}\n')
seen = {
    "whole pair": answers(call(1, r"\ud83d\ude00")),
    "half a pair": answers(call(2, r"cut \ud83d")),
    "afterwards": answers(call(3, "still there")),
}
server.kill()
server.wait()
for name, answered in seen.items():
    print(f"{name}: {'answered' if answered else 'no answer in 10 s'}")
assert list(seen.values()) == [True, False, True], "this has changed: expected the half unanswered"
PYTHON
