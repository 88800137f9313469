"""Many threads, tasks and processes on one store: order kept, nothing lost, nothing doubled."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections import defaultdict

import pytest

from evomem_integrations.langgraph import EvoMemStore
from tests.conftest import ROOT

NS = ("shared",)
THREADS = 16


@pytest.fixture
def store(tmp_path):
    path = str(tmp_path / "store.db")
    with EvoMemStore.from_conn_string(path, encoder="hash:16", index={"fields": ["text"]}) as made:
        yield made


def check_log(store, writers, count):
    """Every writer's own items are there once and in its order, and so is the key all of them put."""
    items = store.search(NS, limit=10_000)
    order = defaultdict(list)
    for item in reversed(items):  # the one put last comes first
        if item.key != "latest":
            order[item.value["by"]].append(item.value["n"])
    assert dict(order) == {name: list(range(count)) for name in writers}
    memory = store.database.memory("langgraph", *NS)
    records = memory.history()
    assert len(records) == len(items) == len(writers) * count + 1
    assert len({record.id for record in records}) == len(records)
    (latest,) = memory.history(session="latest")
    assert store.get(NS, "latest").value == latest.turn.metadata["value"]
    assert store.database.verify() == []


def write(store, name, count):
    for n in range(count):
        store.put(NS, f"{name}-{n}", {"text": f"{name} says {n}", "by": name, "n": n})
        store.put(NS, "latest", {"text": f"{name} was at {n}"})
        assert store.get(NS, f"{name}-{n}") is not None
        hits = store.search(NS, query=f"{name} says {n}", limit=3)
        assert len({item.key for item in hits}) == len(hits)


def test_sixteen_threads_write_and_read_one_namespace(store):
    failures = []

    def run(name):
        try:
            write(store, name, 2)
        except BaseException as error:
            failures.append(error)

    names = [f"t{n}" for n in range(THREADS)]
    threads = [threading.Thread(target=run, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    check_log(store, names, 2)


def test_two_processes_write_one_namespace(store):
    code = (
        "import sys\n"
        "from tests.integrations.langgraph.test_concurrency import write\n"
        "from evomem_integrations.langgraph import EvoMemStore\n"
        "index = {'fields': ['text']}\n"
        "with EvoMemStore.from_conn_string(sys.argv[1], index=index) as store:\n"
        "    print('ready', flush=True)\n"
        "    sys.stdin.readline()\n"
        "    write(store, sys.argv[2], 12)\n"
    )
    path = str(store.database._engine.store._connections.path)
    names = ["one", "two"]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, path, name],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in names
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:  # both begin together
        process.communicate("go\n")
    assert [process.wait() for process in started] == [0, 0]
    check_log(store, names, 12)


async def test_concurrent_tasks_write_in_the_order_of_their_calls(store):
    await asyncio.gather(
        *(store.aput(NS, f"k{n}", {"text": f"fact {n}", "by": "task", "n": n}) for n in range(24)),
        store.aput(NS, "latest", {"text": "done"}),
    )
    check_log(store, ["task"], 24)


async def test_async_calls_do_as_sync_ones(store):
    await store.aput(NS, "a", {"text": "I adopted a cat.", "n": 1})
    await store.aput(NS, "a", {"text": "I adopted two cats.", "n": 2}, ttl=5)
    assert await store.aget(NS, "a") == store.get(NS, "a")
    assert await store.asearch(NS, query="cats", filter={"n": 2}) == store.search(NS, query="cats")
    assert await store.alist_namespaces() == [NS]
    await store.adelete(NS, "a")
    assert await store.aget(NS, "a") is None


def test_writers_of_one_key_leave_one_item(store):
    barrier = threading.Barrier(6)

    def run(name):
        barrier.wait()
        for n in range(3):
            texts = {str(place): f"{name} {n} {place}" for place in range(3)}
            store.put(NS, "key", texts, index=["*"])

    threads = [threading.Thread(target=run, args=(name,)) for name in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = store.database.memory("langgraph", *NS).history()
    value = store.get(NS, "key").value
    assert [record.turn.user for record in records] == list(value.values())
    assert [item.key for item in store.search(NS, query=value["1"])] == ["key"]
