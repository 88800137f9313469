"""What is edited behind evomem's back is reported by `verify`, and not returned by reading."""

from __future__ import annotations

import pytest

import evomem
from evomem.errors import DatabaseDamaged, EncoderError, IntegrityError
from evomem.records import Turn
from tests.stores.helpers import downgrade, raw

KEY = bytes(range(32))


@pytest.fixture(params=[KEY, None], ids=["key", "no key"])
def key(request):
    return request.param


@pytest.fixture
def edited(location, key):
    """Gives what makes a database, edits it, and opens it again."""

    def edit(*statements: str) -> evomem.Database:
        with evomem.open(location, "hash", integrity_key=key) as db:
            for name in ("alice", "bob"):
                db.memory(name).add_many(
                    Turn(user=f"{name} drinks tea {n}", id=f"{name}{n}", metadata={"n": n})
                    for n in range(1, 6)
                )
            db.memory("alice").fork("f").add("alone", id="alone")
            db.memory("alice").delete("alice4")
            assert db.verify() == []
        with raw(location) as execute:
            if not location.startswith("postgresql"):
                execute("PRAGMA foreign_keys = OFF")
            for statement in statements:
                execute(statement)
        return evomem.open(location, "hash", integrity_key=key)

    return edit


ALICE, BOB, FORK = 1, 2, 3


@pytest.mark.parametrize(
    ("statements", "says"),
    [
        (["UPDATE turns SET metadata = '{}' WHERE id = 'bob3'"], "turn 3 of memory 2 was changed"),
        (
            ["UPDATE turns SET added = added - 1 WHERE id = 'bob3'"],
            "turn 3 of memory 2 was changed",
        ),
        (["UPDATE turns SET source = 'user' WHERE id = 'bob3'"], "turn 3 of memory 2 was changed"),
        (["DELETE FROM turns WHERE id = 'bob5'"], "does not end with the turn"),
        (
            [
                "DELETE FROM turns WHERE id = 'bob5'",
                "UPDATE memories SET head = 4 WHERE memory = 2",
            ],
            "entry of memory 2 .* was changed",
        ),
        (["DELETE FROM turns WHERE id = 'bob3'"], "4 turns of its own, not the 5"),
        (["UPDATE memories SET head = head + 10"], "entry of memory 2 .* was changed"),
        (["INSERT INTO hidden (memory, seq) VALUES (2, 1)"], "hides 1 turns"),
        (
            [
                "UPDATE memories SET namespace = 'x' WHERE memory = 2",
                "UPDATE memories SET namespace = '[\"bob\"]' WHERE memory = 1",
            ],
            "entry of memory 1 .* was changed",
        ),
    ],
)
def test_a_memory_that_was_edited_is_not_read(edited, statements, says):
    with edited(*statements) as db:
        with pytest.raises(IntegrityError, match=says):
            db.memory("bob").history()
        with pytest.raises(IntegrityError):
            db.memory("bob").search("bob drinks tea", 5)
        assert db.verify() != []


