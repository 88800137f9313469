"""Integrity keys, anchors and sealed exports."""

from __future__ import annotations

import base64
import json
import shutil
import stat

import pytest

import evomem
from evomem.doctor import examine
from evomem.errors import InputError, IntegrityError, KeyMismatch, StoreError
from evomem.integrity import FILE_VARIABLE, KEY_VARIABLE, find_key, key_id, make_key, read_key
from tests.stores.helpers import raw

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))


def open_at(location, key=KEY, **options):
    return evomem.open(str(location), "hash", integrity_key=key, **options)


@pytest.fixture
def sealed(location):
    with open_at(location) as db:
        for n in range(5):
            db.memory("a").add(f"tea {n}", id=f"t{n}", metadata={"n": n})
        db.memory("a").fork("f").add("more")
        db.memory("a").delete("t2")
    return location


# keys ----------------------------------------------------------------------------------------


def test_a_key_is_found_as_bytes_in_a_file_and_in_the_environment(tmp_path, monkeypatch):
    path = tmp_path / "key"
    key = make_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert find_key(key) == find_key(path) == read_key(str(path)) == key
    assert find_key() is None
    for text in (key.hex(), base64.b64encode(key).decode(), base64.urlsafe_b64encode(key).decode()):
        monkeypatch.setenv(KEY_VARIABLE, text)
        assert find_key() == key
    monkeypatch.delenv(KEY_VARIABLE)
    monkeypatch.setenv(FILE_VARIABLE, str(path))
    assert find_key() == key
    (tmp_path / "raw").write_bytes(key)
    assert find_key(tmp_path / "raw") == key


@pytest.mark.parametrize("text", ["", "abc", "00" * 31, "é" * 20])
def test_a_text_that_is_not_a_key_is_refused(tmp_path, text):
    (tmp_path / "key").write_text(text)
    with pytest.raises(KeyMismatch, match="32 bytes"):
        find_key(tmp_path / "key")
    with pytest.raises(KeyMismatch, match="cannot be read"):
        find_key(tmp_path / "none")


def test_a_key_is_never_written_over_another_file(tmp_path):
    (tmp_path / "key").write_text("precious")
    with pytest.raises(StoreError, match="new file"):
        make_key(tmp_path / "key")
    assert (tmp_path / "key").read_text() == "precious"


def test_a_database_opens_with_its_key_alone(sealed):
    for key, says in ((None, "EVOMEM_INTEGRITY_KEY_FILE"), (OTHER, key_id(OTHER))):
        with pytest.raises(KeyMismatch, match=says):
            open_at(sealed, key)
    with open_at(sealed) as db:
        assert len(db.memory("a")) == 4
        assert db.key_id == key_id(KEY)


def test_the_key_is_not_in_the_database(tmp_path):
    with open_at(tmp_path / "a.db") as db:
        db.memory("a").add("tea")
    data = (tmp_path / "a.db").read_bytes()
    assert KEY not in data
    assert KEY.hex().encode() not in data
    assert key_id(KEY).encode() in data


def test_a_database_that_is_made_to_look_unsealed_is_refused(sealed):
    with raw(sealed) as execute:
        execute("UPDATE integrity SET key = ''")
    with pytest.raises(KeyMismatch, match="it has been edited"):
        open_at(sealed)
    with open_at(sealed, None) as db:
        with pytest.raises(IntegrityError):
            db.memory("a").history()
        assert db.verify()


def test_an_unsealed_database_with_memories_is_not_taken_for_a_sealed_one(location):
    with open_at(location, None) as db:
        db.memory("a").add("tea")
    with pytest.raises(KeyMismatch, match="evomem keys integrity"):
        open_at(location)


def test_sealing_with_another_key_is_noticed_by_anyone_who_has_the_database_open(sealed):
    with open_at(sealed) as one, open_at(sealed) as two:
        assert one.seal(OTHER) == 6
        assert one.verify() == []
        one.memory("a").add("after", id="after")
        with pytest.raises(KeyMismatch, match="open it again"):
            two.memory("a").history()
        with pytest.raises(KeyMismatch):
            two.memory("a").add("lost")
    with open_at(sealed, OTHER) as db:
        assert db.verify() == []
        assert db.memory("a").get("after").seq == 6


