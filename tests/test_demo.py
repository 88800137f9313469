"""The story is consistent, the questions are fair, and the demo says what it sees."""

from __future__ import annotations

import json

import pytest

import evomem
from evomem.cli import main
from evomem.demo import Question, compare, load_questions, load_story
from tests.conftest import ROOT

STORY = load_story()
PLACES = {turn.id or "": place for place, turn in enumerate(STORY)}
QUESTIONS = load_questions()


def quiet(*_):
    pass


def name(question):
    return f"{question.question} {question.at or ''}"


def test_the_story_is_long_enough_and_every_exchange_has_two_sides_an_id_and_a_session():
    assert len(STORY) >= 60
    assert len(PLACES) == len(STORY)
    assert {turn.role for turn in STORY} == {"exchange"}
    assert len({turn.session for turn in STORY}) == 20
    assert all(id.startswith(f"{STORY[place].session}-") for id, place in PLACES.items())


def test_time_goes_forward_over_about_eight_weeks():
    times = [turn.time for turn in STORY if turn.time]
    assert len(times) == len(STORY)
    assert all(earlier < later for earlier, later in zip(times, times[1:], strict=False))
    assert 7 * 7 <= (times[-1] - times[0]).days <= 9 * 7


def test_exchanges_vary_in_length_and_none_is_repeated():
    words = [len(turn.text.split()) for turn in STORY]
    assert max(words) > 2 * min(words)
    assert len({turn.user for turn in STORY}) == len(STORY)


def test_about_a_third_of_the_story_is_talk_that_no_question_is_about():
    asked = {id for question in QUESTIONS for id in question.right | question.wrong}
    assert len(STORY) - len(asked) >= 30


def test_there_are_enough_questions_and_a_handful_is_featured():
    assert len(QUESTIONS) >= 20
    assert 5 <= sum(question.featured for question in QUESTIONS) <= 8
    assert len({(question.question, question.at) for question in QUESTIONS}) == len(QUESTIONS)


@pytest.mark.parametrize("question", QUESTIONS, ids=name)
def test_a_question_has_right_and_tempting_turns_that_were_told_when_it_is_asked(question):
    end = PLACES[question.at] if question.at else len(STORY) - 1
    assert question.right
    assert question.wrong
    assert not question.right & question.wrong
    assert all(PLACES[id] <= end for id in question.right | question.wrong)
    assert question.answer


@pytest.mark.parametrize("question", QUESTIONS, ids=name)
def test_the_evidence_of_now_and_first_is_later_and_earlier_than_wrong_turns(question):
    """And the other way round for what was first."""
    text = question.question.lower()
    right = [PLACES[id] for id in question.right]
    wrong = [PLACES[id] for id in question.wrong]
    if any(word in text for word in ("now", "these days", "at the moment", "latest", "so far")):
        assert max(right) > max(wrong)
    if any(word in text for word in ("first", "originally", "before")):
        assert min(right) < max(wrong)


def test_a_question_asked_at_two_times_has_two_answers():
    asked: dict[str, list[Question]] = {}
    for question in QUESTIONS:
        asked.setdefault(question.question, []).append(question)
    twice = [questions for questions in asked.values() if len(questions) > 1]
    assert len(twice) >= 5
    for first, second in twice:
        assert first.answer != second.answer
        assert not first.right & second.right
        assert second.at
        assert not first.at
        assert second.right <= first.wrong | first.right | second.right


def test_with_memory_is_what_evolvable_search_gives_and_without_reads_every_text_alone(db):
    memory = db.memory("demo")
    report = compare(db, memory, QUESTIONS, quiet)
    assert report.remembers
    assert report.sides == ("with memory", "without memory")
    differ = 0
    for answer in report.answers:
        at = PLACES[answer.question.at] + 1 if answer.question.at else len(STORY)
        hits = memory.search(answer.question.question, 3, mode="evolvable", at=at)
        with_memory, without = (answer.hits[side] for side in report.sides)
        assert [result.record.id for result in with_memory] == [hit.record.id for hit in hits]
        assert all(result.record.seq <= at for result in without)
        differ += [f.score for f in with_memory] != pytest.approx([f.score for f in without])
    assert differ > len(QUESTIONS) / 2


