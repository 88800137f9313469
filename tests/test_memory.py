"""What a user of the memory API may rely on, on a real database."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from dataclasses import replace
from datetime import datetime, timezone

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import evomem
import evomem.errors
from evomem import HashEncoder, Turn
from evomem.errors import (
    DuplicateTurn,
    EncoderError,
    FingerprintMismatch,
    NamespaceError,
    NotFound,
    QueryError,
    SharedTurns,
    TurnError,
)

DAY = [datetime(2024, 3, day, tzinfo=timezone.utc) for day in range(1, 29)]


@pytest.fixture
def db(location):
    """A new database, once in a file and once on a server, read by the hashing encoder."""
    with evomem.open(location, encoder="hash") as opened:
        yield opened


@pytest.fixture
def alice(db):
    memory = db.memory("acme", "alice")
    memory.add("I live in Bergen.", reply="A rainy place!", id="bergen", time=DAY[0], session="s1")
    memory.add("I adopted a cat called Miso.", id="cat", time=DAY[1], session="s1")
    memory.add("Did you book the vet?", role="assistant", id="vet", time=DAY[2], session="s2")
    memory.add("I moved to Oslo.", id="oslo", time=DAY[3], metadata={"topic": "home", "stars": 4})
    return memory


def ids(hits):
    return [hit.record.id for hit in hits]


def log(memory):
    """Everything the log holds of a memory that can be compared, embeddings and latents included."""
    view = memory._view()
    return [
        (row.turn.id, row.turn.text, row.reading.opens_chunk, row.key)
        + (row.reading.embedding.tobytes(), row.reading.latents.tobytes())
        for row in memory._engine.store.rows(view, after=0)
    ]


# adding --------------------------------------------------------------------------------------


def test_an_added_turn_is_found_after_reopening(location):
    with evomem.open(location, encoder="hash") as db:
        before = db.memory("a").add("I adopted a cat called Miso.", reply="Sweet!")
    with evomem.open(location) as db:
        [hit] = db.memory("a").search("Miso the cat")
        assert (hit.record, hit.text) == (
            before,
            "User: I adopted a cat called Miso.\nAssistant: Sweet!",
        )


def test_seqs_count_from_one_in_order(alice):
    assert [(r.seq, r.id) for r in alice.history()] == [
        (1, "bergen"), (2, "cat"), (3, "vet"), (4, "oslo"),
    ]  # fmt: skip


def test_an_id_added_again_with_the_same_text_changes_nothing(alice):
    before = log(alice)
    again = alice.add("I adopted a cat called Miso.", id="cat")
    assert again == alice.get("cat")
    assert log(alice) == before


def test_an_id_added_again_with_another_text_is_refused(alice):
    before = log(alice)
    with pytest.raises(DuplicateTurn, match="already holds the id 'cat'"):
        alice.add_many([Turn(user="fine"), Turn(user="A dog, in fact.", id="cat")])
    assert log(alice) == before


def test_the_same_id_twice_in_one_call_is_refused(alice):
    with pytest.raises(DuplicateTurn, match="twice"):
        alice.add_many([Turn(user="a", id="x"), Turn(user="b", id="x")])
    assert len(alice) == 4


def test_a_deleted_id_is_not_taken_again_silently(alice):
    alice.delete("cat")
    with pytest.raises(DuplicateTurn, match="was deleted"):
        alice.add("I adopted a cat called Miso.", id="cat")


def test_one_bad_item_among_many_leaves_the_log_as_it_was(alice):
    before = log(alice)
    good = [{"role": "user", "content": f"note {i}"} for i in range(200)]
    with pytest.raises(TurnError, match="message 200"):
        alice.add_many([*good, {"role": "user", "content": " "}])
    assert log(alice) == before


def test_a_taken_id_after_the_first_batch_leaves_the_log_as_it_was(alice):
    before = log(alice)
    notes = [Turn(user=f"note {i}") for i in range(100)]
    with pytest.raises(DuplicateTurn, match="'cat'"):
        alice.add_many([*notes, Turn(user="Another text.", id="cat")])
    assert log(alice) == before


def test_only_a_user_s_text_has_a_reply(alice):
    with pytest.raises(TurnError, match="leave role='user'"):
        alice.add("Did you book it?", role="assistant", reply="Yes.")
    with pytest.raises(TurnError, match="has no reply"):
        alice.correct("vet", "Did you book the dentist?", reply="Yes.")
    turn = alice.correct("vet", "Did you book the dentist?").turn
    assert (turn.user, turn.assistant, turn.session) == ("", "Did you book the dentist?", "s2")


def test_a_point_that_a_view_or_a_memory_does_not_have_is_refused(alice, db):
    past = alice.at(seq=2)
    for call in (lambda: past.at(seq=3), lambda: past.search("cat", at=3)):
        with pytest.raises(QueryError, match="ends at turn 2: there is no turn 3"):
            call()
    with pytest.raises(QueryError, match="is empty: there is no turn 1"):
        db.memory("new").at(seq=1)
    with pytest.raises(NotFound, match="add a turn before forking it"):
        db.memory("new").fork("copy")


def test_a_memory_is_shown_with_its_name_and_its_point(alice):
    assert repr(alice) == "Memory('acme/alice')"
    assert repr(alice.at(seq=2)) == "MemoryView('acme/alice', seq=2)"


def test_messages_are_paired_and_progress_is_reported(db):
    told = []
    messages = [
        {"role": r, "content": f"{r} {i}"} for i in range(150) for r in ("user", "assistant")
    ]
    records = db.memory("m").add_many(
        messages, progress=lambda done, total: told.append((done, total))
    )
    assert len(records) == 150
    assert told[-1] == (150, 150)
    assert len(told) > 1


@pytest.mark.parametrize("role", ["system", "tool", "", None, "User"])
def test_a_wrong_role_is_refused(alice, role):
    with pytest.raises(TurnError, match="role must be 'user' or 'assistant'"):
        alice.add("hello", role=role)


class Broken(HashEncoder):
    """Gives what no encoder may give."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def read(self, state, turns):
        readings = super().read(state, turns)
        readings[-1].embedding[0] = self.value
        return readings

    def embed_queries(self, state, queries):
        return np.full((len(queries), self.spec.dim), self.value, np.float32)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 7.0])
