"""What was said by a time, what had been added by a time, and reading a memory again in order of time."""

from datetime import datetime, timedelta, timezone

import pytest

import evomem
from evomem.errors import NotFound, QueryError, SharedTurns

YEAR = {year: datetime(year, 5, 1, tzinfo=timezone.utc) for year in range(2022, 2028)}


@pytest.fixture
def db(location):
    with evomem.open(location, encoder="hash") as opened:
        yield opened


@pytest.fixture
def homes(db):
    """A memory to which the home of 2024 was added after that of 2026."""
    memory = db.memory("homes")
    memory.add("I live in Rome.", id="rome", time=YEAR[2022], session="one")
    memory.add("I moved to Oslo.", id="oslo", time=YEAR[2026], session="three")
    memory.add("I live in Bergen.", id="bergen", time=YEAR[2024], session="two")
    return memory


def ids(view):
    return [record.id for record in view.history()]


def test_at_a_time_shows_what_was_said_by_then_whenever_it_was_added(homes):
    assert ids(homes.at(time=YEAR[2023])) == ["rome"]
    assert ids(homes.at(time=YEAR[2025])) == ["rome", "bergen"]
    assert ids(homes.at(time=YEAR[2026])) == ["rome", "oslo", "bergen"]
    assert ids(homes.at(time="2000-01-01T00:00:00Z")) == []


def test_at_a_time_of_adding_shows_what_was_known_then(homes):
    rome, oslo, bergen = homes.history()
    assert ids(homes.at(added=oslo.added)) == ["rome", "oslo"]
    assert ids(homes.at(added=bergen.added)) == ["rome", "oslo", "bergen"]
    assert ids(homes.at(added=rome.added - timedelta(days=1))) == []


@pytest.mark.parametrize("mode", ["hybrid", "evolvable", "lexical"])
def test_no_call_shows_a_turn_that_was_said_later(homes, mode):
    past = homes.at(time=YEAR[2025])
    for hits in (past.search("Oslo I live", mode=mode), homes.search("Oslo I live", mode=mode, at=YEAR[2025])):  # fmt: skip
        assert {hit.record.id for hit in hits} == {"rome", "bergen"}
    assert len(past) == 2
    assert "Oslo" not in past.context("Oslo I live", mode=mode)
    assert ids(past) == [record.id for record in past.history(session=None, role="user")]
    assert past.history(session="three") == []
    with pytest.raises(NotFound):
        past.get("oslo")
    assert past.get("bergen").text == "User: I live in Bergen."


def test_words_of_later_turns_have_no_part_in_a_ranking(homes):
    part = homes.at(seq=1).fork("part")
    part.add("I live in Bergen.", id="bergen", time=YEAR[2024], session="two")
    past = homes.at(time=YEAR[2025])
    left, right = (view.search("live Oslo in", mode="lexical") for view in (past, part))
    assert [(hit.record.id, hit.score) for hit in left] == [(hit.record.id, hit.score) for hit in right]  # fmt: skip


def test_a_past_within_a_past_is_the_earlier_of_both(homes):
    past = homes.at(time=YEAR[2025])
    assert ids(past.at(seq=2)) == ["rome"]
    assert ids(past.at(time=YEAR[2023])) == ["rome"]
    assert ids(past.at(time=YEAR[2027])) == ["rome", "bergen"]
    assert ids(homes.at(seq=2).at(time=YEAR[2025])) == ["rome"]


def test_a_past_stays_as_it_was_when_an_earlier_turn_is_added(homes):
    past = homes.at(time=YEAR[2025])
    homes.add("I lived in Pisa.", id="pisa", time=YEAR[2023])
    assert ids(past) == ["rome", "bergen"]
    assert ids(homes.at(time=YEAR[2025])) == ["rome", "bergen", "pisa"]


