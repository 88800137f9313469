"""A correction takes the place of a turn: what holds, what is kept of the past, and for how long."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import evomem
from evomem.encoder import HashEncoder
from evomem.errors import DuplicateTurn, NotFound, TurnError
from evomem.reencode import reencode
from tests.overtaken import Overtaken
from tests.stores.counting import counted

ENCODER = HashEncoder(32)


@pytest.fixture
def db(location):
    with evomem.open(location, ENCODER) as opened:
        yield opened


@pytest.fixture
def memory(db):
    """A dose that was corrected twice, and another turn."""
    memory = db.memory("alice")
    memory.add("My dose is 5 mg.", id="a", session="s", speaker="Alice", metadata={"topic": "dose"})
    memory.add("I have a cat.", id="cat")
    memory.add("My dose is 10 mg.", id="b", supersedes="a", session="s")
    memory.add("My dose is 20 mg.", id="c", supersedes="b", session="s")
    return memory


def ids(records):
    return [record.id for record in records]


def replaced(memory, id="c"):
    hits = memory.search("my dose mg", 10)
    return [ids(hit.replaced) for hit in hits if hit.record.id == id]


def test_only_the_newest_value_holds_and_its_hit_names_the_earlier_ones(memory):
    assert ids(memory.history()) == ["cat", "c"]
    for mode in ("hybrid", "evolvable", "lexical"):
        hits = memory.search("What is my dose in mg?", 10, mode=mode)
        assert "a" not in ids(hit.record for hit in hits)
        (best,) = [hit for hit in hits if hit.record.id == "c"]
        assert ids(best.replaced) == ["a", "b"]
        assert [old["text"] for old in best.to_json()["replaced"]] == [
            "Alice: My dose is 5 mg.",
            "User: My dose is 10 mg.",
        ]
    assert "5 mg" not in memory.context("my dose")


def test_the_past_shows_what_held_then(memory):
    assert ids(memory.at(seq=2).history()) == ["a", "cat"]
    assert ids(memory.at(seq=3).history()) == ["cat", "b"]
    (hit,) = [hit for hit in memory.at(seq=3).search("dose") if hit.record.id == "b"]
    assert ids(hit.replaced) == ["a"]


def test_history_shows_all_versions_and_which_turn_replaced_them(memory):
    everything = memory.history(all=True)
    assert [(record.id, record.replaced_by) for record in everything] == [
        ("a", 3),
        ("cat", None),
        ("b", 4),
        ("c", None),
    ]
    assert ids(memory.history(all=True, session="s")) == ["a", "b", "c"]
    assert ids(memory.history(all=True, session="s", after=1, limit=1)) == ["b"]
    assert ids(memory.history(all=True, where={"topic": "dose"})) == ["a"]
    assert ids(memory.at(seq=3).history(all=True)) == ["a", "cat", "b"]


def test_a_correction_keeps_the_speaker_session_and_metadata(db):
    memory = db.memory("m")
    memory.add("I take 5 mg.", reply="Noted: 5 mg.", id="a", session="s", metadata={"n": 1})
    memory.add("It rains.", role="assistant", speaker="Bot", id="b", source="tool")
    new = memory.correct("a", "I take 10 mg.", reply="Noted: 10 mg.", source="user")
    assert (new.turn.user, new.turn.assistant) == ("I take 10 mg.", "Noted: 10 mg.")
    assert (new.turn.session, dict(new.turn.metadata), new.turn.source) == ("s", {"n": 1}, "user")
    assert new.id not in ("a", "b")
    other = memory.correct("b", "It snows.", time="2024-03-05T14:30:00Z")
    assert (other.text, other.turn.source) == ("Bot: It snows.", None)
    assert other.time.isoformat() == "2024-03-05T14:30:00+00:00"
    assert memory.correct(new.id, "I take 15 mg.").turn.assistant == ""


def test_a_replaced_or_deleted_turn_cannot_be_corrected(memory):
    memory.add("Good night.", id="n", role="assistant")
    before = memory.history(all=True)
    for id in ("a", "b", "nobody"):
        with pytest.raises(NotFound, match=f"no current turn with the id '{id}'"):
            memory.correct(id, "My dose is 1 mg.")
    with pytest.raises(TurnError, match="has no reply"):
        memory.correct("n", "Good morning.", reply="Thanks.")
    with pytest.raises(TurnError, match="empty"):
        memory.correct("c", "  ")
    with pytest.raises(DuplicateTurn, match="does not take the place of 'cat'"):
        memory.add("My dose is 20 mg.", id="c", supersedes="cat")
    assert memory.history(all=True) == before


def test_the_same_correction_again_changes_nothing(memory):
    before = memory.history(all=True)
    assert memory.add("My dose is 20 mg.", id="c", supersedes="b").id == "c"
    assert memory.history(all=True) == before


def test_adding_a_contradiction_replaces_no_turn(db):
    memory = db.memory("m")
    memory.add("I live in Bergen.")
    memory.add("I live in Oslo now, not in Bergen any more.")
    assert len(memory) == 2


# forgetting ----------------------------------------------------------------------------------


def test_purging_the_newest_version_forgets_all_of_them_and_none_comes_back(memory, db):
    receipt = memory.purge("c")
    assert sorted(receipt.ids) == ["a", "b", "c"]
    assert ids(memory.history(all=True)) == ["cat"]
    assert ids(memory.at(seq=3).history()) == ["cat"]
    assert db.verify() == []


def test_purging_an_earlier_version_keeps_the_later_ones(memory, db):
    memory.purge("b")
    assert ids(memory.history(all=True)) == ["cat", "c"]
    assert replaced(memory) == [[]]
    assert db.verify() == []
    memory.correct("c", "My dose is 40 mg.")
    assert len(memory) == 2


def test_deleting_the_newest_version_brings_no_earlier_one_back(memory, db):
    memory.delete("c")
    assert ids(memory.history()) == ids(memory.history(all=True)[1:2]) == ["cat"]
    assert ids(memory.history(all=True)) == ["a", "cat", "b"]
    assert ids(memory.at(seq=3).history()) == ["cat", "b"]
    assert db.verify() == []


def test_expiring_takes_earlier_versions_along(db):
    memory = db.memory("m")
    memory.add("My dose is 5 mg.", id="a", time="2024-01-01T00:00:00Z")
    memory.add("My dose is 10 mg.", id="b", time="2024-03-01T00:00:00Z", supersedes="a")
    memory.add("My dose is 15 mg.", id="c", time="2024-05-01T00:00:00Z", supersedes="b")
    memory.expire(before="2024-02-01T00:00:00Z")
    assert ids(memory.history(all=True)) == ["b", "c"]
    memory.expire(before="2024-06-01T00:00:00Z")
    assert memory.history(all=True) == []
    assert db.verify() == []


# copies --------------------------------------------------------------------------------------


def test_a_fork_keeps_corrections_and_goes_its_own_way(memory):
    early, late = memory.at(seq=3).fork("early"), memory.fork("late")
    assert replaced(early, "b") == [["a"]]
    assert replaced(late) == [["a", "b"]]
    late.correct("c", "My dose is 1 mg.")
    assert ids(memory.history()) == ["cat", "c"]
    assert ids(early.history(all=True)) == ["a", "cat", "b"]
    memory.purge("c", forks=True)
    assert [ids(record.history(all=True)) for record in (memory, early)] == [["cat"], ["cat"]]


def test_an_export_and_another_encoder_keep_corrections(memory, db, fresh, tmp_path):
    db.export(tmp_path / "out")
    before = memory.history(all=True)
    place = fresh()
    with evomem.open(place, ENCODER) as other:
        other.load(tmp_path / "out")
        loaded = other.memory("alice")
        assert loaded.history(all=True) == before
        assert replaced(loaded) == [["a", "b"]]
    reencode(place, "hash:16")
    with evomem.open(place) as other:
        assert other.verify() == []
        assert other.memory("alice").history(all=True) == before
        assert replaced(other.memory("alice")) == [["a", "b"]]


# other writers -------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["correct", "delete", "purge"])
def test_the_later_of_two_corrections_of_a_turn_is_refused(location, change):
    encoder = Overtaken()
    with evomem.open(location, encoder) as slow, evomem.open(location, ENCODER) as fast:
        memory, other = slow.memory("m"), fast.memory("m")
        memory.add("My dose is 5 mg.", id="a")
        memory.add("I have a cat.", id="cat")
        arguments = ["a", "My dose is 10 mg."] if change == "correct" else ["a"]
        encoder.meanwhile = lambda: getattr(other, change)(*arguments)
        with pytest.raises(NotFound):
            memory.correct("a", "My dose is 20 mg.")
        assert "20 mg" not in str(memory.history(all=True))
        assert slow.verify() == []


def test_turns_are_replaced_whole_sessions_at_a_time(db):
    memory = db.memory("m")
    memory.add("one", session="a", id="1")
    memory.add("two", session="a", id="2", metadata={"keep": True})
    memory.add("three", session="b", id="3")
    new = [evomem.Turn(user=text, session="a", id=text) for text in ("x", "y")]
    assert ids(memory.replace_sessions(["a", "b"], lambda stored: new)) == ["x", "y"]
    assert ids(memory.history()) == ["3", "x", "y"]
    assert [r.replaced_by for r in memory.history(all=True)] == [5, 5, None, None, None]
    with pytest.raises(TurnError, match="has the session 'c'"):
        memory.replace_sessions(["a"], lambda stored: [evomem.Turn(user="z", session="c")])
    with pytest.raises(DuplicateTurn, match="'x'"):
        memory.replace_sessions(["b"], lambda stored: [evomem.Turn(user="z", session="b", id="x")])
    assert ids(memory.history()) == ["3", "x", "y"]
    assert memory.replace_sessions(["b"], lambda stored: []) == []


def test_a_correction_takes_two_transactions(db):
    memory = db.memory("m")
    memory.add("My dose is 5 mg.", id="a")
    memory.correct("a", "My dose is 10 mg.")
    memory.add("My dose is 5 mg.", id="b")
    with counted(db) as work:
        memory.correct("b", "My dose is 20 mg.")
    assert work.transactions == 2
    assert len(work.statements) <= 11


STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "correct", "delete", "purge"]), st.integers(0, 9)),
    max_size=14,
)


@settings(max_examples=25)
@given(steps=STEPS)
def test_corrections_deletions_and_purges_agree_with_a_simple_model(steps):
    """The model: chains of versions, oldest first; the last of a chain holds unless deleted."""
    chains: list[list[str]] = []
    deleted: set[str] = set()
    with evomem.open(":memory:", ENCODER) as db:
        memory = db.memory("m")
        for number, (step, choice) in enumerate(steps):
            holding = [chain for chain in chains if chain[-1] not in deleted]
            if step == "add":
                chains.append([memory.add(f"note {number}", id=f"n{number}").id])
            elif holding:
                chain = holding[choice % len(holding)]
                if step == "correct":
                    chain.append(memory.correct(chain[-1], f"note {number}").id)
                elif step == "delete":
                    deleted.add(memory.delete(chain[-1]).id)
                else:
                    place = choice % len(chain)
                    memory.purge(chain[place])
                    del chain[: place + 1]
                    chains = [item for item in chains if item]
        holding = [chain for chain in chains if chain[-1] not in deleted]
        assert sorted(ids(memory.history())) == sorted(chain[-1] for chain in holding)
        everything = [id for chain in chains for id in chain if id not in deleted]
        assert sorted(ids(memory.history(all=True))) == sorted(everything)
        hits = {hit.record.id: ids(hit.replaced) for hit in memory.search("note", 50)}
        assert hits == {chain[-1]: chain[:-1] for chain in holding}
        assert db.verify() == []
