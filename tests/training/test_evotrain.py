import json
import lzma
from dataclasses import replace

import pytest

from evomem.errors import InputError
from evomem.training.evotrain import MAX_TURN, read_evotrain, write_evotrain
from evomem.training.stories import stories


def record(question="Where do I live?", evidence=(0,), turns=("User: I moved to Oslo.",), **meta):
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": "In Oslo."},
        ],
        "meta": {"turns": [*turns, question], "evidence_turns": list(evidence), **meta},
    }


def written(folder, *records):
    file = folder / "data.jsonl"
    file.write_text("".join(json.dumps(item) + "\n" for item in records), "utf-8")
    return file


def test_lines_that_share_their_turns_become_one_history(tmp_path):
    [history] = read_evotrain(written(tmp_path, record(), record("Which town is home?")))
    assert history.turns == ["User: I moved to Oslo."]
    assert [q.text for q in history.questions] == ["Where do I live?", "Which town is home?"]
    assert history.questions[0].answer == "In Oslo."


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.xz"])
def test_written_histories_are_read_back_unchanged(tmp_path, name):
    told = stories(3, 40, seed=5)
    lines = write_evotrain(told, tmp_path / name)
    again = read_evotrain(tmp_path)
    assert lines == sum(len(history.questions) for history in again)
    assert [h.turns for h in again] == [h.turns for h in told]
    assert [q.evidence for h in again for q in h.questions] == [
        q.evidence for h in told for q in h.questions
    ]
    assert [h.threads for h in again] == [h.threads for h in told]


def without(key, inner=None):
    broken = record()
    target = broken[inner] if inner else broken
    del target[key]
    return broken


FAULTS = {
    "messages: expected list, found NoneType": without("messages"),
    "meta: expected dict, found NoneType": without("meta"),
    "meta.turns: expected list, found NoneType": without("turns", "meta"),
    "meta.evidence_turns: expected list, found NoneType": without("evidence_turns", "meta"),
    "meta.evidence_turns is empty": record(evidence=()),
    "meta.evidence_turns: 1 is out of range; the 1 turns": record(evidence=[1]),
    "meta.evidence_turns: -1 is out of range": record(evidence=[-1]),
    "whole numbers, found '0'": record(evidence=["0"]),
    "whole numbers, found True": record(evidence=[True]),
    "whole numbers, found 0.0": record(evidence=[0.0]),
    r"meta.turns[0] is empty": record(turns=[" \n"]),
    r"meta.turns[0]: expected str, found int": record(turns=[3]),
    "500,000 characters, the limit is 65,536": record(turns=["word " * 100_000]),
    "the question is empty": record(question=" "),
    "no turn before the question": record(turns=[], evidence=[0]),
    "no question; expected one with role 'user'": {**record(), "messages": []},
    "messages[0].content: expected str": {**record(), "messages": [{"role": "user"}]},
    "expected dict, found list": [],
    "meta.turns[0] holds half a character": record(turns=["User: \ud83d"]),
    "500,000 characters": record(question="word " * 100_000),
    "the answer has 500,000 characters": {
        **record(),
        "messages": [
            {"role": "user", "content": "Where do I live?"},
            {"role": "assistant", "content": "word " * 100_000},
        ],
    },
    "meta.threads[0]: 4 is out of range": record(threads=[[0, 4]]),
    "meta.kind: expected str": record(kind=3),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_its_file_and_line(tmp_path, fault):
    file = written(tmp_path, record(), FAULTS[fault])
    with pytest.raises(InputError) as error:
        read_evotrain(file)
    assert f"{file} line 2" in str(error.value)
    assert fault in str(error.value)


def test_a_line_that_is_not_json_is_named(tmp_path):
    file = tmp_path / "data.jsonl"
    file.write_text(json.dumps(record()) + "\n{oops\n", "utf-8")
    with pytest.raises(InputError, match="line 2 is not JSON"):
        read_evotrain(file)


def test_a_damaged_archive_is_named(tmp_path):
    file = tmp_path / "data.jsonl.xz"
    file.write_bytes(lzma.compress(b"{}")[:-9])
    with pytest.raises(InputError, match="is not JSON"):
        read_evotrain(file)


def test_a_missing_file_and_an_empty_folder_are_named(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_evotrain(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match=r"holds no \*\.jsonl"):
        read_evotrain(tmp_path)
    with pytest.raises(InputError, match="holds no records"):
        read_evotrain(written(tmp_path))


def test_the_limit_of_a_turn_is_itself_allowed(tmp_path):
    [history] = read_evotrain(written(tmp_path, record(turns=["x" * MAX_TURN])))
    assert len(history.turns[0]) == MAX_TURN


def test_the_question_is_no_turn_of_its_history_in_either_way_of_writing_it(tmp_path):
    for last in ("Where do I live?", "User: Where do I live?"):
        line = record()
        line["meta"]["turns"][-1] = last
        [history] = read_evotrain(written(tmp_path, line))
        assert history.turns == ["User: I moved to Oslo."]


def test_a_whole_conversation_is_asked_by_its_last_message(tmp_path):
    line = record()
    line["messages"][:0] = [
        {"role": "user", "content": "I moved to Oslo."},
        {"role": "assistant", "content": "Noted."},
    ]
    [history] = read_evotrain(written(tmp_path, line))
    [question] = history.questions
    assert (question.text, question.answer) == ("Where do I live?", "In Oslo.")
    line["messages"].pop()  # now nothing answers it, and what was said before is no answer
    [history] = read_evotrain(written(tmp_path, line))
    assert history.questions[0].answer == ""


@pytest.fixture
def datasets():
    return pytest.importorskip("datasets", reason="data sets need the extra [train]")


def saved(datasets, folder, *records):
    made = datasets.Dataset.from_list(list(records))
    made.save_to_disk(str(folder))
    return f"dataset:{folder}"


def test_a_data_set_reads_like_a_file_of_the_same_lines(datasets, tmp_path):
    lines = record(kind="place", threads=[[0, 1]], turns=["User: a", "User: b"]), record("Which?")
    [first, second] = read_evotrain(saved(datasets, tmp_path / "set", *lines))
    assert [first, second] == [
        replace(item, id=mine.id)
        for item, mine in zip(
            read_evotrain(written(tmp_path, *lines)), (first, second), strict=True
        )
    ]


def test_a_fault_in_a_data_set_is_named_with_its_row(datasets, tmp_path):
    name = saved(datasets, tmp_path / "set", record(), record(evidence=[7]))
    with pytest.raises(InputError, match=r"set row 1 meta\.evidence_turns: 7 is out of range"):
        read_evotrain(name)


def test_a_split_is_chosen_and_a_missing_one_named(datasets, tmp_path):
    parts = datasets.DatasetDict({"dev": datasets.Dataset.from_list([record()])})
    parts.save_to_disk(str(tmp_path / "set"))
    assert len(read_evotrain(f"dataset:{tmp_path / 'set'}?split=dev")) == 1
    with pytest.raises(InputError, match=r"no split 'train', only dev; choose one with"):
        read_evotrain(f"dataset:{tmp_path / 'set'}")


def test_a_folder_that_holds_no_data_set_is_named(datasets, tmp_path):
    with pytest.raises(InputError, match="cannot be loaded"):
        read_evotrain(f"dataset:{tmp_path}")
