"""The tools over HTTP: the SDK's clients, what a key lets them see and do, and what is noted."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

pytest.importorskip("mcp_types", reason="needs the extra [mcp]")

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from evomem.service.app import make_app
from evomem.service.settings import Settings
from tests.service.http.running import running

pytestmark = pytest.mark.enable_socket  # to a service of this process, on loopback

READING = ["recall", "timeline", "get", "status", "search", "fetch"]
LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
TALK = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A service with keys."""
    place = str(tmp_path_factory.mktemp("mcp") / "a.db")
    with running(database=place, metrics=True, max_body=1 << 20) as made:
        made.service.keys.create((), ["admin"])  # from now on, a key is needed
        yield made


def key_for(served, *labels, rights=("read", "write", "forget")):
    return served.service.keys.create(labels, rights)[0]


@asynccontextmanager
async def client(served, secret, path="/mcp", mode="auto"):
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    async with httpx2.AsyncClient(headers=headers) as http:
        transport = streamable_http_client(f"{served.url}{path}", http_client=http)
        async with Client(transport, mode=mode) as connected:
            yield connected


async def names(connected):
    return [tool.name for tool in (await connected.list_tools()).tools]


def ids(result: Any):
    return [turn["id"] for turn in result.structured_content["turns"]]


@pytest.mark.parametrize(("mode", "version"), [("auto", "2026-07-28"), ("legacy", "2025-11-25")])
async def test_a_client_uses_the_memory_that_its_key_is_for(served, mode, version):
    async with client(served, key_for(served, "used", mode), mode=mode) as connected:
        assert connected.session.protocol_version == version
        assert len(await names(connected)) == 8
        await connected.call_tool("remember", {"text": "I moved to Oslo.", "id": "a"})
        answer = await connected.call_tool("recall", {"query": "Who moved to Oslo?"})
        status: Any = await connected.call_tool("status", {})
    assert ids(answer) == ["a"]
    assert status.structured_content["memory"] == f"used/{mode}"
    assert served.service.db.memory("used", mode).get("a").turn.source == "mcp"


def test_clients_of_version_1_of_the_sdk_use_it(served, older_client):
    older_client("http", f"{served.url}/mcp", key_for(served, "used", "older"))


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_key_that_may_only_read_sees_no_tool_that_writes_and_is_refused_one(served, mode):
    memory = served.service.db.memory("read", mode)
    memory.add("I live in Bergen.", id="a")
    async with client(served, key_for(served, "read", mode, rights=["read"]), mode=mode) as reader:
        assert await names(reader) == READING
        assert ids(await reader.call_tool("timeline", {})) == ["a"]
        wrote: Any = await reader.call_tool("remember", {"text": "x"})
        gone: Any = await reader.call_tool("forget", {"id": "a"})
    for refused, right in ((wrote, "write"), (gone, "forget")):
        assert refused.is_error
        assert f"no right to {right}" in refused.content[0].text
    assert [record.id for record in memory.history()] == ["a"]


async def test_one_key_reaches_memories_below_its_prefix_by_the_address_and_no_others(served):
    served.service.db.memory("rival", "bob").add("My PIN is 1234.", id="pin")
    secret = key_for(served, "tenant")
    async with client(served, secret, "/mcp/tenant/al%2Fice") as alice:
        await alice.call_tool("remember", {"text": "Hello.", "id": "h"})
    assert served.service.db.memory("tenant", "al", "ice").get("h")  # as in `/v1/memories/...`
    async with client(served, secret) as own:
        for tool, arguments in (("get", {"id": "h"}), ("fetch", {"id": "pin"})):
            assert (await own.call_tool(tool, arguments)).is_error
    for path in ("rival/bob", "rival", "nobody", "tenan", "tenantx", "%2E%2E/rival"):
        async with httpx.AsyncClient(headers={"Authorization": f"Bearer {secret}", **TALK}) as http:
            answer = await http.post(f"{served.url}/mcp/{path}", json=LIST)
        assert answer.status_code == 403
        assert answer.json()["detail"].startswith(
            "the key is for memories that begin with 'tenant'"
        )


async def test_many_tenants_at_once_each_see_their_own_memory(served):
    async def use(tenant):
        async with client(served, key_for(served, "many", str(tenant))) as connected:
            for number in range(3):
                await connected.call_tool(
                    "remember", {"text": f"Mine, {tenant}.", "id": str(number)}
                )
            return await connected.call_tool("recall", {"query": "Whose is it?", "k": 50})

    for tenant, result in enumerate(await asyncio.gather(*map(use, range(8)))):
        texts = {turn["text"] for turn in result.structured_content["turns"]}
        assert texts == {f"User: Mine, {tenant}."}


def send(served, headers, body=LIST, method="POST"):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.request(method, f"{served.url}/mcp", headers={**TALK, **headers}, content=content)


def test_the_mcp_endpoint_checks_keys_hosts_origins_and_sizes(served):
    secret = key_for(served, "guarded")
    good = {"Authorization": f"Bearer {secret}"}
    assert send(served, good).status_code == 200
    assert send(served, {"X-API-Key": secret}).status_code == 200
    assert send(served, {}).status_code == 401
    assert send(served, {"Authorization": "Bearer evk_x_y"}).status_code == 401
    assert send(served, {**good, "Host": "evil.example"}).status_code == 421
    assert send(served, {**good, "Origin": "https://evil.example"}).status_code == 403
    assert send(served, good, b" " * (1 << 20) + b"{}").status_code == 413
    assert send(served, good, method="GET").status_code == 405
    for wrong in (b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000):
        assert send(served, good, wrong).status_code == 400
    served.service.keys.revoke(secret.split("_")[1])
    assert send(served, good).status_code == 401


async def test_the_access_log_and_metrics_count_what_tools_do_and_hold_no_text(served):
    async with client(served, key_for(served, "logged")) as connected:
        await connected.call_tool("remember", {"text": "BERGEN", "id": "a"})
        await connected.call_tool("recall", {"query": "BERGEN"})
    async with client(served, key_for(served, "logged", rights=["read"])) as reader:
        await reader.call_tool("remember", {"text": "BERGEN"})
    operator = {"Authorization": f"Bearer {key_for(served, rights=['admin'])}"}
    async with httpx.AsyncClient(base_url=served.url, headers=operator) as http:
        lines: list[Any] = []
        while "mcp remember" not in [line["action"] for line in lines if line["status"] == 403]:
            await asyncio.sleep(0.1)  # the log is written every second
            answer = (await http.get("/v1/admin/access", params={"limit": 1000})).json()
            lines = [line for line in answer["lines"] if line["memory"] == ["logged"]]
        metrics = (await http.get("/metrics")).text
    called = [line for line in lines if line["action"] != "mcp"]  # which is what else is sent
    assert [(line["action"], line["count"], line["status"]) for line in called] == [
        ("mcp remember", 1, 200),
        ("mcp recall", 1, 200),
        ("mcp remember", 0, 403),
    ]
    assert 'action="mcp recall",status="200"' in metrics
    assert "BERGEN" not in metrics + json.dumps(lines)


def test_tokens_of_one_worker_hold_on_another(served):
    other = make_app(Settings(database=served.settings.database, encoder="hash")).service
    assert other.keys.secret() == served.service.keys.secret()
    other.keys.close()
