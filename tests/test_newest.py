"""The newest turns are the end of the history, however the log was cut and filtered."""

from __future__ import annotations

import pytest

import evomem
from evomem.newest import newest


@pytest.fixture(scope="module")
def memory(tmp_path_factory):
    path = tmp_path_factory.mktemp("newest") / "test.db"
    with evomem.open(path, encoder="hash") as db:
        memory = db.memory("default")
        memory.add_many(
            evomem.Turn(user=f"Note {n}", id=str(n), session="rare" if n % 50 == 7 else "often")
            for n in range(300)
        )
        for session in range(90, 120):
            memory.delete(str(session))
        memory.purge("280")
        yield memory


@pytest.mark.parametrize("limit", [1, 3, 50, 299, 1000])
@pytest.mark.parametrize("session", [None, "rare", "often", "never"])
def test_the_newest_turns_are_the_end_of_the_history(memory, limit, session):
    expected = memory.history(session=session)[-limit:]
    assert newest(memory, limit, session=session) == expected


def test_an_empty_memory_has_none(db):
    assert newest(db.memory("new"), 5) == []