def test_an_unusable_vector_is_refused_before_anything_is_written(location, value):
    with evomem.open(location, encoder=Broken(value)) as db:
        with pytest.raises(EncoderError):
            db.memory("a").add_many([Turn(user="one"), Turn(user="two")])
        assert len(db.memory("a")) == 0


def test_an_unusable_query_vector_is_refused(location, db):
    db.memory("a").add("hello")
    db.close()
    with evomem.open(location, encoder=Broken(float("nan"))) as broken:
        with pytest.raises(EncoderError, match="unusable vector"):
            broken.memory("a").search("hello")


def test_a_database_whose_encoder_has_changed_since_is_refused_with_the_remedy(tmp_path):
    class Older(HashEncoder):
        @property
        def spec(self):
            return replace(super().spec, fingerprint="an older version")

    path = str(tmp_path / "older.db")
    with evomem.open(path, encoder=Older()) as db:
        db.memory("a").add("hello")
    with (
        evomem.open(path) as db,
        pytest.raises(FingerprintMismatch, match="an older ver.*evomem reencode"),
    ):
        db.memory("a").search("hello")


def test_a_database_of_another_encoder_is_refused_and_left_alone(location, alice, db):
    before = log(alice)
    db.close()
    with pytest.raises(FingerprintMismatch, match="hash:64.*evomem reencode"):
        evomem.open(location, encoder="hash:64")
    with evomem.open(location) as again:
        assert log(again.memory("acme", "alice")) == before


