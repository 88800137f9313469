"""What a log does with turns, on every database: writing, views, states, forks, hiding, rewriting."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import inspect, select

from evomem.encoder import HashEncoder
from evomem.errors import (
    DatabaseBusy,
    DuplicateTurn,
    EncoderError,
    FingerprintMismatch,
    HeadMoved,
    NamespaceError,
    QueryError,
    SharedTurns,
    StoreError,
)
from evomem.records import TimeAndSession, Turn, as_utc
from evomem.state import Reading, Spec, State
from evomem.store import Filter, Mark, Row, Span, View
from evomem_stores.database import tables
from evomem_stores.upkeep import migrations
from tests.stores.helpers import (
    DAY,
    ENCODER,
    assert_same_state,
    log,
    open_at,
    purge,
    read_rows,
    running,
    turn,
    words,
    write,
)

TEXTS = st.lists(st.sampled_from(["cat", "dog", "moved to Oslo", "a b c d " * 20]), min_size=1, max_size=30)  # fmt: skip
PROPERTY = settings(max_examples=25)


@pytest.fixture
def store(location):
    opened, index = open_at(location)
    yield opened
    index.close()
    opened.close()


@pytest.fixture
def alice(store):
    return store.make_memory(("acme", "alice"))


def notes(count, start=1):
    return [turn(f"note {n} about cat number {n % 7}", n) for n in range(start, start + count)]


# opening -------------------------------------------------------------------------------------


def test_a_database_opens_with_the_spec_it_was_made_for(location):
    spec = replace(ENCODER.spec, dtype="bfloat16", capacity=9)
    store, _ = open_at(location, spec)
    store.close()
    again, _ = open_at(location, None)
    assert again.spec == spec
    again.close()


def test_another_encoder_is_refused_with_both_names_and_the_remedy(location):
    open_at(location)[0].close()
    with pytest.raises(FingerprintMismatch, match=r"'hash:32'.*'hash:64'.*new path"):
        open_at(location, HashEncoder(64).spec)


def test_the_name_of_an_encoder_may_change_its_fingerprint_may_not(location):
    open_at(location)[0].close()
    store, _ = open_at(location, replace(ENCODER.spec, name="elsewhere"))
    assert store.spec.name == "hash:32"
    store.close()


def test_a_closed_database_says_so(location):
    store, _ = open_at(location)
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.memories()


def test_a_writer_that_waits_too_long_gets_an_error_and_nothing_is_written(location):
    one, _ = open_at(location)
    two, _ = open_at(location, busy_timeout=0.05)
    memory = one.make_memory(("a",))
    with one._connections.writing(memory):
        with pytest.raises(DatabaseBusy, match="busy_timeout"):
            write(two, memory, notes(1))
        assert two.count(two.view(memory)) == 0
    assert write(two, memory, notes(1)).seq == 1
    one.close()
    two.close()


# migrations ----------------------------------------------------------------------------------


def test_the_tables_are_as_the_migrations_make_them(store):
    with store._connections.reading() as connection:
        for table in tables.METADATA.sorted_tables:
            made = inspect(connection).get_columns(table.name)
            assert [column["name"] for column in made] == tables.column_names(table)
        steps = connection.execute(tables.migrations.select()).all()
    assert [(step.number, step.name) for step in steps] == [
        (number, step.__name__) for number, step in enumerate(migrations.MIGRATIONS, 1)
    ]


def test_a_new_step_is_taken_once_and_kept_with_its_record(location, monkeypatch):
    store, _ = open_at(location)
    view = write(store, store.make_memory(("a",)), notes(5))
    before = log(store, view)
    store.close()

    def more(connection):
        connection.exec_driver_sql("CREATE TABLE more (x INT)")

    known = migrations.MIGRATIONS
    monkeypatch.setattr(migrations, "MIGRATIONS", (*known, more))
    for _ in range(2):
        store, _ = open_at(location)
        assert log(store, store.view(1)) == before
        with store._connections.reading() as connection:
            names = connection.scalars(
                select(tables.migrations.c.name).order_by(tables.migrations.c.number)
            )
            assert names.all() == [*(step.__name__ for step in known), "more"]
        store.close()
    monkeypatch.setattr(migrations, "MIGRATIONS", known)
    with pytest.raises(StoreError, match="upgrade evomem"):
        open_at(location)


def test_a_step_that_fails_leaves_the_database_as_it_was(location, monkeypatch):
    open_at(location)[0].close()

    def bad(connection):
        connection.exec_driver_sql("CREATE TABLE more (x INT)")
        connection.exec_driver_sql("CREATE TABLE more (x INT)")

    good = migrations.MIGRATIONS
    monkeypatch.setattr(migrations, "MIGRATIONS", (*good, bad))
    with pytest.raises(StoreError, match="already exists"):
        open_at(location)
    monkeypatch.setattr(migrations, "MIGRATIONS", good)
    store, _ = open_at(location)
    assert store.verify() == []
    store.close()


# memories ------------------------------------------------------------------------------------

LABEL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=6) | st.sampled_from(['"', '","', "]", '\\"', "a", "aa", "%", "_", "'", "\\"])  # fmt: skip


@PROPERTY
@given(
    namespaces=st.sets(st.lists(LABEL, min_size=1, max_size=4).map(tuple)),
    prefix=st.lists(LABEL, max_size=2).map(tuple),
)
def test_memories_are_listed_by_whole_labels(fresh, namespaces, prefix):
    store, _ = open_at(fresh())
    numbers = {namespace: store.make_memory(namespace) for namespace in namespaces}
    assert len(set(numbers.values())) == len(namespaces)
    for namespace, number in numbers.items():
        assert store.find_memory(namespace) == store.make_memory(namespace) == number
    for asked in (prefix, *(namespace[:1] for namespace in namespaces)):
        expected = sorted(n for n in namespaces if n[: len(asked)] == asked)
        assert store.memories(asked) == expected
    store.close()


# appending -----------------------------------------------------------------------------------


def test_rows_come_back_bit_for_bit(store, alice):
    turns = [
        Turn(user="hi", assistant="yo", speaker="Mel", id="\N{SNOWMAN}'\"", time=DAY[3], session="s",
             metadata={"a": [1, {"b": None}], "ü": 1.5, "": "x\ty"}),
        Turn(assistant="אבג 🎉", id="2", time=as_utc("0001-01-01T00:00:00Z")),
        Turn(user="x", id="3", time=as_utc("9999-12-31T23:59:59.999999Z")),
    ]  # fmt: skip
    rows = read_rows(State.empty(ENCODER.spec), 1, turns)
    store.append(store.view(alice), rows)
    view = store.view(alice)
    assert log(store, view) == [
        (r.seq, r.turn, r.added, r.key, r.reading.opens_chunk)
        + (r.reading.embedding.tobytes(), r.reading.latents.tobytes())
        for r in rows
    ]
    key = rows[-1].key
    assert view == View(alice, 3, key, 0, (Span(alice, 1, 3),), (Mark(0, key),))
    assert [r.turn for r in store.history(view)] == turns
    assert store.verify() == []


def test_a_view_that_is_not_the_end_any_more_is_refused(store, alice):
    old = store.view(alice)
    view = write(store, alice, notes(3))
    rows = read_rows(store.state(view), 4, notes(1, 4))
    for stale in (
        old,
        store.view(alice, seq=2),
        replace(view, key=b"x"),
        replace(view, revision=1),
    ):
        with pytest.raises(HeadMoved):
            store.append(stale, [replace(rows[0], seq=stale.seq + 1)])
    assert store.view(alice) == view
    store.append(view, rows)
    assert len(store.history(store.view(alice))) == 4


def test_an_id_is_taken_once_in_a_lineage(store, alice):
    view = write(store, alice, notes(3))
    fork = store.fork(view, ("fork",))
    for memory, ids in ((alice, ["t2"]), (fork, ["new", "t2"]), (fork, ["x", "x"])):
        with pytest.raises(DuplicateTurn, match=repr(ids[-1])):
            write(store, memory, [turn("again", 9, id=id) for id in ids])
        assert len(store.history(store.view(memory))) == 3
    store.hide(view, [2])
    with pytest.raises(DuplicateTurn):
        write(store, alice, notes(1, 2))


def test_a_batch_is_written_as_a_whole_or_not_at_all(store, alice):
    write(store, alice, notes(3))
    view = store.view(alice)
    rows = read_rows(store.state(view), 4, notes(3, 4))
    rows[2] = replace(rows[2], turn=replace(rows[2].turn, id="t1"))
    with pytest.raises(DuplicateTurn):
        store.append(view, rows)
    assert store.view(alice) == view
    assert store.verify() == []


def bad_readings():
    good = np.zeros(32, np.float32)
    good[0] = 1
    latents = np.ones((1, 32), np.float32)
    for name, value in (("NaN", np.nan), ("inf", np.inf)):
        broken = good.copy()
        broken[3] = value
        yield f"embedding {name}", Reading(broken, latents), "an embedding with NaN"
        yield f"latents {name}", Reading(good, latents * value), "latents with NaN"
    yield "not unit", Reading(good * 1.01, latents), "length 1.01"
    yield "zero", Reading(good * 0, latents), "length 0"
    yield "short", Reading(good[:31], latents), r"shape \(31,\)"
    yield "matrix", Reading(good[None], latents), r"shape \(1, 32\)"
    yield "float64", Reading(good.astype(np.float64), latents), "float64"
    yield "no latents", Reading(good, latents[:0]), r"shape \(0, 32\)"


@pytest.mark.parametrize(
    ("reading", "says"), [p[1:] for p in bad_readings()], ids=[p[0] for p in bad_readings()]
)
def test_invalid_readings_are_refused_before_anything_is_written(store, alice, reading, says):
    view = store.view(alice)
    rows = read_rows(store.state(view), 1, notes(2))
    rows[1] = replace(rows[1], reading=reading)
    with pytest.raises(EncoderError, match=says):
        store.append(view, rows)
    assert store.view(alice) == view
    write(store, alice, notes(2))
    with pytest.raises(EncoderError, match=says):
        store.rewrite(store.view(alice), 1, rows)
    assert store.verify() == []


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_latents_are_kept_exactly_in_the_precision_of_the_spec(location, dtype):
    spec = Spec("x", "x", dim=4, latents=3, width=5, capacity=7, dtype=dtype)
    store, _ = open_at(location, spec)
    memory = store.make_memory(("a",))
    bits = np.random.default_rng(0).integers(0, 2**32, (40, 3, 5), np.uint32)
    values = bits.view(np.float32)
    if dtype == "bfloat16":
        values = (bits & 0xFFFF0000).view(np.float32)
    if dtype == "float16":
        values = (bits >> 16).astype(np.uint16).view(np.float16).astype(np.float32)
    values = np.where(np.isfinite(values), values, np.float32(-0.0))
    embedding = np.array([0, 1, 0, 0], np.float32)
    rows = []
    state: State[Turn] = State.empty(spec)
    for seq, latents in enumerate(values, start=1):
        reading = Reading(embedding, latents, seq % 3 == 1)
        state = state.after(turn("x", seq), reading)
        rows.append(Row(seq, turn("x", seq), DAY[0], reading, state.key))
    store.append(store.view(memory), rows)
    view = store.view(memory)
    kept = np.stack([row.reading.latents for row in store.rows(view, after=0)])
    assert kept.tobytes() == values.tobytes()
    assert_same_state(store.state(view), state)
    assert store.verify() == []
    store.close()


@pytest.mark.parametrize(("latents", "width"), [(0, 0), (0, 8), (2, 0)])
def test_an_encoder_without_memory_leaves_no_latents(location, latents, width):
    spec = Spec("x", "x", dim=2, latents=latents, width=width)
    store, _ = open_at(location, spec)
    memory = store.make_memory(("a",))
    reading = Reading(np.array([0, 1], np.float32), np.zeros((latents, width), np.float32))
    state: State[Turn] = State.empty(spec)
    for seq in range(1, 4):
        state = state.after(turn("x", seq), reading)
        store.append(store.view(memory), [Row(seq, turn("x", seq), DAY[0], reading, state.key)])
    view = store.view(memory)
    assert store.rows(view, after=2)[0].reading.latents.shape == (latents, width)
    assert_same_state(store.state(view), state)
    assert store.verify() == []
    store.close()


@pytest.mark.parametrize(("dtype", "value"), [("bfloat16", 1 + 2**-20), ("float16", 1e6)])
def test_latents_that_would_not_survive_are_refused(location, dtype, value):
    spec = replace(ENCODER.spec, dtype=dtype)
    store, _ = open_at(location, spec)
    memory = store.make_memory(("a",))
    [row] = read_rows(State.empty(ENCODER.spec), 1, notes(1))
    reading = replace(row.reading, latents=np.full((1, 32), value, np.float32))
    with pytest.raises(EncoderError, match=dtype):
        store.append(store.view(memory), [replace(row, reading=reading)])
    assert store.count(store.view(memory)) == 0
    store.close()


# views and states ----------------------------------------------------------------------------


def test_a_view_of_a_seq_that_never_was_is_refused(store, alice):
    write(store, alice, notes(3))
    for seq in (-1, 4, 10**9):
        with pytest.raises(QueryError, match="0 to 3"):
            store.view(alice, seq=seq)
    assert store.view(alice, seq=0) == View(alice, 0, b"", 0, ())
    with pytest.raises(HeadMoved, match="dropped"):
        store.view(99)


@PROPERTY
@given(days=st.lists(st.integers(0, 6), max_size=12), cut=st.integers(0, 12), asked=st.integers(0, 7))  # fmt: skip
def test_a_view_at_a_time_has_what_was_said_by_then(fresh, days, cut, asked):
    store, _ = open_at(fresh())
    memory = store.make_memory(("a",))
    turns = [turn(f"note {n}", n, time=DAY[day]) for n, day in enumerate(days, start=1)]
    cut = min(cut, len(days))
    write(store, memory, turns[:cut])
    memory = store.fork(store.view(memory), ("fork",))
    view = write(store, memory, turns[cut:])
    early = [n for n, day in enumerate(days, start=1) if day <= asked]
    past = store.view(memory, time=DAY[asked])
    assert [record.seq for record in store.history(past)] == early
    assert list(store.records(past, range(1, len(days) + 1))) == early
    assert store.count(past) == len(early)
    if early == list(range(1, len(early) + 1)):  # a beginning of the log: nothing to leave out
        assert past == store.view(memory, seq=len(early))
    assert view.seq == len(days)
    store.close()


class Wide(HashEncoder):
    """Leaves as many latents a turn, and keeps as many, as it is told."""

    def __init__(self, latents, capacity):
        super().__init__(16)
        self._spec = replace(self._spec, latents=latents, capacity=capacity)

    def read(self, state, turns):
        readings = []
        for item in turns:
            [reading] = super().read(state, [item])
            latents = np.repeat(reading.latents, self._spec.latents, axis=0)
            readings.append(replace(reading, latents=latents))
            state = state.after(item, readings[-1])
        return readings


@PROPERTY
@given(
    texts=TEXTS,
    gone=st.lists(st.integers(1, 30), max_size=3, unique=True),
    forks=st.lists(st.integers(0, 30), max_size=3),
    shape=st.sampled_from([(1, 8), (3, 7), (2, 0), (0, 0), (4, 3)]),
)
def test_the_state_of_every_view_is_the_one_the_encoder_had(fresh, texts, gone, forks, shape):
    encoder = Wide(*shape)
    store, _ = open_at(fresh(), encoder.spec)
    memory = store.make_memory(("root",))
    turns = [turn(text, n) for n, text in enumerate(texts, start=1)]
    kept: list[Turn] = []
    points = sorted({min(fork, len(texts)) for fork in forks} | {len(texts)})
    for number, (start, end) in enumerate(zip([0, *points], points, strict=False)):
        write(store, memory, turns[start:end], encoder)
        kept += turns[start:end]
        if end < len(texts):
            memory = store.fork(store.view(memory), (f"fork{number}",))
    for seq in gone:
        if any(t.id == f"t{seq}" for t in kept):
            purge(store, memory, seq, encoder)
            kept = [t for t in kept if t.id != f"t{seq}"]
    for seq in range(len(texts) + 1):
        past = [t for t in kept if int(str(t.id)[1:]) <= seq]
        assert_same_state(store.state(store.view(memory, seq=seq)), running(past, encoder))
    assert store.verify() == []
    store.close()


def test_reading_by_seq_id_and_place(store, alice):
    view = write(store, alice, notes(10))
    store.hide(view, [3])
    assert sorted(store.records(view, [1, 3, 5, 99])) == [1, 5]
    assert sorted(store.records(store.view(alice, seq=4), [1, 5])) == [1]
    assert store.records(view, np.array([2], np.int64))[2].id == "t2"
    assert [r.seq for r in store.history(view, after=2, limit=3)] == [4, 5, 6]
    assert [r.seq for r in store.history(view)] == [1, 2, 4, 5, 6, 7, 8, 9, 10]
    assert {id: r.seq for id, r in store.find(view, ["t3", "t5", "'"]).items()} == {
        "t3": 3,
        "t5": 5,
    }
    assert store.count(view) == 9
    assert [row.seq for row in store.rows(view, after=7)] == [8, 9, 10]
    seqs, rows, keys = store.vectors(Span(alice, 2, 4), 0)
    assert seqs.tolist() == [2, 3, 4]
    assert rows[:].shape == (3, 32)
    with pytest.raises(HeadMoved):
        store.vectors(Span(alice, 2, 4), 1)
    assert store.select(view, Filter()).without.tolist() == [3]
    assert store.select(store.view(store.make_memory(("b",))), Filter()) == (None, None)


# forks ---------------------------------------------------------------------------------------


def test_a_fork_shares_rows_and_goes_its_own_way(store, alice):
    view = write(store, alice, notes(6))
    store.hide(view, [2])
    fork = store.fork(store.view(alice, seq=4), ("fork",))
    assert store.stats()["turns"] == 6
    write(store, fork, [turn("my own", 50)])
    write(store, alice, notes(1, 7))
    store.hide(store.view(fork), [1])
    store.hide(store.view(alice), [3])
    assert [r.seq for r in store.history(store.view(fork))] == [3, 4, 5]
    assert [r.seq for r in store.history(store.view(alice))] == [1, 4, 5, 6, 7]
    assert store.view(fork).spans == (Span(alice, 1, 4), Span(fork, 5, 5))
    with pytest.raises(NamespaceError, match="fork"):
        store.fork(view, ("fork",))
    assert store.verify() == []


def test_the_neighbours_of_a_turn_are_found_across_gaps_and_forks(store, alice):
    write(store, alice, notes(5))
    purge(store, alice, 3)
    view = store.view(alice)
    store.hide(view, [2])

    def beside(view, seqs):
        return store.around(view, seqs)[0]

    assert beside(view, [1, 2, 3, 4]) == {1: (0, 2), 2: (1, 4), 4: (2, 5)}
    fork = store.fork(store.view(alice, seq=4), ("fork",))
    forked = write(store, fork, [turn("my own", 50), turn("and another", 51)])
    assert beside(forked, [4]) == {4: (2, 5)}
    assert beside(forked, [5, 6]) == {5: (4, 6), 6: (5, 0)}
    assert beside(store.view(fork, seq=4), [4]) == {4: (2, 0)}
    assert store.around(view, []) == ({}, {})


def test_when_turns_and_those_beside_them_were_said(store, alice):
    view = write(store, alice, [turn("a", n, session=f"s{n}") for n in range(1, 6)])
    store.hide(view, [2])
    _, texts = store.around(view, [3])
    assert texts == {3: TimeAndSession(DAY[3], "s3"), 4: TimeAndSession(DAY[4], "s4")}
    view = write(store, store.fork(view, ("fork",)), [turn("b", 9)])
    _, texts = store.around(view, [6])
    assert texts == {5: TimeAndSession(DAY[5], "s5"), 6: TimeAndSession(DAY[9], None)}


def test_a_fork_of_nothing_shares_nothing(store, alice):
    fork = store.fork(store.view(alice), ("fork",))
    assert write(store, fork, notes(2)).spans == (Span(fork, 1, 2),)
    write(store, alice, notes(2))
    assert store.verify() == []


def test_a_dropped_memory_whose_turns_a_fork_keeps_cannot_be_read(store, alice):
    write(store, alice, notes(3))
    fork = store.fork(store.view(alice), ("fork",))
    store.drop(("acme", "alice"), below=False)
    with pytest.raises(HeadMoved, match="was dropped"):
        store.view(alice)
    assert store.count(store.view(fork)) == 3


def test_forks_of_forks_are_listed_for_the_rows_that_they_share(store, alice):
    write(store, alice, notes(6))
    one = store.fork(store.view(alice, seq=4), ("one",))
    two = store.fork(store.view(one, seq=3), ("two",))  # sees nothing of `one`'s own
    write(store, one, [turn("own", 60)])
    store.fork(store.view(one), ("three",))
    assert store.forks(store.view(alice), 4) == [("one",)]
    assert store.forks(store.view(alice), 3) == [("one",), ("two",)]
    assert store.forks(store.view(alice), 5) == []
    assert store.forks(store.view(one), 2) == [("three",)]
    before = log(store, store.view(two))
    purge(store, two, 2)
    assert [r.seq for r in store.history(store.view(two))] == [1, 3]
    assert log(store, store.view(alice))[:3] == before
    with pytest.raises(SharedTurns, match="three"):
        purge(store, one, 2)
    assert store.verify() == []


# hiding and rewriting ------------------------------------------------------------------------


def test_hiding_counts_only_what_is_new(store, alice):
    view = write(store, alice, notes(4))
    assert store.hide(view, [2, 3, 99]) == 2
    assert store.hide(view, [3, 4]) == 1
    assert store.hide(view, []) == 0
    assert store.count(view) == 1
    assert words(store, view, "note") == words(store, store.view(alice, seq=1), "note")


def test_rewriting_replaces_everything_from_a_seq_on(store, alice):
    view = write(store, alice, notes(5))
    store.hide(view, [2, 4])
    purge(store, alice, 2)
    after = store.view(alice)
    assert (after.seq, after.revision) == (5, 1)
    assert [row.seq for row in store.rows(after, after=0)] == [1, 3, 4, 5]
    assert [r.seq for r in store.history(after)] == [1, 3, 5]
    fresh = store.make_memory(("fresh",))
    write(store, fresh, [t for t in notes(5) if t.id != "t2"])
    assert [row[3:] for row in log(store, after)] == [
        row[3:] for row in log(store, store.view(fresh))
    ]
    with pytest.raises(HeadMoved):
        store.rewrite(view, 3, [])
    with pytest.raises(QueryError):
        store.rewrite(after, 6, [])
    assert store.verify() == []


def test_the_seq_of_a_purged_newest_turn_is_not_used_again(store, alice):
    write(store, alice, notes(3))
    purge(store, alice, 3)
    view = store.view(alice)
    assert (view.seq, view.spans) == (3, (Span(alice, 1, 2),))
    assert store.view(alice, seq=2).key == view.key
    assert write(store, alice, [turn("next", 9)]).seq == 4
    for seq in (1, 2, 4):
        purge(store, alice, seq)
    assert store.view(alice).spans == ()
    assert store.state(store.view(alice)).key == b""
    assert store.verify() == []


def test_a_purge_in_a_fork_copies_what_comes_later_and_leaves_the_parent(store, alice):
    view = write(store, alice, notes(6))
    fork = store.fork(view, ("fork",))
    store.hide(store.view(fork), [5])
    before = log(store, view)
    purge(store, fork, 3)
    assert store.view(fork).spans == (Span(alice, 1, 2), Span(fork, 3, 6))
    assert [r.seq for r in store.history(store.view(fork))] == [1, 2, 4, 6]
    assert log(store, store.view(alice)) == before
    assert store.forks(store.view(alice), 3) == []
    purge(store, fork, 1)
    assert store.view(fork).spans == (Span(fork, 1, 6),)
    purge(store, alice, 1)
    assert store.verify() == []


def test_stats_count_what_is_there(store, alice):
    view = write(store, alice, notes(4))
    store.hide(view, [1])
    stats = store.stats()
    assert (stats["memories"], stats["turns"], stats["deleted"]) == (1, 4, 1)
    assert stats["bytes"] > 4096


def test_a_memory_that_another_process_creates_meanwhile_is_used(store, alice, monkeypatch):
    answers = iter([None, alice])  # at first it does not exist
    monkeypatch.setattr("evomem_stores.log.store.find_memory", lambda *_: next(answers))
    assert store.make_memory(("acme", "alice")) == alice


def test_changes_with_a_view_from_before_a_purge_are_refused(store, alice):
    view = write(store, alice, [turn(f"note {n}", n) for n in range(3)])
    purge(store, alice, 1)
    with pytest.raises(HeadMoved, match="were purged or sorted"):
        store.annotate(view, 3, {"a": 1})
    with pytest.raises(HeadMoved, match="were purged or sorted"):
        store.hide(view, [3])
    assert len(store.history(store.view(alice))) == 2


def test_stats_count_no_memory_that_was_dropped(store, alice):
    write(store, alice, notes(2))
    store.fork(store.view(alice), ("fork",))
    store.drop(("acme", "alice"), below=False)
    assert (store.stats()["memories"], store.stats()["turns"]) == (1, 2)  # the fork sees both
    store.drop(("fork",))
    assert (store.stats()["memories"], store.stats()["turns"]) == (0, 0)
