"""Random histories of everything a database can do, against a model made of plain lists.

What a search, a view, a fork or a history returns must equal what the model says, so nothing of one
memory can ever show in another. `EVOMEM_STEPS=100 EVOMEM_EXAMPLES=1000` looks for longer.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import evomem
from evomem.errors import DuplicateTurn, NamespaceError, NotFound, SharedTurns
from evomem.records import Turn
from evomem.search.ranking import WEIGHTS
from tests.conftest import Fresh
from tests.interrupted import Interrupted
from tests.stores.helpers import ENCODER
from tests.stores.model import ModelMemory
from tests.stores.other_process import OtherProcess

STEPS = int(os.environ.get("EVOMEM_STEPS", "25"))
EXAMPLES = int(os.environ.get("EVOMEM_EXAMPLES", "10"))
FEWER = int(os.environ.get("EVOMEM_EXAMPLES", "5"))  # where only a part is of that kind alone

NAMES = [("a",), ("a", "b"), ("ab",), ('a","b',), ("c",)]
LABELS = ["f", "g"]
WORDS = ["cat", "dog", "oslo", "bergen", "moved", "東京", "the"]
START = datetime(2024, 1, 1, tzinfo=timezone.utc)

Namespace = tuple[str, ...]

texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join)
hours = st.integers(0, 6)
sessions = st.sampled_from([None, "s1", "s2"])
queries = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join)
modes = st.sampled_from(["evolvable", "lexical", "hybrid"])


class Databases(RuleBasedStateMachine):
    """Two `Database` objects and a second process on one database, and the model beside them."""

    encoder = Interrupted(ENCODER.spec.dim)
    other: OtherProcess | None = None
    shared = True  # whether several may open it
    examples = EXAMPLES
    exact = True  # whether scores are equal to the last bit, so that ties are ties

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[Namespace, ModelMemory] = {}
        self.count = itertools.count(1)
        self.folder = Path(tempfile.mkdtemp())
        self.index_folder = self.folder / "a.db.index"
        self.location = self.make_location()
        self.open: list[evomem.Database] = []

    def make_location(self) -> str:
        return str(self.folder / "a.db")

    def options(self) -> dict[str, Any]:
        return {}

    @initialize()
    def start(self) -> None:
        self.open = [self._opened() for _ in range(2 if self.shared else 1)]

    def teardown(self) -> None:
        try:
            self.check_at_the_end()
        finally:
            for db in self.open:
                db.close()
            shutil.rmtree(self.folder)

    def _opened(self) -> evomem.Database:
        db = evomem.open(self.location, self.encoder, embeddings="float32", **self.options())
        index: Any = db._engine.index
        index._min_new_rows = 3
        return db

    def _db(self, data: st.DataObject) -> evomem.Database:
        return data.draw(st.sampled_from(self.open), label="database object")

    def _turn(self, text: str, hour: int, session: str | None, topic: str | None = None) -> Turn:
        number = next(self.count)
        time = START + timedelta(hours=hour)
        metadata = {"topic": topic} if topic else {}
        return Turn(user=text, id=f"t{number}", time=time, session=session, metadata=metadata)

    def _told(self, name: Namespace, turn: Turn, seq: int) -> None:
        memory = self.model.setdefault(name, ModelMemory(self.encoder))
        assert memory.add(turn, said=int(str(turn.id)[1:])) == seq

    # writing -------------------------------------------------------------------------------

    @rule(data=st.data(), name=st.sampled_from(NAMES), text=texts, hour=hours, session=sessions)
    def add(self, data, name, text, hour, session):
        turn = self._turn(text, hour, session)
        record = self._db(data).memory(*name).add(
            text, id=turn.id, time=turn.time, session=session
        )  # fmt: skip
        assert record.turn == turn
        self._told(name, turn, record.seq)

    @rule(
        data=st.data(), many=st.lists(texts, min_size=1, max_size=9), hour=hours, session=sessions
    )
    def add_many(self, data, many, hour, session):
        name = data.draw(st.sampled_from([*NAMES, *self.model]))
        turns = [self._turn(text, hour, session, text.split()[0]) for text in many]
        for record in self._db(data).memory(*name).add_many(turns):
            self._told(name, record.turn, record.seq)

    @precondition(lambda self: self.other)
    @rule(data=st.data(), many=st.lists(texts, min_size=1, max_size=3))
    def another_process_adds(self, data, many):
        name = data.draw(st.sampled_from([*NAMES, *self.model]))
        turns = [self._turn(text, 0, None) for text in many]
        messages = [{"user": t.user, "id": t.id, "time": START.isoformat()} for t in turns]
        assert self.other
        seqs = self.other.add(self.location, name, messages)
        for turn, seq in zip(turns, seqs, strict=True):
            self._told(name, turn, seq)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), label=st.sampled_from(LABELS))
    def fork(self, data, label):
        name, memory = self._memory(data)
        at = data.draw(st.none() | st.integers(0, memory.head))
        view = self._db(data).memory(*name)
        if (*name, label) in self.model:
            with pytest.raises(NamespaceError):
                view.fork(label)
            return
        (view if at is None else view.at(seq=at)).fork(label)
        self.model[(*name, label)] = memory.at(memory.head if at is None else at)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def delete(self, data):
        name, memory = self._memory(data)
        id = self._id(data)
        entry = memory.entry(id)
        if entry is None or entry.hidden:
            with pytest.raises(NotFound):
                self._db(data).memory(*name).delete(id)
            return
        assert self._db(data).memory(*name).delete(id).seq == entry.seq
        entry.hidden = True

    @precondition(lambda self: self.model)
    @rule(data=st.data(), forks=st.booleans())
    def purge(self, data, forks):
        name, memory = self._memory(data)
        id = self._id(data)
        entry = memory.entry(id)
        call = self._db(data).memory(*name)
        if entry is None:
            with pytest.raises(NotFound):
                call.purge(id, forks=forks)
            return
        try:
            call.purge(id, forks=forks)
        except SharedTurns:
            assert not forks
            assert any(other[: len(name)] == name != other for other in self.model)
            return
        memory.purge(entry.said)
        for other, memory_model in self.model.items():
            if forks and other[: len(name)] == name:
                memory_model.purge(entry.said)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), hour=hours, session=sessions)
    def expire(self, data, hour, session):
        name, memory = self._memory(data)
        before = START + timedelta(hours=hour)
        gone = [
            entry.said
            for entry in memory.entries
            if (entry.turn.time or before) < before and session in (None, entry.turn.session)
        ]
        self._db(data).memory(*name).expire(before=before, session=session, forks=True)
        for other, memory_model in self.model.items():
            if other[: len(name)] == name:
                memory_model.purge(*gone)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), below=st.booleans())
    def drop(self, data, below):
        name, _ = self._memory(data)
        db = self._db(data)
        receipt = db.drop(*name) if below else db.memory(*name).drop()
        gone = [
            other for other in self.model if other == name or (below and other[: len(name)] == name)
        ]
        assert receipt.memories == tuple(sorted(gone))
        for other in gone:
            del self.model[other]

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def add_an_id_again(self, data):
        name, memory = self._memory(data)
        call = self._db(data).memory(*name)
        for entry in memory.entries[-3:]:
            if entry.hidden:
                with pytest.raises(DuplicateTurn):
                    call.add_many([entry.turn])
            else:
                assert call.add_many([entry.turn])[0].seq == entry.seq
            with pytest.raises(DuplicateTurn):
                call.add("something else", id=entry.turn.id)

    # what happens to files -----------------------------------------------------------------

    @precondition(lambda self: self.shared)
    @rule()
    def reopen(self):
        for db in self.open:
            db.close()
        self.start()

    @precondition(lambda self: self.shared)
    @rule(damage=st.sampled_from(["gone", "empty", "flipped", "another's"]))
    def the_index_is_lost(self, damage):
        files = sorted(self.index_folder.glob("*.faiss"))
        if damage == "gone":
            shutil.rmtree(self.index_folder, ignore_errors=True)
        for file in files if damage != "gone" else ():
            data = bytearray(file.read_bytes()) or bytearray(1)  # it may be empty already
            data[len(data) // 2] ^= 8
            another = files[0].read_bytes()
            file.write_bytes({"empty": b"", "flipped": bytes(data)}.get(damage, another))

    # reading -------------------------------------------------------------------------------

    @precondition(lambda self: self.model)
    @rule(data=st.data(), query=queries, k=st.integers(1, 12), mode=modes, session=sessions)
    def search(self, data, query, k, mode, session):
        name, memory = self._memory(data)
        moments = hours.map(lambda hour: START + timedelta(hours=hour))
        point = data.draw(st.none() | st.integers(0, memory.head) | moments, label="at")
        past = memory if point is None else memory.at(point) if isinstance(point, int) else memory.said_by(point)  # fmt: skip
        topic = data.draw(st.none() | st.sampled_from(WORDS), label="topic")
        allowed = [
            entry
            for entry in past.visible()
            if session in (None, entry.turn.session)
            and topic in (None, entry.turn.metadata.get("topic"))
        ]
        view = self._db(data).memory(*name)
        where = {"topic": topic} if topic else None
        hits = view.search(query, k, mode=mode, at=point, session=session, where=where)
        cosines, words = past.evolvable(query, allowed), past.lexical(query, allowed)
        if mode == "hybrid":
            assert {hit.seq for hit in hits} <= {entry.seq for entry in allowed}
            assert len(hits) == min(k, len(allowed))
        else:
            scores = cosines if mode == "evolvable" else words
            best = sorted(scores.items(), key=lambda item: (-item[1], -item[0]))[:k]
            assert [hit.score for hit in hits] == pytest.approx([score for _, score in best])
            if mode == "evolvable" and self.exact:
                assert [hit.seq for hit in hits] == [seq for seq, _ in best]
            assert [scores[hit.seq] for hit in hits] == pytest.approx([score for _, score in best])
        known = {entry.seq: entry.turn for entry in allowed}
        for hit in hits:
            assert hit.record.turn == known[hit.seq]
            for part, scores in {"evolvable": cosines, "lexical": words}.items():
                if mode == "hybrid":  # there, parts are shares of the best score
                    best_score = max([0.0, *scores.values()]) or 1
                    share = WEIGHTS[part] * scores.get(hit.seq, 0) / best_score
                    assert hit.parts.get(part, 0) == pytest.approx(share)

    @precondition(lambda self: self.model)
    @rule(
        data=st.data(),
        query=queries,
        mode=st.sampled_from(["evolvable", "hybrid"]),
        change=st.sampled_from(["purge", "delete", "drop", "add"]),
    )
    def search_while_something_changes(self, data, query, mode, change):
        """What was forgotten while the query was embedded is not found; what was added need not be."""
        name, memory = self._memory(data)
        shown = memory.visible()
        if not shown:
            return
        entry = data.draw(st.sampled_from(shown), label="turn")
        added = self._turn("a turn added meanwhile", 0, None)
        theirs = self._db(data).memory(*name)
        self.encoder.meanwhile = {
            "purge": lambda: theirs.purge(entry.turn.id, forks=True),
            "delete": lambda: theirs.delete(entry.turn.id),
            "drop": theirs.drop,
            "add": lambda: theirs.add_many([added]),
        }[change]
        hits = self._db(data).memory(*name).search(query, 1000, mode=mode)
        assert self.encoder.meanwhile is None
        if change == "drop":
            shown = []
            del self.model[name]
        elif change == "delete":
            entry.hidden = True
            shown = memory.visible()
        elif change == "purge":
            for other, memory_model in self.model.items():
                if other[: len(name)] == name:
                    memory_model.purge(entry.said)
            shown = memory.visible()
        assert {hit.record.id for hit in hits} == {entry.turn.id for entry in shown}
        if change == "add":
            self._told(name, added, theirs.get(str(added.id)).seq)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), query=queries)
    def everything_else_that_is_read(self, data, query):
        name, memory = self._memory(data)
        view = self._db(data).memory(*name)
        shown = memory.visible()
        lines = view.context(query).splitlines()
        text = [f"User: {entry.turn.user}" for entry in shown]
        assert sorted(line.partition("] ")[2] for line in lines) == sorted(text)
        id = self._id(data)
        entry = memory.entry(id)
        if entry in shown:
            assert view.get(id).seq == entry.seq
        else:
            with pytest.raises(NotFound):
                view.get(id)
        hour = data.draw(hours)
        time = START + timedelta(hours=hour)
        past = memory.said_by(time)
        assert [r.seq for r in view.at(time=time).history()] == [e.seq for e in past.visible()]

    @invariant()
    def every_memory_is_as_the_model_says(self) -> None:
        for place, (name, memory) in enumerate(self.model.items()):
            call = self.open[place % len(self.open)].memory(*name)
            store = call._engine.store
            with store.snapshot():
                history, count, state = call.history(), len(call), store.state(call._view())
            shown = [(entry.seq, entry.turn) for entry in memory.visible()]
            assert [(record.seq, record.turn) for record in history] == shown
            assert count == len(shown)
            expected = memory.state()
            assert state.key == expected.key
            assert state.queue.tobytes() == expected.queue.tobytes()
        for db in self.open:
            assert db.memories() == sorted(self.model)

    def check_at_the_end(self) -> None:
        for db in self.open:
            assert [fault for fault in db.verify() if "replaced when needed" not in fault] == []

    # ---------------------------------------------------------------------------------------

    def _memory(self, data: st.DataObject) -> tuple[Namespace, ModelMemory]:
        name = data.draw(st.sampled_from(sorted(self.model)), label="memory")
        return name, self.model[name]

    def _id(self, data: st.DataObject) -> str:
        """Any id that was ever used, whichever memory it is of."""
        newest = int(repr(self.count).strip("count()")) - 1
        return f"t{data.draw(st.integers(1, max(1, newest)), label='id')}"


class InMemory(Databases):
    """One object, no files."""

    examples = FEWER
    shared = False

    def make_location(self) -> str:
        return ":memory:"


class Server(Databases):
    """PostgreSQL; index files are in a folder of this process."""

    schemas: Fresh

    def make_location(self) -> str:
        return type(self).schemas()

    def options(self) -> dict[str, Any]:
        return {"index_folder": self.index_folder}


class Pgvector(Server):
    """PostgreSQL, which finds the nearest turns itself, and sums in float32."""

    examples = FEWER
    exact = False

    def options(self) -> dict[str, Any]:
        return {"index": "pgvector"}


class Milvus(Server):
    """PostgreSQL, and the vectors in Milvus."""

    examples = FEWER
    uri: str

    def options(self) -> dict[str, Any]:
        return {"index": "milvus", "milvus_uri": self.uri}


KINDS: dict[str, type[Databases]] = {
    "file": Databases,
    ":memory:": InMemory,
    "postgresql": Server,
    "pgvector": Pgvector,
    "milvus": Milvus,
}


@contextmanager
def _machine(name: str, request: pytest.FixtureRequest) -> Iterator[type[Databases]]:
    kind = KINDS[name]
    if issubclass(kind, Server):
        kind.schemas = staticmethod(request.getfixturevalue("new_schema"))
    if issubclass(kind, Milvus):
        kind.uri = request.getfixturevalue("milvus")
    if not kind.shared:
        yield kind
        return
    kind.other = process = OtherProcess()
    try:
        yield kind
    finally:
        kind.other = None  # or kinds that are derived from this one would have it
        process.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_any_history_leaves_what_the_model_says(name, request):
    with _machine(name, request) as machine:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=machine.examples, stateful_step_count=STEPS, print_blob=True
            ),
        )