# searching -----------------------------------------------------------------------------------


def test_the_turn_that_answers_is_found_first(alice):
    assert ids(alice.search("cat called Miso"))[0] == "cat"
    assert ids(alice.search("vet", mode="lexical")) == ["vet"]
    assert ids(alice.search("who moved to Oslo", mode="hybrid"))[0] == "oslo"


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"session": "s1"}, {"bergen", "cat"}),
        ({"role": "assistant"}, {"vet"}),
        ({"role": "exchange"}, {"bergen"}),
        ({"since": DAY[2]}, {"vet", "oslo"}),
        ({"until": DAY[2]}, {"bergen", "cat"}),
        ({"since": "2024-03-02T00:00:00Z", "until": DAY[3]}, {"cat", "vet"}),
        ({"where": {"topic": "home"}}, {"oslo"}),
        ({"where": {"stars": {"$gte": 4, "$lt": 5}}}, {"oslo"}),
        ({"where": {"stars": {"$gt": 4}}}, set()),
        ({"where": {"topic": {"$exists": False}}}, {"bergen", "cat", "vet"}),
        ({"at": 2}, {"bergen", "cat"}),
        ({"at": DAY[2]}, {"bergen", "cat", "vet"}),
        ({"at": 0}, set()),
        ({"session": "'; DROP TABLE turns; --"}, set()),
        ({"where": {"'; DROP TABLE turns; --": 1}}, set()),
        ({"where": {'."topic"': "home"}}, set()),
    ],
)
@pytest.mark.parametrize("mode", ["evolvable", "hybrid"])
def test_filters_leave_exactly_what_they_describe(alice, filters, found, mode):
    assert set(ids(alice.search("anything", k=10, mode=mode, **filters))) == found


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ({"query": ""}, "empty"),
        ({"query": " \n"}, "empty"),
        ({"query": 3}, "must be a string"),
        ({"query": "a\x00"}, "NUL"),
        ({"query": "q", "k": 0}, "k must be"),
        ({"query": "q", "k": 2.5}, "k must be"),
        ({"query": "q", "k": True}, "k must be"),
        ({"query": "q", "mode": "magic"}, "mode must be one of"),
        ({"query": "q", "role": "system"}, "role must be one of"),
        ({"query": "q", "session": 3}, "session must be"),
        ({"query": "q", "since": datetime(2024, 1, 1)}, "no time zone"),
        ({"query": "q", "where": {"a": {"$regex": "x"}}}, "operators are"),
        ({"query": "q", "where": {"a": {}}}, "empty"),
        ({"query": "q", "where": [1]}, "must be a mapping"),
        ({"query": "q", "where": {1: 2}}, "keys must be strings"),
        ({"query": "q", "at": 99}, "99"),
        ({"query": "q", "at": -1}, "-1"),
        ({"query": "q", "at": 10**30}, "to 4294967295 at most, got 10000"),
        ({"query": "q", "at": 10**5000}, "too large to print"),
        ({"query": "q", "at": -(10**5000)}, "too large to print"),
        ({"query": "q", "k": -(10**5000)}, "too large to print"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(alice, call, says):
    with pytest.raises(QueryError, match=says):
        alice.search(**call)


HUGE = {"2**32": 2**32, "2**63": 2**63, "2**64": 2**64, "10**30": 10**30, "10**5000": 10**5000}


@pytest.mark.parametrize("number", HUGE.values(), ids=HUGE)
def test_a_limit_may_be_any_number(location, number):
    with evomem.open(location, encoder="hash") as db:
        memory = db.memory("m")
        memory.add_many([Turn(user=f"cat {n}", metadata={"n": n}) for n in range(3)])
        for mode in ("evolvable", "lexical", "hybrid"):
            assert len(memory.search("cat", number, mode=mode)) == 3
            assert len(memory.search("cat", number, mode=mode, where={"n": {"$gt": 0}})) == 2
        assert memory.context("cat", k=number, max_tokens=number).count("cat") == 3
        assert len(memory.history(limit=number)) == 3
        assert len(memory.history(limit=number, where={"n": {"$gt": 0}})) == 2
        assert memory.history(after=number) == memory.history(after=number, role="user") == []
        with pytest.raises(QueryError, match="turns are counted"):
            memory.at(seq=number)


@pytest.mark.parametrize(
    "call",
    [
        lambda memory: memory.history(after=-1),
        lambda memory: memory.history(after="1"),
        lambda memory: memory.history(limit=0),
        lambda memory: memory.history(limit=-(10**5000)),
        lambda memory: memory.context("q", max_tokens=0),
        lambda memory: memory.context("q", max_tokens="many"),
    ],
)
def test_a_limit_that_is_not_a_number_of_turns_is_refused(alice, call):
    with pytest.raises(QueryError, match="must be a whole number of at least"):
        call(alice)


def test_a_hit_shows_what_its_score_is_made_of(alice):
    [hit] = alice.search("cat Miso", k=1, mode="hybrid")
    assert set(hit.parts) >= {"evolvable", "lexical"}
    assert hit.score == pytest.approx(sum(hit.parts.values()))
    [hit] = alice.search("cat Miso", k=1, mode="evolvable")
    assert hit.parts == {"evolvable": hit.score}


def test_an_empty_memory_answers_nothing_and_is_not_made_by_asking(db):
    memory = db.memory("nobody")
    assert memory.search("hello") == []
    assert memory.context("hello") == ""
    assert memory.history() == []
    assert len(memory) == 0
    assert db.memories() == []
    with pytest.raises(NotFound):
        memory.get("x")


def test_a_search_changes_nothing(alice):
    before = log(alice)
    for mode in ("evolvable", "lexical", "hybrid"):
        alice.search("where", mode=mode)
    alice.context("where")
    assert log(alice) == before


def test_less_relevant_hits_are_left_out_of_search_and_context(alice):
    alice.add("I live in Bergen.")
    alice.add("My cat is called Miso.")
    question = "Where in Bergen do I live?"
    hits = alice.search(question)
    least = max(hit.relevance for hit in hits)
    kept = alice.search(question, min_relevance=least)
    assert [hit.text for hit in kept] == ["User: I live in Bergen."]
    assert "Miso" in alice.context(question)
    assert "Miso" not in alice.context(question, min_relevance=least)
    with pytest.raises(QueryError, match="from 0 to 1, got 2"):
        alice.search(question, min_relevance=2)


def test_context_is_dated_in_order_and_within_its_budget(alice):
    text = alice.context("Where do I live, Bergen or Oslo?", max_tokens=1000)
    assert (
        text.splitlines()[0]
        == "[2024-03-01 00:00 UTC, session s1, id bergen] User: I live in Bergen."
    )
    assert text.index("Bergen") < text.index("Miso") < text.index("moved to Oslo")
    small = alice.context("moved to Oslo", max_tokens=11, count_tokens=lambda t: len(t.split()))
    assert small == "[2024-03-04 00:00 UTC, id oslo] User: I moved to Oslo."
    with pytest.raises(QueryError, match="max_tokens=1 is too small"):
        alice.context("Oslo", max_tokens=1)
    with pytest.raises(QueryError):
        alice.context("Oslo", max_tokens=0)


# isolation -----------------------------------------------------------------------------------


def test_memories_do_not_see_each_other(db, alice):
    bob = db.memory("acme", "bob")
    bob.add("My cat is called Pixel.", id="pixel")
    for mode in ("evolvable", "lexical", "hybrid"):
        assert ids(bob.search("cat called", k=50, mode=mode)) == ["pixel"]
        assert "pixel" not in ids(alice.search("cat called", k=50, mode=mode))


def test_other_memories_do_not_change_a_ranking(db, alice):
    before = {m: [(h.seq, h.score) for h in alice.search("cat vet Oslo", mode=m)]
              for m in ("evolvable", "lexical", "hybrid")}  # fmt: skip
    db.memory("noise").add_many([Turn(user=f"cat Oslo vet {i}") for i in range(100)])
    for mode, hits in before.items():
        assert [(h.seq, h.score) for h in alice.search("cat vet Oslo", mode=mode)] == hits


@pytest.mark.parametrize("labels", [(), ("",), (" ",), ("a", ""), ("a\x00",), (3,), ("\ud800",), ("x" * 513,), ("a",) * 17])  # fmt: skip
def test_a_namespace_that_cannot_be_an_address_is_refused(db, labels):
    with pytest.raises(NamespaceError):
        db.memory(*labels)


@pytest.mark.parametrize(
    "label", ["a/b", "../..", "'; DROP TABLE turns; --", '["a"]', "%", "ü", "A"]
)
def test_a_namespace_may_look_like_anything(db, label):
    db.memory(label).add("hello")
    assert db.memories() == [(label,)]
    assert db.memories(label) == [(label,)]
    assert len(db.memory(label.lower() + "x")) == 0


def test_namespaces_are_listed_by_whole_labels(db):
    for labels in (("acme", "a"), ("acme", "b"), ("acme2", "a")):
        db.memory(*labels).add("hello")
    assert db.memories("acme") == [("acme", "a"), ("acme", "b")]
    assert db.memories("acm") == []


# time travel and forks -----------------------------------------------------------------------


TEXTS = st.lists(
    st.sampled_from(["cat", "dog moved", "Oslo rain", "a b c d " * 30]), min_size=1, max_size=24
)


def two_memories(db):
    """Two new memories, for an example of a property."""
    return (db.memory(secrets.token_hex(8)) for _ in range(2))


@settings(max_examples=15)
@given(texts=TEXTS, data=st.data())
def test_a_view_of_the_past_equals_a_memory_that_was_fed_so_far(db, texts, data):
    seq = data.draw(st.integers(0, len(texts)))
    complete, part = two_memories(db)
    turns = [Turn(user=text, id=str(i), time=DAY[0]) for i, text in enumerate(texts)]
    complete.add_many(turns)
    for turn in turns[:seq]:
        part.add_many([turn])
    past = complete.at(seq=seq)
    assert log(past) == log(part)
    for mode in ("evolvable", "lexical", "hybrid"):
        left, right = (m.search("cat in Oslo", k=9, mode=mode) for m in (past, part))
        assert [(h.seq, h.score) for h in left] == [(h.seq, h.score) for h in right]


def test_a_view_stays_as_it_was_while_the_memory_grows(alice):
    past = alice.at(seq=2)
    alice.add("Another cat moved in.")
    assert [r.id for r in past.history()] == ["bergen", "cat"]
    assert len(past) == 2
    assert not hasattr(past, "add")
    with pytest.raises(QueryError):
        past.search("x", at=3)
    with pytest.raises(NotFound):
        past.get("oslo")


@pytest.mark.parametrize("point", [{}, {"seq": 1, "time": DAY[0]}, {"time": datetime(2024, 1, 1)}, {"added": "soon"}])  # fmt: skip
def test_a_view_of_the_past_takes_one_point(alice, point):
    with pytest.raises(QueryError):
        alice.at(**point)


def test_a_fork_equals_its_parent_and_is_independent_after(alice, db):
    fork = alice.at(seq=3).fork("what-if")
    assert fork.namespace == ("acme", "alice", "what-if")
    assert log(fork) == log(alice)[:3]
    fork.add("I moved to Rome.", id="rome")
    alice.delete("cat")
    assert [r.id for r in fork.history()] == ["bergen", "cat", "vet", "rome"]
    assert [r.id for r in alice.history()] == ["bergen", "vet", "oslo"]
    assert "rome" in ids(fork.search("moved to"))
    assert "oslo" not in ids(fork.search("moved to", k=9))
    assert "rome" not in ids(alice.search("moved to", k=9))
    with pytest.raises(NamespaceError):
        alice.fork("what-if")
    with pytest.raises(NotFound):
        db.memory("nobody").fork("x")


def test_a_fork_of_a_fork_reads_on_from_where_it_left(alice, db):
    fresh = db.memory("fresh")
    for record in alice.history():
        fresh.add_many([record.turn])
    child = alice.fork("a").fork("b")
    for memory in (child, fresh):
        memory.add("The cat likes Oslo.", id="new", time=DAY[5])
    assert log(child) == log(fresh)


# forgetting ----------------------------------------------------------------------------------


def test_history_can_be_filtered_like_a_search(alice):
    def seqs(**filters):
        return [record.seq for record in alice.history(**filters)]

    assert seqs(session="s1") == [1, 2]
    assert seqs(session="s1", after=1) == [2]
    assert seqs(role="user", limit=1) == [2]
    assert seqs(since=DAY[1], until=DAY[3]) == [2, 3]
    assert seqs(where={"stars": {"$gte": 4}}) == [4]
    assert seqs(session="nowhere") == []
    alice.delete("cat")
    assert seqs(session="s1") == [1]
    with pytest.raises(QueryError, match="operators"):
        alice.history(where={"stars": {"$near": 4}})


@pytest.mark.parametrize("mode", ["evolvable", "lexical", "hybrid"])
def test_turns_of_one_speaker_are_found_and_listed_by_name(db, mode):
    memory = db.memory("speakers")
    for number, speaker in enumerate(("Ann", "Bob", None, "Ann")):
        memory.add(f"The cat sleeps {number}.", id=str(number), speaker=speaker)
    hits = memory.search("cat", mode=mode, speaker="Ann")
    assert sorted(ids(hits)) == ["0", "3"]
    assert [record.turn.id for record in memory.history(speaker="Ann")] == ["0", "3"]
    assert memory.context("cat", mode=mode, speaker="Bob").count("cat") == 1
    assert memory.search("cat", mode=mode, speaker="ann") == []
    with pytest.raises(QueryError, match="speaker must be a string"):
        memory.search("cat", mode=mode, speaker=["Ann"])


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ({"$xor": [{"a": 1}]}, r"where has '\$xor'; the operators are \$eq"),
        ({"a": {"b": {"$near": 1}}}, r"where\['a'\]\['b'\] has '\$near'"),
        ({"a": {"gte": 1}}, r"operators begin with \$"),
        ([("a", 1)], "a mapping"),
    ],
)
def test_a_filter_is_refused_before_the_encoder_computes(alice, monkeypatch, where, says):
    monkeypatch.setattr("evomem.search.searching._embed", None)
    for call in (alice.search, alice.context):
        with pytest.raises(QueryError, match=says):
            call("cat", where=where)


