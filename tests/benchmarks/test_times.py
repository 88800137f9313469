import json
from datetime import datetime, timedelta, timezone

import pytest

from benchmarks.datasets import Conversation, DatasetError
from benchmarks.datasets.tmd import load_tmd
from benchmarks.quality import times
from benchmarks.quality.times import BASE, IN_USE, MADE, STRENGTHS, ask_all, compare, generated
from benchmarks.systems.encoders import Encoders
from evomem.search import ranking
from evomem.times import when

START = datetime(2024, 1, 20, 18, tzinfo=timezone.utc)
DISHES = ("ramen", "curry", "pizza", "tacos", "paella")


@pytest.fixture
def chat():
    conversation = Conversation("chat")
    for day in range(10):
        for number, speaker in enumerate(("Mei", "Ada", "Mei")):
            text = f"Dinner was {DISHES[(day + number) % 5]}, and number {day}{number} came by."
            time = START + timedelta(days=2 * day, minutes=number)
            conversation.add_turn(
                f"{day}.{number}", text, "", speaker=speaker, session=day, time=time
            )
    conversation.questions = generated(conversation)
    return conversation


def test_questions_are_the_same_each_time_and_name_what_their_evidence_holds(chat):
    assert chat.questions == generated(chat)
    kinds = {question.type.removeprefix(MADE) for question in chat.questions}
    assert kinds == {"day", "days ago", "session", "word and day", "word and session", "word alone"}
    for question in chat.questions:
        turns = [chat.turns[place] for place in question.evidence]
        kind = question.type.removeprefix(MADE)
        assert when.names_time(question.text) == (kind != "word alone")
        if kind in ("day", "days ago", "session"):
            assert len({turn.session for turn in turns}) == 1
            assert len(turns) == 3
        else:
            word = question.text.split(" about ")[1].split()[0].rstrip("?")
            assert all(word in turn.text.lower() for turn in turns)


def test_every_time_that_is_named_in_full_is_found(chat):
    entry = compare([chat], Encoders()["hash"])
    for kind in ("day", "days ago", "session"):
        rows = entry[MADE + kind]["rows"]
        assert rows[str(IN_USE)]["mean"][0] == 1
        assert rows[str(STRENGTHS[0])]["mean"][0] < 1
        assert rows[str(BASE)]["difference"] == [0, 0, 0]
    alone = entry[f"{MADE}word alone"]["rows"]
    assert len({row["mean"][0] for row in alone.values()}) == 1


def test_a_strength_holds_only_while_it_is_applied(chat):
    before = ranking.WEIGHTS["time"], when.BROAD
    ask_all([chat], Encoders()["hash"], [STRENGTHS[3]])
    assert (ranking.WEIGHTS["time"], when.BROAD) == before


def written(path, **turn):
    stream = {
        "id": "tmd-1",
        "turns": [
            {"speaker": "Mei", "text": "Hi.", "session": 1, "date": "2022-01-21", "time": "07:31:05"},
            {"speaker": "Ada", "text": "Look!", "session": 2, "date": "2022-01-22", "time": "08:00:00", "caption": "a cat"} | turn,
        ],
        "queries": [{"question": "What did Ada show on January 22nd?", "type": "content_time", "evidence": [1]}],
    }  # fmt: skip
    path.write_text(json.dumps(stream) + "\n", "utf-8")
    return path


def test_the_temporal_memory_dataset_is_read_and_reported(tmp_path, capsys):
    file = written(tmp_path / "tmd.jsonl")
    [conversation] = load_tmd(file).conversations
    assert conversation.turns[1].text == "Ada: Look! [shares: a cat]"
    assert conversation.turns[1].time == datetime(2022, 1, 22, 8, tzinfo=timezone.utc)
    out = tmp_path / "times.json"
    assert times.main(["--tmd", str(file), "--encoder", "hash", "--out", str(out)]) == 0
    row = json.loads(out.read_text("utf-8"))["tmd"]["content_time"]
    assert row == {"questions": 1, "turns": 1.0, "sessions": 1.0}
    assert "content_time" in capsys.readouterr().out


def test_a_turn_without_a_time_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="not a date and time"):
        load_tmd(written(tmp_path / "tmd.jsonl", time=None))
