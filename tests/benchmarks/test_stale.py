"""The stale answer rate: what counts as stale, and that histories are what they say."""

from __future__ import annotations

from benchmarks.quality import stale
from benchmarks.quality.stale_histories import KINDS, StateHistory, StateQuestion, make_histories
from evomem import Turn
from evomem.encoder import HashEncoder


def test_an_answer_is_stale_where_an_older_value_ranks_above_the_newest():
    turns = [Turn(user="the dose is five"), Turn(user="a cat"), Turn(user="ten is the new dose")]
    exact = StateQuestion("Is the dose five?", "current", (0,), (2,))
    result = stale.measure(HashEncoder(64), [StateHistory(turns, [exact])], "test")
    assert result["current"]["plain"]["stale"][0] == 0
    turned = StateQuestion("The dose is five", "current", (2,), (0,))
    result = stale.measure(HashEncoder(64), [StateHistory(turns, [turned])], "test")
    assert result["current"]["plain"]["stale"][0] == 1
    assert result["current"]["plain"]["first"][0] == 0


def test_histories_ask_for_turns_that_are_there_and_for_each_kind():
    told = make_histories("development", 12, 80, 1)
    assert {asked.kind for story in told for asked in story.questions} == set(KINDS)
    for story in told:
        for asked in story.questions:
            assert asked.wanted
            assert not set(asked.wanted) & set(asked.rivals)
            assert all(0 <= place < 80 for place in (*asked.wanted, *asked.rivals))
            if asked.kind in ("current", "now", "latest", "recalled", "cancelled"):
                older = [place for place in asked.rivals if place < asked.wanted[0]]
                assert older


def test_the_command_prints_a_table(capsys):
    assert stale.main(["--encoder", "hash:16", "--histories", "1", "--half", "development"]) == 0
    assert "stale, preferred" in capsys.readouterr().out