def test_metadata_can_be_replaced_and_nothing_else_changes(alice, db, location):
    before = log(alice)
    assert alice.annotate("oslo", {"topic": "work"}).turn.metadata == {"topic": "work"}
    assert log(alice) == before
    assert ids(alice.search("Oslo", where={"topic": "work"})) == ["oslo"]
    assert alice.search("Oslo", where={"topic": "home"}) == []
    assert db.verify() == []
    with evomem.open(location) as again:
        assert again.memory("acme", "alice").get("oslo").turn.metadata == {"topic": "work"}


def test_metadata_of_a_turn_that_is_gone_shared_or_not_json_is_not_replaced(alice):
    with pytest.raises(TurnError, match="plain JSON"):
        alice.annotate("cat", {"x": object()})
    fork = alice.fork("b")
    for memory in (alice, fork):
        with pytest.raises(SharedTurns, match="turn 2 is shared with"):
            memory.annotate("cat", {})
    alice.delete("cat")
    with pytest.raises(NotFound):
        alice.annotate("cat", {})
    assert fork.get("cat").turn.metadata == {}


def test_the_id_of_a_turn_is_a_string(alice):
    record = alice.get("cat")
    for call in (alice.get, alice.delete, alice.purge):
        for id in (record, b"cat", ["cat"], None):
            with pytest.raises(TurnError, match=r"is text, got .*record\.id"):
                call(id)
    with pytest.raises(TurnError, match="is text, got 1"):
        alice.annotate(1, {})
    assert alice.get("cat") == record


