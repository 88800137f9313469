"""The comparison of answers from latents with answers from text, on a model that has learnt nothing."""

import json
from random import Random

import pytest

from benchmarks.qa.latent_stories import WORDS, short_story
from benchmarks.qa.latents import HELD_OUT_TURNS, STORIES, WAYS, main
from benchmarks.qa.tiny_model import TAUGHT


def test_every_turn_of_a_short_story_tells_one_fact_that_one_question_asks_for():
    for number in range(20):
        story = short_story(6, Random(number))
        assert [question.evidence for question in story.questions] == [(n,) for n in range(6)]
        facts = {
            (turn.partition(":")[0], q.kind)
            for turn, q in zip(story.turns, story.questions, strict=True)
        }
        assert len(facts) == 6
        for question in story.questions:
            told = story.turns[question.evidence[0]]
            assert question.answer in told
            assert told.partition(":")[0] in question.text
            assert question.answer in {word for words in WORDS.values() for word in words}


def test_held_out_stories_are_not_those_of_the_training():
    held_out, train = STORIES.many(50, "held out 6", 6), STORIES.many(200, "memory")
    assert not {tuple(s.turns) for s in held_out} & {tuple(s.turns) for s in train}
    assert {len(s.turns) for s in held_out} == {6}
    assert {len(s.turns) for s in train} == {1, 2, 3, 4, 5, 6}


@pytest.mark.slow
def test_base_and_model_are_trained_once_and_every_question_is_answered_in_each_way(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("evomem.answering.MAX_ANSWER_TOKENS", 4)  # an untrained model never ends
    argv = ["--base-steps", "1", "--steps", "1", "--stories", "8", "--held-out", "2"]
    argv += ["--out", str(tmp_path)]
    assert main(argv) == 0
    result = json.loads((tmp_path / "latents.json").read_text("utf-8"))
    assert [point["step"] for point in result["base"]["curve"]] == [1]
    assert [point["step"] for point in result["model"]["curve"]] == [1]
    for turns in HELD_OUT_TURNS:
        part = result["held out"][str(turns)]
        assert part["questions"] == 2 * turns
        assert set(part["ways"]) == set(WAYS)
        assert all(0 <= share <= 1 for shares in part["ways"].values() for share in shares["all"])
    first = [(tmp_path / part).stat().st_mtime_ns for part in (f"base/{TAUGHT}", "run/log.jsonl")]
    assert main(argv) == 0
    assert first[0] == (tmp_path / "base" / TAUGHT).stat().st_mtime_ns
    assert "answered right from, %" in capsys.readouterr().out
