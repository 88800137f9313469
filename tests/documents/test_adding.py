"""A memory follows its documents: what changed is replaced, and nothing else is touched."""

import json
import os
from contextlib import closing
from datetime import datetime, timezone
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import evomem
from evomem.cli import main
from evomem.documents import Block, Document, document_names, place
from evomem.documents.adding import _Change
from evomem.errors import InputError
from evomem.records import Record, Turn


@pytest.fixture
def memory():
    with closing(evomem.open(":memory:", encoder="hash")) as db:
        yield db.memory("alice")


def document(*texts, name="notes.md", title="Notes"):
    """Return a document with a section, so a passage, for each text."""
    return Document(name, tuple(Block(text, (f"H{text[:2]}",)) for text in texts), title)


def held(memory):
    return {record.turn.user: record.id for record in memory.history()}


def test_a_passage_is_a_turn_that_names_its_place(memory, pdf):
    result = memory.add_document(pdf)
    assert (result.name, result.added) == (str(pdf), 2)
    hit = memory.search("open the lid", 1)[0]
    assert hit.text == "Pump manual: Switch it off before you open the lid."
    assert hit.record.turn.session == str(pdf)
    assert hit.record.turn.source == "document"
    assert place(hit) == f"Pump manual, page 2 ({pdf})"
    assert hit.record.time.timestamp() == pytest.approx(pdf.stat().st_mtime)


def test_the_page_is_in_the_prompt_and_the_place_in_the_command_lines_output(
    memory, pdf, tmp_path, capsys
):
    memory.add("The lid is open.")
    memory.add_document(pdf)
    assert f", session {pdf}, page 2, id " in str(memory.context("open the lid"))
    assert "page" not in str(memory.context("The lid is open.", k=1))
    db = ["--db", str(tmp_path / "x.db")]
    assert main(["ingest", str(pdf), *db, "--encoder", "hash"]) == 0
    capsys.readouterr()
    assert main(["search", "open the lid", "-k", "1", *db]) == 0
    assert "Pump manual, page 2" in " ".join(capsys.readouterr().out.split())


def test_documents_and_conversations_are_searched_together_or_apart(memory):
    memory.add("The lid is open.")
    memory.add_document(document("The lid is heavy."))
    assert len(memory.search("lid", 5)) == 2
    assert [h.record.turn.user for h in memory.search("lid", 5, source="document")] == [
        "The lid is heavy."
    ]
    assert [h.record.turn.user for h in memory.search("lid", 5, not_source="document")] == [
        "The lid is open."
    ]
    assert place(memory.history()[0]) == ""


def test_only_what_changed_is_written_again(memory):
    memory.add_document(document("aa", "bb", "cc", "dd"))
    before = held(memory)
    result = memory.add_document(document("aa", "xx", "dd", "ee"))
    assert (result.added, result.replaced, result.deleted, result.unchanged) == (1, 1, 1, 2)
    after = held(memory)
    assert set(after) == {"aa", "xx", "dd", "ee"}
    assert (after["aa"], after["dd"]) == (before["aa"], before["dd"])
    hit = memory.search("xx", 1)[0]
    assert [old.turn.user for old in hit.replaced] == ["bb"]
    assert {record.turn.user for record in memory.at(seq=4).history()} == {"aa", "bb", "dd"}
    assert not memory.add_document(document("aa", "xx", "dd", "ee")).changed


def test_a_passage_on_another_page_keeps_its_turn(memory):
    memory.add_document(Document("m.pdf", (Block("text", (), 1),)))
    (id,) = held(memory).values()
    result = memory.add_document(Document("m.pdf", (Block("new", (), 1), Block("text", (), 2))))
    assert (result.added, result.moved) == (1, 1)
    assert memory.get(id).turn.metadata["page"] == 2


def test_a_dry_run_says_what_would_change_and_writes_nothing(memory):
    result = memory.add_document(document("aa"), dry_run=True)
    assert (result.added, len(memory)) == (1, 0)


def test_an_expired_document_is_forgotten_and_may_come_back(memory):
    memory.add_document(document("aa", "bb"))
    assert memory.expire(session="notes.md").turns == 2
    assert memory.add_document(document("aa", "bb")).added == 2