def test_a_deleted_turn_is_gone_from_everything_returned(alice):
    assert alice.delete("cat").id == "cat"
    assert len(alice) == 3
    assert "cat" not in [r.id for r in alice.history()]
    for mode in ("evolvable", "lexical", "hybrid"):
        assert "cat" not in ids(alice.search("cat called Miso", k=9, mode=mode))
    assert "Miso" not in alice.context("cat called Miso")
    for call in (alice.get, alice.delete):
        with pytest.raises(NotFound, match="cat"):
            call("cat")


@settings(max_examples=15)
@given(texts=TEXTS, data=st.data())
def test_after_a_purge_the_memory_equals_one_never_fed_the_turn(db, texts, data):
    gone = data.draw(st.integers(0, len(texts) - 1))
    purged, other = two_memories(db)
    turns = [Turn(user=text, id=str(i), time=DAY[0]) for i, text in enumerate(texts)]
    purged.add_many(turns)
    other.add_many(turn for i, turn in enumerate(turns) if i != gone)
    assert purged.purge(str(gone)).reread == len(texts) - gone - 1
    assert log(purged) == log(other)
    for mode in ("evolvable", "lexical", "hybrid"):
        left, right = (m.search("cat in Oslo", k=9, mode=mode) for m in (purged, other))
        assert [(h.record.id, h.score) for h in left] == [(h.record.id, h.score) for h in right]
    for memory in (purged, other):  # and goes on as if nothing had been
        memory.add("cat again", id="later", time=DAY[1])
    assert log(purged) == log(other)