def test_verdicts_and_totals_follow_from_the_ids_of_the_hits(db):
    report = compare(db, db.memory("demo"), QUESTIONS, quiet)
    for side in report.sides:
        first = [(answer.question, answer.hits[side][0]) for answer in report.answers]
        assert report.right(side, 1) == sum(hit.record.id in q.right for q, hit in first)
        assert report.misled(side) == sum(hit.record.id in q.wrong for q, hit in first) > 0
        assert report.right(side, 3) == sum(
            any(hit.record.id in answer.question.right for hit in answer.hits[side])
            for answer in report.answers
        )
        assert report.right(side, 3) > report.right(side, 1) > 0


def test_one_turn_alone_is_the_same_with_and_without_memory(db):
    """The first turn of a memory is read from an empty state either way."""
    from evomem.demo.compare import _alone
    from evomem.state import State

    alone = _alone(db.encoder, STORY[:2], quiet)
    first, second = db.encoder.read(State.empty(db.spec), STORY[:2])
    assert alone[0].tolist() == first.embedding.tolist()
    assert alone[1].tolist() != second.embedding.tolist()


def test_the_story_is_read_once_and_other_turns_are_not_mixed_with_it(db):
    memory = db.memory("demo")
    assert compare(db, memory, QUESTIONS[:1], quiet).seconds_per_turn is not None
    assert compare(db, memory, QUESTIONS[:1], quiet).seconds_per_turn is None
    assert len(memory) == len(STORY)
    memory.add("I live on the moon.")
    with pytest.raises(evomem.EvomemError, match="has turns other than the story's"):
        compare(db, memory, QUESTIONS[:1], quiet)


def test_the_demo_shows_both_sides_the_totals_and_what_to_try(capsys):
    assert main(["demo", "--encoder", "hash"]) == 0
    out = capsys.readouterr().out
    assert "with memory" in out
    assert "without memory" in out
    assert "asked back on 11 April, turn 62" in out
    assert "✓" in out
    assert "✗" in out
    assert "misled" in out
    assert "ms a query" in out
    assert "evomem demo --all" in out
    assert "no memory of order" not in out


def test_the_demo_in_json_has_every_question(capsys):
    assert main(["demo", "--encoder", "hash", "--all", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert len(values["questions"]) == len(QUESTIONS)
    assert values["totals"]["with memory"]["questions"] == len(QUESTIONS)
    first = values["questions"][0]["hits"]["with memory"]
    assert {"id", "seq", "score", "verdict", "text"} == set(first[0])


def test_the_demo_says_when_an_encoder_has_no_memory_of_order(capsys):
    assert main(["demo", "--encoder", "mini?turns=0"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "mini?turns=0 has no memory of order" in out
    assert "hybrid" in out
    assert "with memory " not in out.partition("Of 7 questions")[2]
    assert "evomem demo --encoder evoembedding:<folder or hub id>" in out


def test_the_demo_keeps_the_story_in_a_database_that_is_given(tmp_path, capsys):
    db = str(tmp_path / "tess.db")
    assert main(["demo", "--db", db, "--encoder", "hash", "--json"]) == 0
    assert main(["search", "Where do I climb?", "--db", db, "--memory", "demo", "--json"]) == 0
    capsys.readouterr()
    assert main(["demo", "--db", db, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seconds_per_turn"] is None


def test_the_documentation_counts_right():
    text = " ".join((ROOT / "docs/reference/cli.md").read_text("utf-8").split())
    assert f"({len(STORY)} exchanges over eight weeks" in text
    assert f"ask all {len(QUESTIONS)} questions" in text


def test_the_demo_ignores_the_database_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("EVOMEM_DB", str(tmp_path / "mine.db"))
    assert main(["demo", "--encoder", "hash", "--json"]) == 0
    assert not (tmp_path / "mine.db").exists()