def test_a_turn_that_took_another_s_place_later_leaves_it_visible_before(homes):
    homes.add("I lived in Pisa.", id="pisa", time=YEAR[2027], supersedes="rome")
    homes.add("I was ill.", id="ill", time=YEAR[2023])
    assert ids(homes) == ["oslo", "bergen", "pisa", "ill"]
    past = homes.at(time=YEAR[2025])
    assert ids(past) == ["rome", "bergen", "ill"]
    assert len(past) == 3
    assert {hit.record.id for hit in past.search("Rome", mode="lexical")} == {"rome"}
    homes.delete("bergen")
    assert ids(homes.at(time=YEAR[2025])) == ["rome", "ill"]


def test_a_fork_can_be_read_as_of_a_time(homes):
    fork = homes.fork("what-if")
    fork.add("I lived in Pisa.", id="pisa", time=YEAR[2023])
    assert ids(fork.at(time=YEAR[2025])) == ["rome", "bergen", "pisa"]


def test_a_view_that_leaves_turns_out_cannot_be_forked(homes):
    with pytest.raises(QueryError, match="at\\(seq=\\)"):
        homes.at(time=YEAR[2025]).fork("what-if")
    assert ids(homes.at(time=YEAR[2023]).fork("before")) == ["rome"]


def rankings(memory):
    queries = ("Where do I live?", "Oslo", "the move")
    return [
        [(hit.record.id, pytest.approx(hit.score)) for hit in memory.search(query, 9, mode=mode)]
        for query in queries
        for mode in ("evolvable", "lexical", "hybrid")
    ]


def test_a_memory_that_is_read_again_equals_one_that_was_fed_in_order_of_time(homes):
    homes.add("I have a cat.", id="cat", time=YEAR[2025], session="cat")
    homes.add("I was born in Pisa.", id="pisa", time=YEAR[2023])
    homes.delete("cat")
    records = sorted(homes.history(), key=lambda record: record.time)
    progress = []
    assert homes.reread(progress=lambda *done: progress.append(done)) == 4  # rome stays
    assert progress == [(4, 4)]
    assert ids(homes) == ["rome", "pisa", "bergen", "oslo"]
    with evomem.open(":memory:", encoder="hash") as db:
        other = db.memory("other")
        turns = [record.turn for record in records]
        cat = homes._engine.store.find(homes._view(), ["cat"])["cat"].turn
        other.add_many([*turns[:3], cat, *turns[3:]])
        other.delete("cat")
        assert rankings(homes) == rankings(other)
        assert homes._engine.state(homes._view()).key == other._engine.state(other._view()).key
    assert homes.reread() == 0
    assert homes._engine.store.verify() == []


def test_rereading_a_memory_keeps_replaced_turns_replaced(homes):
    homes.add("I live in Turin.", id="turin", time=YEAR[2022] - timedelta(days=9), supersedes="rome")  # fmt: skip
    homes.add("I live in Stavanger.", id="stavanger", time=YEAR[2027], supersedes="oslo")
    assert homes.reread() > 0
    assert ids(homes) == ["turin", "bergen", "stavanger"]
    assert ids(homes.at(seq=1)) == ["rome"]  # before it was replaced, whatever the times say
    assert ids(homes.at(time=YEAR[2026])) == ["turin", "bergen", "oslo"]
    assert homes._engine.store.verify() == []


def test_a_fork_that_shares_what_would_move_is_in_the_way(homes):
    fork = homes.fork("what-if")
    with pytest.raises(SharedTurns, match="what-if"):
        homes.reread()
    assert ids(homes) == ["rome", "oslo", "bergen"]
    assert fork.reread() == 2
    assert ids(fork) == ["rome", "bergen", "oslo"]
    assert ids(homes) == ["rome", "oslo", "bergen"]
    assert homes.reread() == 2
    assert homes._engine.store.verify() == []


def test_reading_again_what_does_not_exist_reads_nothing(homes):
    with evomem.open(":memory:", encoder="hash") as db:
        assert db.memory("none").reread() == 0