def test_a_purge_keeps_other_turns_deleted_and_seqs_as_they_were(alice):
    alice.delete("vet")
    alice.purge("cat")
    assert [(r.seq, r.id) for r in alice.history()] == [(1, "bergen"), (4, "oslo")]
    alice.purge("vet")  # a deleted turn can still be purged
    assert [(r.seq, r.id) for r in alice.history()] == [(1, "bergen"), (4, "oslo")]
    assert alice.add("A dog.", id="cat").seq == 5


def test_the_newest_turn_can_be_purged_and_its_seq_is_not_used_again_by_surprise(alice):
    alice.purge("oslo")
    assert [r.id for r in alice.history()] == ["bergen", "cat", "vet"]
    alice.add("I moved to Rome.", id="rome")
    assert [r.id for r in alice.history()] == ["bergen", "cat", "vet", "rome"]
    assert ids(alice.search("moved to Rome", k=1)) == ["rome"]


def test_a_purge_stops_at_turns_that_forks_share_unless_told(alice):
    fork = alice.fork("copy")
    fork.add("I moved to Rome.", id="rome")
    with pytest.raises(SharedTurns, match="copy"):
        alice.purge("cat")
    assert len(alice) == 4
    alice.purge("cat", forks=True)
    assert [r.id for r in alice.history()] == ["bergen", "vet", "oslo"]
    assert [r.id for r in fork.history()] == ["bergen", "vet", "oslo", "rome"]


