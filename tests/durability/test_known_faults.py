"""Faults that memory systems are known for, each as a test that this one does not have it."""

from __future__ import annotations

import shutil
import threading

import pytest

import evomem
from evomem.documents import Block, Document
from evomem.encoder import HashEncoder
from evomem.errors import FingerprintMismatch, NotFound, QueryError
from evomem.memory import Memory
from evomem.records import Turn
from tests.durability.plans import ENCODER, START, open_database, turn
from tests.durability.reference import assert_sound
from tests.stores.other_process import OtherProcess


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.db"


@pytest.fixture
def db(path):
    with open_database(path) as opened:
        yield opened


def ids(records):
    return [item.record.id if isinstance(item, evomem.Hit) else item.id for item in records]


# an index file that drifts away from what it is an index of --------------------------------------


@pytest.mark.parametrize("since", ["more turns", "a purge", "another memory's"])
def test_an_index_file_from_another_day_is_never_believed(path, since):
    folder = path.with_name("a.db.index")
    with open_database(path) as db:
        db.memory("m").add_many([turn(n) for n in range(1, 9)])
        db.memory("m").search("the cat")
        db.memory("n").add_many([turn(n, "{} dogs bark") for n in range(1, 9)])
        db.memory("n").search("the dogs")
    old = {file.name: file.read_bytes() for file in folder.glob("*.faiss")}
    with open_database(path) as db:
        db.memory("m").add_many([turn(n) for n in range(10, 15)])
        if since == "a purge":
            db.memory("m").purge("t2")
        db.memory("m").search("the cat")
    name = "2.faiss" if since == "another memory's" else "1.faiss"
    (folder / "1.faiss").write_bytes(old[name])
    with open_database(path) as db:
        assert_sound(db)


def test_an_index_folder_next_to_another_database_is_never_trusted(path, tmp_path):
    for name, text in (("a.db", "says {} of the cat"), ("b.db", "{} dogs bark")):
        with open_database(tmp_path / name) as db:
            db.memory("m").add_many([turn(n, text) for n in range(1, 9)])
            db.memory("m").search("the cat")
    shutil.rmtree(tmp_path / "a.db.index")
    shutil.copytree(tmp_path / "b.db.index", tmp_path / "a.db.index")
    with open_database(path) as db:
        assert_sound(db)


# concurrent writes that are lost, doubled or refused as "database is locked" ---------------------