def test_a_database_with_faults_cannot_be_sealed(sealed):
    with raw(sealed) as execute:
        execute("UPDATE turns SET metadata = '{}' WHERE id = 't3'")
    with open_at(sealed) as db:
        with pytest.raises(IntegrityError, match="not sealed"):
            db.seal(OTHER)
        assert db.key_id == key_id(KEY)


def test_the_doctor_says_what_the_seals_are_worth(sealed, monkeypatch, tmp_path):
    path = tmp_path / "key"
    path.write_text(KEY.hex())
    monkeypatch.setenv(FILE_VARIABLE, str(path))
    for mode, sound in ((0o644, False), (0o600, True)):
        path.chmod(mode)
        [finding] = [item for item in examine(sealed) if item.what == "integrity"]
        assert finding.sound == sound
    monkeypatch.delenv(FILE_VARIABLE)
    assert any("sealed with the integrity key" in item.says for item in examine(sealed))


# anchors -------------------------------------------------------------------------------------


def test_an_anchor_is_continued_by_all_that_evomem_does(sealed):
    with open_at(sealed) as db:
        anchors = [db.anchor()]
        memory = db.memory("a")
        for change in (
            lambda: memory.add("more tea", id="more"),
            lambda: memory.annotate("more", {"n": 9}),
            lambda: memory.delete("t3"),
            lambda: memory.purge("t1", forks=True),
            lambda: db.memory("a", "f").purge("t4"),
            lambda: memory.fork("g").add("x"),
            lambda: db.memory("b").add("y"),
            lambda: memory.drop(),
            lambda: db.drop("a"),
        ):
            change()
            anchors.append(db.anchor())
            assert [db.verify(anchor) for anchor in anchors] == [[]] * len(anchors)
    assert "tea" not in json.dumps(anchors)


def test_a_cut_tail_an_older_memory_and_an_older_copy_do_not_continue_an_anchor(tmp_path):
    path = tmp_path / "a.db"
    with open_at(path) as db:
        db.memory("a").add("tea 1")
        db.memory("b").add("tea 2")
        with raw(str(path)) as execute:
            old = execute("SELECT * FROM memories WHERE memory = 1").fetchone()
    shutil.copy(path, tmp_path / "old.db")
    with open_at(path) as db:
        db.memory("a").add("tea 3")
        db.memory("c").add("tea 4")
        anchor = db.anchor()
    shutil.copy(path, tmp_path / "new.db")
    shutil.copy(tmp_path / "old.db", path)
    with open_at(path) as db:
        assert len(db.memory("a")) == 1
        assert db.verify() == []
        faults = db.verify(anchor)
        assert any("older than the anchor" in fault for fault in faults)
        assert any("memory 1 is older than it was" in fault for fault in faults)
        db.memory("a").add("another")
        db.memory("c").add("another")
        assert db.verify(anchor)
    shutil.copy(tmp_path / "new.db", path)
    with raw(str(path)) as execute:  # one memory alone is put back
        for table in ("turns", "postings", "runs"):
            column = {"turns": "seq"}.get(table, "last")
            execute(f"DELETE FROM {table} WHERE memory = 1 AND {column} > 1")
        execute("DELETE FROM memories WHERE memory = 1")
        execute(f"INSERT INTO memories VALUES ({', '.join('?' * len(old))})", old)
    with open_at(path) as db:
        assert db.verify() == []
        assert len(db.memory("a")) == 1
        assert any("memory 1 is older than it was" in fault for fault in db.verify(anchor))


def test_an_anchor_of_another_database_key_or_that_was_edited_is_reported(sealed, tmp_path):
    with open_at(sealed) as db, open_at(tmp_path / "b.db") as other:
        anchor = db.anchor()
        assert any("belongs to another database" in fault for fault in db.verify(other.anchor()))
        edited = {**anchor, "changes": 0}
        assert any("was changed since it was taken" in fault for fault in db.verify(edited))
        db.seal(OTHER)
        assert any("take a new anchor" in fault for fault in db.verify(anchor))
        for text in ("{", "[]", "{}", "[" * 100_000):
            (tmp_path / "anchor").write_text(text)
            with pytest.raises(InputError, match="has no anchor"):
                db.verify(tmp_path / "anchor")


