"""Two processes that serve one memory through the API: order kept, nothing doubled, one answer."""

from __future__ import annotations

import subprocess
import sys

import pytest

import evomem
from evomem import HashEncoder, Turn
from evomem.state import State
from tests.conftest import ROOT
from tests.processes import Forked
from tests.stores.worker import serve

COUNT = 8


@pytest.fixture
def milvus_server(milvus, tmp_path):
    """The address of a Milvus that several processes may use at once."""
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.stores.milvus_server", str(tmp_path / "milvus")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout
    yield server.stdout.readline().strip()
    server.communicate(timeout=60)


@pytest.mark.parametrize(
    ("kind", "index"),
    [
        ("sqlite", "faiss"),
        ("postgresql", "faiss"),
        ("postgresql", "pgvector"),
        ("postgresql", "milvus"),
    ],
)
def test_two_workers_keep_their_order_and_double_nothing(kind, index, tmp_path, request):
    location = str(tmp_path / "a.db")
    if kind == "postgresql":
        location = request.getfixturevalue("new_schema")()
    options = {"embeddings": "float32"} | ({} if kind == "sqlite" else {"index": index})
    if index == "milvus":
        options["milvus_uri"] = request.getfixturevalue("milvus_server")
    gate = tmp_path / "gate"
    workers = [Forked(serve, location, options, name, COUNT, gate) for name in ("left", "right")]
    assert [worker.stdout.readline() for worker in workers] == ["ready\n"] * 2
    gate.touch()
    for worker in workers:
        worker.finish()
    with evomem.open(location, **options) as db:
        memory = db.memory("served")
        history = memory.history()
        assert [record.seq for record in history] == list(range(1, 3 * COUNT + 1))
        for name in ("left", "right", "all"):
            texts = [record.id for record in history if record.id.startswith(name)]
            assert texts == [f"{name}-{n}" for n in range(COUNT)]
        view = memory._view()
        rows = memory._engine.store.rows(view, after=0)
        encoder = HashEncoder()
        state: State[Turn] = State.empty(encoder.spec)
        for row in rows:  # each was read in the light of those before it, whoever added them
            [reading] = encoder.read(state, [row.turn])
            assert row.reading.embedding.tobytes() == reading.embedding.tobytes()
            state = state.after(row.turn, reading)
            assert row.key == state.key
        hits = memory.search("left says 3", k=3 * COUNT, mode="evolvable")
        assert {hit.seq for hit in hits} == set(range(1, 3 * COUNT + 1))
        assert db.verify() == []