def test_a_name_that_is_too_long_is_refused_before_anything_is_written(memory):
    with pytest.raises(InputError, match="limit is 512"):
        memory.add_document(document("aa", name="x" * 513))
    assert len(memory) == 0


@settings(max_examples=25)
@given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=6), min_size=2, max_size=4))
def test_after_any_edits_the_memory_holds_just_the_document(versions):
    """Passages may repeat, move, vanish and return."""
    with closing(evomem.open(":memory:", encoder="hash")) as db:
        memory = db.memory("m")
        memory.add("said before")
        for version in versions:
            texts = [f"{letter}{letter}" for letter, _ in groupby(version)]  # neighbours are one
            result = memory.add_document(document(*texts))
            records = memory.history(session="notes.md")
            assert sorted(record.turn.user for record in records) == sorted(texts)
            assert len(texts) == (result.added + result.replaced + result.moved + result.unchanged)
            assert not memory.add_document(document(*texts)).changed


def run(capsys, *argv):
    code = main([*argv, "--json"])
    return code, json.loads(capsys.readouterr().out or "null")


def test_the_command_line_follows_a_folder(tmp_path, capsys):
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "a.md").write_text("# Pump\n\nFill it.\n\n## Safety\n\nSwitch it off.")
    (folder / "b.txt").write_text("Something else.")
    (folder / "bad.pdf").write_bytes(b"no pdf")
    common = ("--db", str(tmp_path / "x.db"), "--encoder", "hash")
    code, value = run(capsys, "ingest", str(folder), *common)
    assert code == 2
    assert [entry["added"] for entry in value["documents"]] == [2, 1]
    assert "bad.pdf is a damaged PDF" in value["problems"][0]

    (folder / "a.md").write_text("# Pump\n\nFill it.\n\n## Safety\n\nSwitch it off first.")
    os.remove(folder / "b.txt")
    os.remove(folder / "bad.pdf")
    code, value = run(capsys, "ingest", str(folder), "--forget-missing", *common)
    assert code == 0
    (entry,) = value["documents"]
    assert (entry["replaced"], entry["unchanged"]) == (1, 1)
    assert value["forgotten"] == [str(folder / "b.txt")]
    with closing(evomem.open(tmp_path / "x.db")) as db:
        memory = db.memory("default")
        assert document_names(memory) == [str(folder / "a.md")]
        assert [record.turn.speaker for record in memory.history()] == ["Pump", "Pump › Safety"]


@pytest.mark.parametrize("unmount", [os.rmdir, os.listdir], ids=["missing", "empty"])
def test_a_folder_that_may_not_be_mounted_forgets_nothing(tmp_path, capsys, unmount):
    folder = tmp_path / "notes"
    folder.mkdir()
    path = folder / "a.txt"
    path.write_text("Fill it.")
    common = ("ingest", str(folder), "--db", str(tmp_path / "x.db"), "--encoder", "hash")
    assert run(capsys, *common)[0] == 0
    path.unlink()
    unmount(folder)
    assert main([*common, "--forget-missing"]) == 2
    assert str(folder) in (message := capsys.readouterr().err)
    if unmount is os.listdir:
        assert f"evomem expire --session {path}" in " ".join(message.split())
    with closing(evomem.open(tmp_path / "x.db")) as db:
        assert document_names(db.memory("default")) == [str(path)]


def test_tens_of_thousands_of_equal_passages_are_compared_in_linear_time(memory):
    turn = Turn(user="same")
    record = Record(1, turn, datetime.now(timezone.utc))
    # With a quadratic comparison this takes minutes.
    change = _Change(memory, "notes.md", [record] * 30_000, [turn] * 20_000)
    assert (len(change._same), len(change._removed)) == (20_000, 10_000)
    assert (change._new, change._replaced) == ([], [])


def test_the_command_line_refuses_a_folder_without_documents(tmp_path, capsys):
    assert main(["ingest", str(tmp_path), "--db", str(tmp_path / "x.db")]) == 2
    assert "there is no document in" in capsys.readouterr().err
    assert not (tmp_path / "x.db").exists()
