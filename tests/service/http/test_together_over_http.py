"""What a client keeps of many memories is what each of them says; and what others write is seen."""

from __future__ import annotations

import pytest

from evomem.errors import AccessDenied, HeadMoved, InputError, QueryError, TurnError
from evomem.records import Turn
from tests import test_together
from tests.service.http.running import running

pytestmark = pytest.mark.enable_socket  # to a service of this process, on loopback

KINDS = ("add", "replace", "annotate", "fork", "delete", "other", "purge", "add", "drop", "add")
STEPS = [("add", "b"), *((kind, "a") for kind in KINDS)]


def test_it_is_what_the_memories_say_whatever_happens(service, db):
    with service.connect() as elsewhere:
        for number, (what, name) in enumerate(STEPS):
            test_together.step(db, elsewhere, what, name, number)
            test_together.assert_current(db)


def test_only_what_has_changed_travels_and_the_rest_stays_the_same_object(db):
    for name in ("a", "b"):
        db.memory("root", name).add("I drink coffee.", id=name)
    first = db.together("root", query="coffee")
    assert db.together("root", query="tea") is first
    db.memory("root", "b").add("I drink tea.", id="new")
    second = db.together("root")
    assert second.extracts[0] is first.extracts[0]
    assert second.extracts[1].turns[0] is first.extracts[1].turns[0]
    assert [turn.id for _, turn in second.turns] == ["a", "b", "new"]
    with pytest.raises(HeadMoved, match="have changed meanwhile"):
        first.cosines("milk")
    assert len(second.cosines("milk")) == 3


def test_a_key_sees_what_is_below_its_prefix_and_nothing_tells_of_others():
    with running() as served:
        keys = served.service.keys
        own, other = keys.create(("own",), ["read"])[0], keys.create((), ["write"])[0]
        served.service.db.memory("own", "a").add("Mine.")
        with served.connect(own) as mine, served.connect(other) as theirs:
            for foreign in ((), ("ow",), ("other",)):
                with pytest.raises(AccessDenied):
                    mine.together(*foreign)
            assert set(mine.sizes()) == set(mine.sizes("own")) == {("own", "a")}
            for blind in (lambda: theirs.together("own"), lambda: theirs.sizes()):
                with pytest.raises(AccessDenied, match="no right to read"):
                    blind()
            with pytest.raises(AccessDenied, match="no right to read"):
                theirs.memory("own", "a").replace_sessions(["s"], lambda stored: [])
            before = mine.together("own")
            theirs.memory("rival").add("Somebody else writes.")
            assert mine.together("own") is before  # nothing has changed for this key


# replacing what sessions hold ----------------------------------------------------------------


def said(memory):
    return [record.turn.user for record in memory.history()]


def test_replacing_includes_turns_written_meanwhile_by_another_client(service, db):
    memory = db.memory("m")
    memory.add("first", session="s", id="1")
    seen: list[list[str]] = []

    def build(stored):
        if len(seen) == 1:  # after what is held was looked at
            with service.connect() as other:
                other.memory("m").add("between", session="s", id="2")
        seen.append([record.id for record in stored])
        return [Turn(user="new", session="s")]

    (record,) = memory.replace_sessions(["s"], build)
    assert seen == [[], ["1"], ["1", "2"]]
    assert said(memory) == ["new"]
    assert memory.get(record.id) == record


def test_a_request_whose_answer_was_lost_is_made_again_and_stores_nothing_twice(db, monkeypatch):
    import httpx

    memory, caller = db.memory("m"), db._caller
    memory.add("old", session="s")
    send = caller._send
    lost: list[object] = []

    def lose(call):
        answer = send(call)
        if call.path.endswith("/turns/replace") and b"new" in call.body and not lost:
            lost.append(answer)
            return httpx.ReadError("the connection broke") if len(lost) == 1 else answer
        return answer

    monkeypatch.setattr(caller, "_send", lose)
    memory.replace_sessions(["s"], lambda stored: [Turn(user="new", session="s")] if stored else [])
    assert lost
    assert said(memory) == ["new"]
    assert len(memory.history(all=True)) == 2


async def test_a_function_that_needs_what_is_held_gets_it(db):
    memory = db.memory("m")
    await memory.aadd("one", session="s")
    longer = lambda stored: [Turn(user=stored[-1].turn.user + " more", session="s")]  # noqa: E731
    await memory.areplace_sessions(["s"], longer)
    assert said(memory) == ["one more"]
    with pytest.raises(IndexError):  # as in the process, where there is nothing
        memory.replace_sessions(["none"], longer)


def test_invalid_replacements_are_refused_before_anything_is_written(db):
    memory = db.memory("m")
    turn = Turn(user="x", session="s")
    with pytest.raises(TurnError, match="not one of those to be replaced"):
        memory.replace_sessions(["t"], lambda stored: [turn])
    with pytest.raises(QueryError):
        memory.replace_sessions(["s"], lambda stored: [turn], where={"a": object()})
    for body in (b"", b"{", b'{"sessions": "s"}', b'{"sessions": ["s"], "user": "bob"}'):
        call = type(next(memory._describe({})))
        with pytest.raises(InputError):
            memory._caller.run(_one(call("POST", f"{memory._path}/turns/replace", body=body)))
    assert said(memory) == []


def _one(call):
    return (yield call)