@pytest.mark.parametrize("value", [None, [], [[1]], [["x"] * 8], {"a": 1}, 3])
def test_an_anchor_with_anything_in_it_is_a_fault_and_no_foreign_error(sealed, value):
    with open_at(sealed) as db:
        anchor = db.anchor()
        for name in anchor:
            assert db.verify({**anchor, name: value})


def test_no_anchor_is_taken_of_a_database_that_was_edited(sealed):
    with raw(sealed) as execute:
        execute("DELETE FROM turns WHERE id = 't4'")
    with open_at(sealed) as db, pytest.raises(IntegrityError, match="anchor"):
        db.anchor()


# exports -------------------------------------------------------------------------------------


@pytest.fixture
def dump(sealed, tmp_path):
    with open_at(sealed) as db:
        db.export(tmp_path / "dump")
    return tmp_path / "dump"


EDITS = [
    ("1.jsonl", b'"n": 3', b'"n": 4'),
    ("1.jsonl", b'"session": null', b'"session": "s"'),
    ("1.jsonl", b'"id": "t1"', b'"id": "t9"'),
    ("1.jsonl", b'"source": null', b'"source": "user"'),
    ("1.jsonl", b'"added": "2', b'"added": "1'),
    ("1.safetensors", None, None),
    ("evomem.json", b'"deleted": [\n    3\n   ]', b'"deleted": []'),
    ("evomem.json", b'"a"\n', b'"b"\n'),
]


@pytest.mark.parametrize(("file", "old", "new"), EDITS)
@pytest.mark.parametrize("forged", [False, True])
def test_an_edited_export_is_refused_even_with_digests_computed_again(dump, file, old, new, forged):
    path = dump / file
    data = path.read_bytes()
    if old is None:
        data = data[:-1] + bytes([data[-1] ^ 1])
    else:
        assert old in data
        data = data.replace(old, new, 1)
    path.write_bytes(data)
    if forged:
        _forge(dump)
    with open_at(":memory:") as copy:
        with pytest.raises(StoreError, match="was changed since"):
            copy.load(dump)
        assert copy.memories() == []


def test_an_export_that_no_key_proves_is_loaded_with_a_warning(dump, tmp_path):
    with open_at(":memory:", None) as copy:
        with pytest.warns(UserWarning, match=f"sealed with the key {key_id(KEY)}"):
            copy.load(dump)
        assert copy.verify() == []
    with open_at(":memory:", OTHER) as copy:
        assert copy.load(dump, integrity_key=KEY) == 6
        assert copy.verify() == []
    with open_at(":memory:", OTHER) as copy:
        with pytest.raises(StoreError, match="not sealed with the key"):
            copy.load(dump, integrity_key=OTHER)
        assert copy.memories() == []
    about = json.loads((dump / "evomem.json").read_text())
    for name in ("files", "digest", "seal", "database", "key"):
        del about[name]
    (dump / "evomem.json").write_text(json.dumps({**about, "format": 1}))
    with open_at(":memory:", None) as copy:
        with pytest.warns(UserWarning, match="did not seal exports"):
            copy.load(dump)
        assert copy.verify() == []


@pytest.mark.filterwarnings("ignore:.*only digests")  # before it turns out to be worse
@pytest.mark.parametrize(
    "about", ["[]", "{}", '{"format": 2}', '{"format": 1}', '{"format": 1, "memories": [3]}', "["]
)
def test_an_export_that_says_nothing_sensible_is_refused(dump, about):
    (dump / "evomem.json").write_text(about)
    with open_at(":memory:", None) as copy:
        with pytest.raises(StoreError):
            copy.load(dump)
        assert copy.memories() == []


def _forge(folder):
    """Compute every digest of an export anew that can be computed without the key."""
    from evomem_stores.upkeep import dump as dumps

    about = json.loads((folder / "evomem.json").read_text())
    about["files"] = {name: dumps._digest((folder / name).read_bytes()) for name in about["files"]}
    about["digest"] = dumps._seal(about, None).hex()
    (folder / "evomem.json").write_text(json.dumps(about))