def test_threads_objects_and_processes_that_write_at_once_lose_nothing(path):
    databases = [open_database(path) for _ in range(2)]
    processes = [OtherProcess() for _ in range(2)]

    def by_thread(name, db):
        for n in range(10):
            db.memory("m").add(f"{name} says {n}", id=f"{name}-{n}")

    def by_process(name, process):
        for n in range(0, 10, 2):
            messages = [{"user": f"{name} says {m}", "id": f"{name}-{m}"} for m in (n, n + 1)]
            process.add(str(path), ("m",), messages)

    try:
        threads = [
            threading.Thread(target=by_thread, args=(f"t{n}", databases[n % 2])) for n in range(4)
        ]
        threads += [
            threading.Thread(target=by_process, args=(f"p{n}", process))
            for n, process in enumerate(processes)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        history = databases[0].memory("m").history()
        assert [record.seq for record in history] == list(range(1, 61))
        for name in ("t0", "t1", "t2", "t3", "p0", "p1"):
            own = [record.id for record in history if record.id.startswith(name)]
            assert own == [f"{name}-{n}" for n in range(10)]
        assert_sound(databases[1])
    finally:
        for database in databases:
            database.close()
        for process in processes:
            process.close()


# a scope that is forgotten on one code path ------------------------------------------------------

TIME = START.isoformat()


def _nothing(call):
    """What a call says of a turn that is another memory's."""
    try:
        result = call()
    except (NotFound, QueryError):
        return []
    return result


def _none_of(stored, turn):
    """Return a turn to be written, in the place of no other memory's."""
    assert list(stored) == []
    return [turn]


ENTRY_POINTS = {
    "add": lambda m: ids([m.add("mine", id="t1")]) == ["t1"] and m.get("t1").text == "User: mine",
    "add_many": lambda m: m.add_many([turn(1, "mine {}")])[0].seq == 1,
    "add_document": lambda m: (
        m.add_document(Document("d.md", (Block("mine"),))).added == 1
        and [record.turn.user for record in m.history()] == ["mine"]
    ),
    "annotate": lambda m: _nothing(lambda: m.annotate("t1", {"mood": "stolen"})) == [],
    "at": lambda m: (
        _nothing(lambda: m.at(time=TIME).history()) == [] == _nothing(lambda: m.at(seq=3))
    ),
    "answer": lambda m: m.answer("the cat").ids == (),
    "context": lambda m: m.context("the cat") == "",
    "correct": lambda m: _nothing(lambda: m.correct("t1", "stolen")) == [],
    "delete": lambda m: _nothing(lambda: m.delete("t1")) == [],
    "drop": lambda m: _nothing(m.drop) == [],
    "expire": lambda m: m.expire(before="2999-01-01T00:00:00Z", forks=True).turns == 0,
    "fork": lambda m: _nothing(lambda: m.fork("x")) == [],
    "get": lambda m: _nothing(lambda: m.get("t1")) == [],
    "history": lambda m: m.history() == [],
    "import_chats": lambda m: (
        m.import_chats([{"role": "user", "content": "mine", "id": "t1"}]).new == 1
        and [record.text for record in m.history()] == ["User: mine"]
    ),
    "influence": lambda m: _nothing(lambda: m.influence("t1")) == [],
    "purge": lambda m: _nothing(lambda: m.purge("t1", forks=True)) == [],
    "replace_sessions": lambda m: (
        m.replace_sessions(["s"], lambda held: _none_of(held, Turn(user="mine", session="s")))[
            0
        ].text
        == "User: mine"
    ),
    "reread": lambda m: m.reread() == 0,
    "search": lambda m: (
        [hit for mode in ("evolvable", "lexical", "hybrid") for hit in m.search("cat", mode=mode)]
        == []
    ),
    "__len__": lambda m: len(m) == 0,
}


def test_every_entry_point_is_on_the_list():
    public = {name for name in dir(Memory) if not name.startswith("_")} | {"__len__"}
    twins = {f"a{name}" for name in ENTRY_POINTS} & public
    assert public - twins - {"namespace"} == set(ENTRY_POINTS)


@pytest.mark.parametrize("name", [("m", "x"), ("m x",), ("M",), ('m"',), ("x", "m")])
@pytest.mark.parametrize("entry", ENTRY_POINTS)
def test_no_entry_point_shows_or_changes_another_memory_s_turns(db, entry, name):
    owner = db.memory("m")
    owner.add_many([turn(n) for n in range(1, 6)])
    before = owner.history(), owner.search("the cat", mode="hybrid"), owner.context("the cat")
    assert ENTRY_POINTS[entry](db.memory(*name))
    assert (
        owner.history(),
        owner.search("the cat", mode="hybrid"),
        owner.context("the cat"),
    ) == before


# filters that are applied after the best k were taken --------------------------------------------


@pytest.mark.parametrize("mode", ["evolvable", "lexical", "hybrid"])
def test_a_filter_takes_nothing_from_the_k_that_were_asked_for(db, mode):
    memory = db.memory("m")
    memory.add_many([turn(n, "says {} of the cat the cat") for n in range(1, 200)])
    memory.add_many([turn(n, "{} cat", session="rare") for n in range(200, 205)])
    assert len(memory.search("the cat the cat", 5, mode=mode, session="rare")) == 5


# deletes that keep showing the text ---------------------------------------------------------------


def test_a_deleted_turn_is_shown_by_no_entry_point_now_or_in_the_past(db):
    memory = db.memory("m")
    memory.add_many([turn(n) for n in range(1, 6)])
    memory.delete("t3")
    past = memory.at(seq=4)
    fork = past.fork("f")
    for view in (memory, past, fork, fork.at(seq=3)):
        assert "t3" not in ids(view.history())
        assert "says 3" not in view.context("says 3 of the cat")
        for mode in ("evolvable", "lexical", "hybrid"):
            assert "t3" not in ids(view.search("says 3 of the cat", 99, mode=mode))
        with pytest.raises(NotFound):
            view.get("t3")


# embedders that are changed under a database ------------------------------------------------------


class SameShape(HashEncoder):
    """Another encoder of the very same shape."""

    @property
    def spec(self):
        from dataclasses import replace

        return replace(super().spec, fingerprint="another")


@pytest.mark.parametrize("other", [HashEncoder(8), SameShape(ENCODER.spec.dim)])
def test_an_encoder_of_another_or_the_same_dimension_is_never_mixed_in(path, db, other):
    db.memory("m").add_many([turn(1)])
    with pytest.raises(FingerprintMismatch):
        evomem.open(str(path), other)
    assert db.verify() == []