def test_a_purge_in_a_fork_leaves_the_parent_alone(alice):
    fork = alice.fork("copy")
    before = log(alice)
    fork.purge("cat")
    assert log(alice) == before
    assert [r.id for r in fork.history()] == ["bergen", "vet", "oslo"]
    assert ids(alice.search("cat called Miso", k=1)) == ["cat"]


def test_purging_an_unknown_id_raises_not_found(alice):
    with pytest.raises(NotFound):
        alice.purge("nothing")


# many at once --------------------------------------------------------------------------------


def test_threads_lose_and_double_nothing_and_keep_their_own_order(db):
    memory = db.memory("busy")

    def write(name):
        for number in range(10):
            memory.add(f"{name} says {number}", id=f"{name}-{number}")
            memory.search("says", k=3)

    threads = [threading.Thread(target=write, args=(f"t{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    history = memory.history()
    assert [r.seq for r in history] == list(range(1, 41))
    for i in range(4):
        assert [r.id for r in history if r.id.startswith(f"t{i}-")] == [
            f"t{i}-{n}" for n in range(10)
        ]
    assert db.verify() == []


async def test_async_methods_do_the_same_and_write_in_call_order(db):
    memory = db.memory("async")
    await asyncio.gather(*(memory.aadd(f"note {i}", id=str(i)) for i in range(20)))
    assert [r.id for r in await memory.ahistory()] == [str(i) for i in range(20)]
    assert ids(await memory.asearch("note 7", k=1)) == ["7"]
    assert (await memory.aget("3")).seq == 4
    assert "note 7" in await memory.acontext("note 7")
    fork = await memory.afork("copy")
    await fork.adelete("0")
    await memory.apurge("1", forks=True)
    assert (len(fork), len(memory)) == (18, 19)
    assert len(await memory.aadd_many([Turn(user="a"), Turn(user="b")])) == 2


async def test_async_calls_of_one_memory_happen_in_call_order(db):
    memory = db.memory("async")

    def turns():
        time.sleep(0.05)  # later calls would run now if they did not wait
        for n in range(60):
            yield Turn(user=f"note {n}", id=f"n{n}", session=f"s{n}")

    *_, fork = await asyncio.gather(
        memory.aadd_many(turns()),
        memory.aadd_many(
            [Turn(user="an early note", time=datetime(2001, 1, 1, tzinfo=timezone.utc))]
        ),
        memory.acorrect("n59", "corrected"),
        memory.aannotate("n58", {"number": 58}),
        memory.adelete("n57"),
        memory.apurge("n56"),
        memory.aexpire(session="s55"),
        memory.areread(),
        memory.afork("copy"),
    )
    texts = [record.text for record in fork.history()]
    assert (texts[0], texts[-1]) == ("User: an early note", "User: corrected")
    assert fork.get("n58").turn.metadata == {"number": 58}
    assert len(fork) == 58
    other = db.memory("other")
    await asyncio.gather(other.aadd_many(turns()), other.adrop())
    assert len(other) == 0


# the database --------------------------------------------------------------------------------


def test_opening_for_reading_creates_nothing(tmp_path):
    path = tmp_path / "no.db"
    with pytest.raises(NotFound, match=r"no\.db"):
        evomem.open(str(path), create=False)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_kind_of_database_is_refused():
    with pytest.raises(evomem.errors.StoreError, match="installed: .*sqlite"):
        evomem.open("oracle://somewhere")


def test_a_healthy_database_verifies_and_counts(db, alice):
    assert db.verify() == []
    stats = db.stats()
    assert stats["encoder"] == "hash"
    assert stats["turns"] == 4
    assert stats["memories"] == 1


def test_closing_twice_is_harmless(db):
    db.close()
    db.close()


def test_the_engine_keeps_one_state_per_memory_and_no_unused_locks(db):
    names = [str(n) for n in range(5)]
    for number in range(4):
        for name in names:
            db.memory(name).add(f"turn {number}")
    engine = db._engine
    newest = [engine.store.view((name,)).key for name in names]
    assert all(engine.known_state(key) for key in newest)
    assert len(engine._states._held) <= len(names) + 1  # and that of an empty memory
    assert len(engine._locks) == 0
