"""Stories with references, and the training of a memory on them, with models that have learnt nothing."""

import json
from random import Random

import pytest

from benchmarks.quality.reference_stories import (
    LARGEST,
    TOPICS,
    held_out_case,
    reference_story,
)
from benchmarks.quality.references import KS, MODELS, TESTS, TURNS, main

STORIES = [reference_story(LARGEST, Random(number)) for number in range(200)]


def test_a_question_names_what_the_opening_names_and_its_answer_does_not():
    for story in STORIES:
        assert len(story.turns) <= TURNS
        for question in story.questions:
            [turn] = question.evidence
            [name] = [n for t in TOPICS for n in t.names if n in question.text.strip("?").split()]
            words = [text.strip(".").split() for text in story.turns]
            openings = [place for place, text in enumerate(words) if name in text]
            assert len(openings) == 1
            assert openings[0] < turn
            assert question.answer in story.turns[turn]


def test_half_of_the_stories_say_the_same_of_everything():
    def said(story):
        return {(q.kind, q.answer) for q in story.questions}

    def shared(story):
        kinds = [q.kind for q in story.questions]
        return next(kind for kind in kinds if kinds.count(kind) >= LARGEST)

    equal = [len([a for k, a in said(s) if k == shared(s)]) == 1 for s in STORIES]
    assert 0.3 < sum(equal) / len(equal) < 0.7


def test_follow_ups_of_the_control_name_what_they_are_about():
    for number in range(50):
        story = reference_story(LARGEST, Random(number), naming=True)
        for question in story.questions:
            names = story.turns[question.evidence[0]].strip(".").split()
            assert names[-1] in question.text


def test_no_training_story_has_a_held_out_combination_and_held_out_stories_have_nothing_else():
    def held_out(question):
        for topic in TOPICS:
            for fact in topic.facts:
                for name in topic.names:
                    if question in {asked.format(n=name) for asked in fact.asked}:
                        return topic.held_out(name, fact)
        raise AssertionError(question)

    trained = [q.text for story in STORIES for q in story.questions]
    assert len(set(trained)) > 100
    assert not any(map(held_out, trained))
    told = [reference_story(LARGEST, Random(n), held_out=True) for n in range(50)]
    assert all(held_out(q.text) for story in told for q in story.questions)
    cases = [held_out_case(Random(number)) for number in range(50)]
    assert all(held_out(q) for case in cases for q in case.questions)


@pytest.mark.slow
def test_base_model_and_control_are_trained_once_and_their_memories_tested(tmp_path, capsys):
    argv = ["--base-steps", "1", "--steps", "1", "--stories", "8", "--held-out", "1"]
    argv += ["--out", str(tmp_path)]
    assert main(argv) == 0
    result = json.loads((tmp_path / "references.json").read_text("utf-8"))
    assert set(result["models"]) == set(MODELS)
    for model in result["models"].values():
        assert [point["step"] for point in model["curve"]] == [1]
        assert set(model["counterfactual"]) == {"0", "2"}
        for k in KS:
            assert set(model[str(k)]["gain"]) == set(TESTS)
    logs = [tmp_path / name / "log.jsonl" for name in MODELS]
    before = [log.stat().st_mtime_ns for log in logs]
    assert main(argv) == 0
    assert before == [log.stat().st_mtime_ns for log in logs]
    assert "counterfactual, 0 between, two memories" in capsys.readouterr().out
