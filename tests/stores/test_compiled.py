"""Databases of one process share their compiled statements."""

from __future__ import annotations

import pytest

import evomem
from evomem_stores.database.compiled import CACHE
from evomem_stores.database.sqlite import SqliteDialect


def use(location: str) -> None:
    with evomem.open(location, encoder="hash") as db:
        memory = db.memory("m")
        record = memory.add("the cat", metadata={"topic": "pets"})
        assert memory.search("the cat", 1)[0].record == record
        memory.purge(record.id)


def test_a_second_database_compiles_no_statement_again(fresh):
    use(fresh())
    compiled = set(CACHE)
    use(fresh())
    assert set(CACHE) <= compiled


def test_servers_of_two_versions_share_nothing():
    dialects = pytest.importorskip("evomem_stores.database.postgresql")
    one, same, newer = (dialects.PostgresDialect() for _ in range(3))
    one.server_version_info = same.server_version_info = (16, 4)
    newer.server_version_info = (17, 0)
    assert one == same
    assert one != newer
    assert one != SqliteDialect()
