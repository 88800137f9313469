"""The comparison of answers from latents with answers from text, on a model that has learnt nothing."""

import json

import pytest

from benchmarks.qa.latents import TAUGHT, TURNS, WAYS, main, short_stories


def test_what_is_told_is_the_beginning_of_a_story_with_questions_that_have_one_answer():
    histories = short_stories(20, seed=5)
    assert len(histories) > 15
    for history in histories:
        assert len(history.turns) <= TURNS
        for question in history.questions:
            assert question.answer
            assert question.kind != "every"
            assert max(question.evidence) < len(history.turns)


@pytest.mark.slow
def test_base_and_model_are_trained_once_and_every_question_is_answered_in_each_way(
    tmp_path, capsys
):
    argv = ["--base-steps", "1", "--steps", "1", "--stories", "4", "--held-out", "2"]
    argv += ["--out", str(tmp_path)]
    assert main(argv) == 0
    result = json.loads((tmp_path / "latents.json").read_text("utf-8"))
    assert set(result["ways"]) == set(WAYS)
    assert result["questions"] == sum(len(h.questions) for h in short_stories(2, seed=3))
    assert result["base"]["steps"] == 1
    assert result["model"]["cpu_s"] >= 0
    for shares in result["ways"].values():
        assert all(0 <= share <= 1 for share in shares.values())
    first = [(tmp_path / part).stat().st_mtime_ns for part in (f"base/{TAUGHT}", "run/log.jsonl")]
    assert main(argv) == 0
    assert first[0] == (tmp_path / "base" / TAUGHT).stat().st_mtime_ns
    assert "answered right from, %" in capsys.readouterr().out
