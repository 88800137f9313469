"""Filters and weights by the source of a turn."""

import copy
import re
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import evomem
from evomem import Turn
from evomem.checks import MODES
from evomem.encoder import HashEncoder
from evomem.errors import QueryError
from evomem.search.current import wish_of
from tests.conftest import ROOT

ENCODER = HashEncoder(32)
SOURCES = [None, "user", "web", "import:chat.json"]
WORDS = "cat dog oslo paris lunch menu office the a is".split()
TEXT = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join)
TOLD = st.lists(st.tuples(TEXT, st.sampled_from(SOURCES)), min_size=1, max_size=25)
LABELS = st.lists(st.sampled_from([*SOURCES, "never said"]), max_size=4)
WEIGHTS = st.dictionaries(
    st.sampled_from([*SOURCES, "never said"]), st.sampled_from([0.05, 0.5, 0.8, 0.99, 1])
)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared(request, tmp_path_factory):
    """A database that the examples of a property share, each with a memory of its own."""
    if request.param == "sqlite":
        location = str(tmp_path_factory.mktemp("sources") / "test.db")
    else:
        location = request.getfixturevalue("new_schema")()
    with evomem.open(location, ENCODER) as db:
        yield db


def remember(db, told, deleted=()):
    """A fork whose first half is its parent's, so that a search looks at two logs."""
    parent = db.memory(f"m{len(db.memories())}")
    turns = [
        Turn(user=text, id=str(n), source=source, session=f"s{n // 3}", metadata={"of": source})
        for n, (text, source) in enumerate(told)
    ]
    parent.add_many(turns[: len(turns) // 2] or turns)
    memory = parent.fork("b")
    memory.add_many(turns[len(turns) // 2 :])
    for n in deleted:
        if n < len(turns):
            memory.delete(str(n))
    return memory


def seqs_and_parts(hits):
    return [(hit.seq, dict(hit.parts)) for hit in hits]


@settings(max_examples=25)
@given(
    told=TOLD,
    query=TEXT,
    mode=st.sampled_from(MODES),
    k=st.integers(1, 8),
    source=st.none() | LABELS,
    not_source=st.none() | LABELS,
    deleted=st.sets(st.integers(0, 24), max_size=3),
)
def test_a_search_by_source_is_a_search_among_these_turns(
    shared, told, query, mode, k, source, not_source, deleted
):
    memory = remember(shared, told, deleted)
    chosen = [
        record
        for record in memory.history()
        if (source is None or record.turn.source in source)
        and record.turn.source not in (not_source or ())
    ]
    assert memory.history(source=source, not_source=not_source) == chosen
    where = {"of": {"$nin": list(not_source or ())}}
    if source is not None:
        where["of"]["$in"] = source
    for at in (None, len(told) // 2):
        hits = memory.search(query, k, mode=mode, at=at, source=source, not_source=not_source)
        assert seqs_and_parts(hits) == seqs_and_parts(
            memory.search(query, k, mode=mode, at=at, where=where)
        )


@settings(max_examples=25)
@given(
    told=TOLD,
    query=TEXT,
    mode=st.sampled_from(MODES),
    k=st.integers(1, 8),
    trust=WEIGHTS,
    source=st.none() | LABELS,
)
def test_weights_lower_every_score_by_a_share_before_the_best_are_chosen(
    shared, told, query, mode, k, trust, source
):
    assume(wish_of(query) is None)  # a current value is chosen among turns of full weight
    memory = remember(shared, told)
    expected = []
    for hit in memory.search(query, 100, mode=mode, source=source):
        weight = trust.get(hit.record.turn.source, 1)
        expected.append((-(hit.score - (1 - weight) * abs(hit.score)), -hit.seq, hit))
    expected.sort(key=lambda item: item[:2])
    hits = memory.search(query, k, mode=mode, trust=trust, source=source)
    # two scores that are equal but for rounding may change places
    assert [hit.score for hit in hits] == pytest.approx([-score for score, *_ in expected[:k]])
    unweighted = {hit.seq: hit for _, _, hit in expected}
    for hit in hits:
        assert hit.score == sum(hit.parts.values())
        weight = trust.get(hit.record.turn.source, 1)
        assert ("trust" in hit.parts) == (weight != 1 and unweighted[hit.seq].score != 0)
        without = {name: value for name, value in hit.parts.items() if name != "trust"}
        assert without == unweighted[hit.seq].parts
        assert hit.parts.get("trust", 0) <= 0


@pytest.mark.parametrize("mode", MODES)
def test_a_flood_of_a_weak_source_does_not_push_trusted_turns_out(db, mode):
    memory = db.memory("a")
    memory.add("The office lunch menu has biryani on Friday.", id="true", source="user")
    stuffed = "office lunch menu lunch menu today what is on the office lunch menu"
    memory.add_many([Turn(user=f"{stuffed} {n}", source="web") for n in range(150)])
    query = "what is on the office lunch menu today?"
    assert "true" not in [hit.record.id for hit in memory.search(query, 5, mode=mode)]
    [best, *others] = memory.search(query, 5, mode=mode, trust={"web": 0.1})
    assert best.record.id == "true"
    assert len(others) == 4


def test_a_negative_score_is_lowered_too():
    with evomem.open(":memory:", HashEncoder(8)) as db:
        memory = db.memory("a")
        memory.add_many(
            [Turn(user=word, source=source) for word in WORDS for source in ("user", "web")]
        )
        before_weights = {hit.seq: hit.score for hit in memory.search("snow", 20, mode="evolvable")}
        hits = memory.search("snow", 20, mode="evolvable", trust={"web": 0.5})
    assert min(before_weights.values()) < 0
    for hit in hits:
        before = before_weights[hit.seq]
        lowered = before - abs(before) / 2 if hit.record.turn.source == "web" else before
        assert hit.score == pytest.approx(lowered)


@pytest.mark.parametrize("backend", ["pgvector", "milvus"])
def test_other_indexes_filter_and_weigh_alike(backend, request, tmp_path):
    options: dict[str, Any]
    if backend == "pgvector":
        location, options = request.getfixturevalue("new_schema")(), {"index": "pgvector"}
    else:
        location = str(tmp_path / "test.db")
        options = {"index": "milvus", "milvus_uri": request.getfixturevalue("milvus")}
    answers = []
    with (
        evomem.open(location, ENCODER, **options) as db,
        evomem.open(":memory:", ENCODER) as exact,
    ):
        for item in (db, exact):
            memory = item.memory("a")
            memory.add_many(
                [Turn(user=f"{WORDS[n % 10]} {n}", source=SOURCES[n % 4]) for n in range(40)]
            )
            answers.append(
                [
                    [(hit.seq, pytest.approx(hit.score)) for hit in memory.search("cat", 6, **how)]
                    for mode in MODES
                    for how in (
                        {"mode": mode, "source": ["web", None]},
                        {"mode": mode, "not_source": "web"},
                        {"mode": mode, "trust": {"web": 0.3, None: 0.9}},
                    )
                ]
            )
    assert answers[0] == answers[1]


def test_the_context_takes_sources_and_weights(db):
    memory = db.memory("a")
    memory.add("My door code is 1111.", source="web")
    memory.add("My door code is 2222.", source="user")
    assert "1111" in memory.context("door code")
    assert "1111" not in memory.context("door code", source="user")
    assert "1111" not in memory.context("door code", not_source=["web"])
    assert "1111" not in memory.context("door code", k=1, trust={"web": 0.1})


@pytest.mark.parametrize(
    ("argument", "value", "says"),
    [
        ("source", 5, "source takes a source or a list of them, got 5"),
        ("source", {"web": 1}, "source takes a source or a list"),
        ("source", [5], "source must be a string"),
        ("source", ["a\x00"], "NUL character"),
        ("not_source", b"web", "not_source takes a source or a list"),
        ("not_source", ["\ud800"], "surrogate"),
        ("trust", "web", "trust must be a mapping"),
        ("trust", {5: 0.5}, "trust must be a string"),
        ("trust", {"web": 0}, "above 0 and at most 1, got 0; to leave a source out"),
        ("trust", {"web": -0.5}, "above 0 and at most 1"),
        ("trust", {"web": 1.5}, "above 0 and at most 1"),
        ("trust", {None: float("nan")}, "above 0 and at most 1"),
        ("trust", {"web": True}, "above 0 and at most 1"),
        ("trust", {"web": "0.5"}, "above 0 and at most 1"),
    ],
)
def test_sources_and_weights_that_make_no_sense_are_refused(db, argument, value, says):
    with pytest.raises(QueryError, match=says):
        db.memory("a").search("x", **{argument: value})


def test_one_call_rolls_back_what_a_session_or_a_source_brought(db):
    clean = db.memory("clean")
    poisoned = db.memory("poisoned")
    for n in range(20):
        turn = Turn(user=f"note {n}", id=f"t{n}", session=f"s{n % 2}", source="user")
        clean.add_many([turn])
        poisoned.add_many([turn])
        if n % 5 == 0:
            lie = Turn(user=f"a lie {n}", id=f"w{n}", session=f"s{n % 2}", source="web")
            poisoned.add_many([lie])
    poisoned.delete("w5")
    going = [record.id for record in poisoned.history(source="web", session="s0")]
    assert going == ["w0", "w10"]
    assert poisoned.expire(source="web", session="s0").ids == ("w0", "w10")
    receipt = poisoned.expire(source=["web"])
    assert (receipt.ids, receipt.turns) == (("w5", "w15"), 2)

    def vectors(memory):
        store = memory._engine.store
        rows = store.rows(store.view(store.find_memory(memory.namespace)), after=0)
        return [(row.turn.id, row.reading.embedding.tobytes()) for row in rows]

    assert vectors(poisoned) == vectors(clean)
    assert poisoned.expire(source=[None]).turns == 0
    with pytest.raises(QueryError, match="it would forget everything"):
        poisoned.expire()


def test_a_context_names_the_turns_it_shows_for_the_answers_recalled(db):
    memory = db.memory("a")
    memory.add_many([Turn(user=f"note {n} of my cat", id=f"t{n}") for n in range(10)])
    context = memory.context("cat", max_tokens=60)
    assert 0 < len(context.ids) < 10
    assert [f"note {id[1:]} of" in context for id in context.ids] == [True] * len(context.ids)
    assert context.count("\n") + 1 == len(context.ids)
    assert copy.copy(context).ids == context.ids
    memory.add("Which cat?", reply="Miso.", id="answer", recalled=context.ids)
    assert memory.get("answer").turn.recalled == context.ids
    assert memory.influence(context.ids[0]).answers == ("answer",)
    assert db.memory("empty").context("cat").ids == ()


def test_the_guide_to_poisoning_runs_as_it_is(capsys):
    page = (ROOT / "docs/operations/poisoning.md").read_text("utf-8")
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, names)
        if "reached" in names and "receipt" not in names:
            reached = names["reached"]
            assert (reached.answers, reached.direct, reached.indirect) == (
                ("answer",), ("answer",), (),
            )  # fmt: skip
    assert (names["receipt"].ids, names["receipt"].reread) == (("lie",), 1)
    assert [record.id for record in names["alice"].history()] == ["truth"]
    assert "'trust': -" in capsys.readouterr().out
    names["db"].close()