def test_a_deleted_turn_that_is_shown_again_is_noticed(edited):
    with edited("DELETE FROM hidden") as db:
        for read in (db.memory("alice").history, lambda: db.memory("alice").get("alice4")):
            with pytest.raises(IntegrityError, match="hides 0 turns"):
                read()
        with pytest.raises(IntegrityError, match="hides 0 turns"):
            db.memory("alice").search("alice drinks tea")
        assert any("hides 0 turns" in fault for fault in db.verify())


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE hidden SET since = 0",
        "UPDATE hidden SET since = 2",
        "UPDATE hidden SET since = 9",
        "DELETE FROM hidden",
    ],
)
def test_an_edited_replacement_of_a_turn_raises_integrity_error(location, key, statement):
    with evomem.open(location, "hash", integrity_key=key) as db:
        memory = db.memory("a")
        for n in range(1, 4):
            memory.add(f"tea {n}", id=f"t{n}", supersedes="t1" if n == 3 else None)
        assert [record.id for record in memory.history()] == ["t2", "t3"]
        assert [record.id for record in memory.at(seq=2).history()] == ["t1", "t2"]
        assert db.verify() == []
        with raw(location) as execute:
            execute(statement)
        for view in (memory, memory.at(seq=2)):
            with pytest.raises(IntegrityError, match="hides"):
                view.history()
            with pytest.raises(IntegrityError, match="hides"):
                view.search("tea", 3)
        assert any("hides" in fault for fault in db.verify())


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM forgotten",
        "DELETE FROM forgotten WHERE mark = (SELECT min(mark) FROM forgotten)",
        "INSERT INTO forgotten SELECT memory, 'more', key FROM forgotten LIMIT 1",
        "UPDATE forgotten SET key = '00'",
    ],
)
def test_the_marks_of_purged_turns_are_sealed(location, key, statement):
    with evomem.open(location, "hash", integrity_key=key) as db:
        db.memory("a").add("tea", id="one")
        db.memory("a").add("more tea")
        db.memory("a").purge("one")
        db.memory("a").fork("f")
        assert db.verify() == []
        with raw(location) as execute:
            execute(statement)
        assert any("marks that its purged turns left" in fault for fault in db.verify())
        db.memory("a").add("still more tea", id="two")
        db.memory("a").purge("two")
        assert any("marks that its purged turns left" in fault for fault in db.verify())


def test_a_turn_in_the_place_of_an_earlier_one_of_itself_is_noticed(location, key):
    with evomem.open(location, "hash", integrity_key=key) as db:
        db.memory("a").add("tea", id="one", metadata={"trusted": False})
        db.memory("a").add("more tea")
        with raw(location) as execute:
            [(metadata, seal)] = execute(
                "SELECT metadata, seal FROM turns WHERE id = 'one'"
            ).fetchall()
        db.memory("a").annotate("one", {"trusted": True})
        with raw(location) as execute:
            execute("UPDATE turns SET metadata = ?, seal = ? WHERE id = 'one'", (metadata, seal))
        assert any("that are not the 2" in fault for fault in db.verify())


@pytest.mark.parametrize(
    ("statements", "says"),
    [
        (["UPDATE memories SET parent = 2, parent_seq = 5 WHERE memory = 3"], "entry of memory 3"),
        (["UPDATE encoder SET name = 'static:/tmp/theirs'"], "the database's entry"),
        (
            [
                f"DELETE FROM {table} WHERE memory = 3"
                for table in ("turns", "postings", "runs", "hidden", "forgotten", "memories")
            ],
            "there are 2 memories",
        ),
        (["UPDATE memories SET created = created - 1 WHERE memory = 2"], "entry of memory 2"),
    ],
)
def test_verify_reports_edits_outside_of_turns(edited, statements, says):
    with edited(*statements) as db:
        assert any(says in fault for fault in db.verify()), db.verify()


def test_a_database_that_does_not_say_what_it_is_sealed_with_is_refused(edited):
    with pytest.raises(IntegrityError, match="the record of its integrity key"):
        edited("DELETE FROM integrity")


def test_an_encoder_of_an_edited_name_is_not_loaded(edited, location, key):
    edited("UPDATE encoder SET name = 'hash:24'").close()
    with evomem.open(location, integrity_key=key) as db:
        with pytest.raises(IntegrityError, match="encoders"):
            db.memory("bob").search("tea")
        assert db.verify() != []


def test_later_operations_do_not_hide_an_edited_turn(edited):
    with edited("UPDATE turns SET \"user\" = 'bob drinks poison' WHERE id = 'bob3'") as db:
        bob = db.memory("bob")
        for change in (
            lambda: bob.annotate("bob3", {}),
            lambda: bob.purge("bob2"),
            lambda: bob.expire(before="2020-01-01T00:00:00Z"),
            lambda: db.seal(bytes(32)),
        ):
            with pytest.raises(IntegrityError):
                change()
        bob.add("and wine", id="bob6")
        bob.delete("bob1")
        db.repair()
        db.compact()
        assert any("turn 3 of memory 2 was changed" in fault for fault in db.verify())


