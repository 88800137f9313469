"""After any history of calls, everything that was sealed fits, and continues every anchor."""

from __future__ import annotations

import itertools
from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import evomem
from evomem.errors import NamespaceError, NotFound, SharedTurns
from evomem.reencode import reencode
from tests.durability.plans import ENCODER, OTHER, turn

NAMES = [("a",), ("a", "f"), ("b",)]
STEP = st.tuples(
    st.sampled_from(
        [
            "add",
            "add many",
            "delete",
            "annotate",
            "purge",
            "expire",
            "fork",
            "drop",
            "load",
            "repair",
            "supersede",
        ]
    ),
    st.sampled_from(NAMES),
    st.integers(0, 3),
)
_numbers = itertools.count(1)


@pytest.mark.parametrize("key", [None, bytes(range(32))], ids=["no key", "key"])
@settings(max_examples=12)
@given(steps=st.lists(STEP, min_size=4, max_size=14))
@example(
    steps=[
        ("add many", ("a",), 0),
        ("fork", ("a",), 0),
        ("add", ("a", "f"), 0),
        ("delete", ("a",), 1),
        ("annotate", ("a",), 0),
        ("supersede", ("a",), 2),
        ("supersede", ("a", "f"), 1),
        ("purge", ("a", "f"), 1),
        ("load", ("a",), 0),
        ("drop", ("a",), 0),
        ("purge", ("a", "f"), 0),
        ("drop", ("a", "f"), 0),
    ]
)
def test_after_any_history_everything_is_sealed(tmp_path_factory, key, steps):
    folder = tmp_path_factory.mktemp("history")
    with evomem.open(":memory:", ENCODER, integrity_key=key) as db:
        for step in steps:
            before = db.anchor()
            with suppress(NotFound, NamespaceError, SharedTurns):
                apply(db, folder, key, *step)
            assert db.verify(before) == [], step


def apply(db, folder, key, what, name, number):
    memory = db.memory(*name)
    records = memory.history()
    id = records[number % len(records)].id if records else "none"
    if what in ("add", "supersede"):
        old = id if what == "supersede" else None
        memory.add(f"tea {number}", metadata={"n": number}, session=f"s{number}", supersedes=old)
    elif what == "add many":
        memory.add_many([evomem.Turn(user=f"tea {n}", session=f"s{n}") for n in range(6)])
    elif what == "delete":
        memory.delete(id)
    elif what == "annotate":
        memory.annotate(id, {"more": number})
    elif what == "purge":
        memory.purge(id, forks=number > 1)
    elif what == "expire":
        memory.expire(session=f"s{number}", forks=True)
    elif what == "fork":
        memory.fork("f")
    elif what == "drop":
        memory.drop()
    elif what == "load":
        target = folder / f"dump{next(_numbers)}"
        db.export(target)
        with evomem.open(":memory:", ENCODER, integrity_key=key) as copy:
            assert copy.load(target) == db.stats()["turns"]
            assert copy.verify() == []
    else:
        db.repair()


def test_another_encoder_a_backup_and_another_key_leave_everything_sealed(tmp_path):
    path, key = tmp_path / "a.db", bytes(range(32))
    with evomem.open(str(path), ENCODER, integrity_key=key) as db:
        db.memory("a").add_many([turn(n) for n in range(5)])
        db.memory("a").fork("f").add("more")
        anchor = db.anchor()
    reencode(str(path), OTHER, integrity_key=key)
    with evomem.open(str(path), OTHER, integrity_key=key) as db:
        assert db.verify(anchor) == []
        db.backup(tmp_path / "b.db")
        db.drop_generations()
        db.compact()
        assert db.verify(anchor) == []
        db.seal(bytes(32))
        assert db.verify() == []
    with evomem.open(str(tmp_path / "b.db"), OTHER, integrity_key=key) as db:
        assert db.verify(anchor) == []