def test_a_removed_turn_stays_missing_after_more_was_added_and_purged(edited):
    with edited("DELETE FROM turns WHERE id = 'bob2'") as db:
        bob = db.memory("bob")
        bob.add("bob drinks wine", id="bob6")
        bob.purge("bob6")
        assert any("memory 2 has 4 turns" in fault for fault in db.verify())


def test_an_export_of_what_was_edited_is_refused(edited, tmp_path):
    with edited("DELETE FROM turns WHERE id = 'bob3'") as db:
        with pytest.raises(IntegrityError):
            db.export(tmp_path / "dump")


def test_latents_that_were_edited_are_not_built_upon(edited):
    zero = "UPDATE turns SET latents = {} WHERE id = 'bob3'"
    with edited(zero.format("checksum")) as db:
        with pytest.raises(IntegrityError, match="the encoder's results for turn 3"):
            db.memory("bob").add("bob drinks wine")
        assert any("turn 3 of memory 2 has an embedding" in fault for fault in db.verify())


def test_annotating_leaves_the_readings_of_other_encoders_sound(location, key, tmp_path):
    from evomem.encoder import HashEncoder
    from evomem.reencode import reencode

    with evomem.open(location, HashEncoder(8), integrity_key=key) as db:
        db.memory("a").add("tea", id="one")
    reencode(location, HashEncoder(16), integrity_key=key)
    with evomem.open(location, HashEncoder(16), integrity_key=key) as db:
        db.memory("a").annotate("one", {"n": 1})
        assert db.verify() == []


def test_a_trigger_that_evomem_did_not_make_is_reported(tmp_path):
    path = str(tmp_path / "a.db")
    with evomem.open(path, "hash") as db:
        db.memory("a").add("tea")
    with raw(path) as execute:
        execute("CREATE TRIGGER t AFTER INSERT ON turns BEGIN DELETE FROM hidden; END")
    with evomem.open(path, "hash") as db:
        assert any("trigger" in fault for fault in db.verify())


def test_older_databases_are_sealed_when_they_are_opened(location):
    with evomem.open(location, "hash") as db:
        memory = db.memory("a")
        memory.add_many([evomem.Turn(user=f"tea {n}", id=str(n)) for n in range(600)])
        memory.delete("3")
        memory.fork("f").add("more")
        before = [record.to_json() for record in memory.history()]
    downgrade(location, 4)
    with evomem.open(location, "hash") as db:
        assert db.verify() == []
        assert [record.to_json() for record in db.memory("a").history()] == before


def test_damage_of_any_kind_raises_errors_of_ours_alone(tmp_path):
    path = str(tmp_path / "a.db")
    with evomem.open(path, "hash") as db:
        for n in range(6):
            db.memory("a").add(f"tea {n}")
    for statement in (
        "UPDATE postings SET seqs = 5",
        "UPDATE postings SET seqs = 'abcd'",
        "UPDATE turns SET embedding = 'x' WHERE seq = 3",
        "UPDATE turns SET words = 'x' WHERE seq = 3",
        "UPDATE turns SET seq = 40 WHERE seq = 3",
        "UPDATE memories SET memory = 1152921504606846976",
    ):
        with raw(path) as execute:
            execute("PRAGMA ignore_check_constraints = ON")
            execute(statement)
        with evomem.open(path, "hash") as db:
            assert db.verify()
            for call in (
                lambda db=db: db.memory("a").search("tea"),
                lambda db=db: db.memory("a").search("tea", mode="lexical"),
                db.memory("a").history,
                db.repair,
            ):
                try:
                    call()
                except (DatabaseDamaged, EncoderError):
                    continue
