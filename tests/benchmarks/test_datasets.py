"""Every layout and each of its traps, on samples small enough to read."""

import csv
import json
import lzma
from datetime import datetime, timezone

import pytest

from benchmarks.datasets import (
    DatasetError,
    load_evotrain,
    load_locomo,
    load_longmemeval,
    load_planted,
    load_realtalk,
    load_stream,
    with_dates,
)
from benchmarks.datasets.base import read_records
from benchmarks.datasets.locomo import corrected
from benchmarks.datasets.personamem import load_personamem
from evomem.records import MAX_CHARS


def write(path, value):
    path.write_text(json.dumps(value), "utf-8")
    return path


# LoCoMo ------------------------------------------------------------------------------------


def locomo_sample(**changes):
    def said(day, *texts):
        return [
            {"speaker": "Ann", "dia_id": f"D{day}:{n}", "text": text}
            for n, text in enumerate(texts, 1)
        ]

    conversation = {
        "speaker_a": "Ann",
        "speaker_b": "Bob",
        "session_10": said(10, "Tenth."),
        "session_10_date_time": "12:09 am on 13 September, 2023",
        "session_2": said(2, "Second."),
        "session_2_date_time": "1:56 pm on 8 May, 2023",
        "session_30": said(30, "a", "b", "c", "d", "The fifth."),
        "session_31_date_time": "1:56 pm on 8 June, 2023",
    }
    conversation["session_2"].append(
        {
            "speaker": "Bob",
            "dia_id": "D2:2",
            "text": "Look!",
            "blip_caption": "a photo of a dog",
            "query": "golden retriever",
        }
    )
    return {"sample_id": "s", "conversation": conversation, "qa": [], **changes}


def asked(evidence, category=1):
    return {"question": "Which?", "answer": 2022, "evidence": evidence, "category": category}


@pytest.fixture
def locomo(tmp_path):
    def load(*qa, **changes):
        path = write(tmp_path / "locomo.json", [locomo_sample(qa=list(qa), **changes)])
        return load_locomo(path)

    return load


def test_locomo_sessions_come_in_numeric_order_and_announced_ones_are_skipped(locomo):
    turns = locomo(asked(["D2:1"])).conversations[0].turns
    assert [turn.session for turn in turns] == ["2", "2", "10", *["30"] * 5]


def test_locomo_turns_have_speaker_caption_and_the_sessions_time_as_utc(locomo):
    first, second, third = locomo(asked(["D2:1"])).conversations[0].turns[:3]
    assert first.text == "Ann: Second."
    assert second.text == "Bob: Look! [image: a photo of a dog]"
    assert first.time == datetime(2023, 5, 8, 13, 56, tzinfo=timezone.utc)
    assert third.time == datetime(2023, 9, 13, 0, 9, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("labels", "evidence", "repaired", "dangling"),
    [
        (["D2:1"], (0,), 0, 0),
        (["D2:2; D10:1"], (1, 2), 1, 0),
        (["D10:1 D2:1 D2:1"], (0, 2), 1, 0),
        (["D30:05"], (7,), 1, 0),
        (["D:30:2"], (4,), 1, 0),
        (["D", "D2:1"], (0,), 0, 1),
        (["D10:19", "D10:1"], (2,), 0, 1),
        (["D30:1-D30:3"], (3, 4, 5), 1, 0),
    ],
)
def test_evidence_is_read_in_every_spelling_there_is(locomo, labels, evidence, repaired, dangling):
    conversation = locomo(asked(labels)).conversations[0]
    assert conversation.questions[0].evidence == evidence
    assert (conversation.repaired, conversation.dangling) == (repaired, dangling)


def test_questions_without_evidence_are_left_out_and_counted_by_reason(locomo):
    counts = locomo(asked([]), asked([""]), asked(["D10:19"]), asked(["D2:1"])).counts()
    assert (counts["questions"], counts["scored"]) == (4, 1)
    assert counts["left_out"] == {"no evidence labelled": 2, "its evidence names no turn": 1}


def finding(**changes):
    """A finding as the audit's repository publishes it; by default about the first question."""
    return {
        "question_id": "locomo_0_qa0",
        "question": asked([])["question"],
        "cited_evidence": ["D2:1"],
        "correct_evidence": ["D2:2"],
        **changes,
    }


def audited(locomo, tmp_path, *findings):
    data = locomo(asked(["D2:1"]), asked([]))
    path = write(tmp_path / "errors.json", list(findings))
    return data, corrected(data, path)


def test_an_audit_replaces_the_evidence_that_it_corrects(locomo, tmp_path):
    data, fixed = audited(locomo, tmp_path, finding())
    assert fixed.name == "locomo, corrected"
    assert fixed.conversations[0].questions[0].evidence == (data.conversations[0].places["D2:2"],)
    assert data.conversations[0].questions[0].evidence == (data.conversations[0].places["D2:1"],)


def test_an_audit_leaves_the_scored_questions_as_they_are(locomo, tmp_path):
    unsupported = finding(correct_evidence=[])
    unlabelled = finding(question_id="locomo_0_qa1")
    data, fixed = audited(locomo, tmp_path, unsupported, unlabelled)
    assert fixed.conversations[0].questions == data.conversations[0].questions


def test_findings_may_name_conversation_and_question_as_fields(locomo, tmp_path):
    data = locomo(asked(["D2:1"]))
    item = finding(conversation=data.conversations[0].id, qa_index=0, corrected_evidence=["D2:2"])
    del item["question_id"], item["correct_evidence"]
    path = write(tmp_path / "audit.json", {"items": [item]})
    fixed = corrected(data, path)
    assert fixed.conversations[0].questions[0].evidence == (fixed.conversations[0].places["D2:2"],)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": "Who?"}, "question 0 of .* is '.*', not 'Who"),
        ({"question_id": "locomo_0_qa9"}, "has no question 9"),
        ({"question_id": "another"}, "names no question of LoCoMo"),
    ],
)
def test_an_audit_of_other_questions_is_refused(locomo, tmp_path, change, message):
    with pytest.raises(DatasetError, match=message):
        audited(locomo, tmp_path, finding(**change))


def test_locomo_categories_have_names_and_unknown_ones_keep_their_number(locomo):
    questions = locomo(asked(["D2:1"], 5), asked(["D2:1"], 7)).conversations[0].questions
    assert [question.type for question in questions] == ["adversarial", "category 7"]


def test_dates_can_stand_in_front_of_every_turn(locomo):
    conversation = with_dates(locomo(asked(["D2:1"])).conversations[0])
    assert conversation.turns[0].text == "[8 May 2023] Ann: Second."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conversation": []}, "sample 0 conversation: expected dict, found list"),
        ({"qa": None}, "sample 0 qa: expected list, found NoneType"),
        ({"qa": [asked("D2:1")]}, "qa 0 evidence: expected list, found str 'D2:1'"),
        ({"qa": [asked([3])]}, "qa 0 evidence: expected str, found int 3"),
        ({"qa": [{**asked([]), "question": " "}]}, "qa 0: the question is ' ', expected text"),
        (
            {"conversation": {"session_1": [{"dia_id": "D1:1"}]}},
            "session_1 turn 0 text: expected str, found NoneType",
        ),
        (
            {"conversation": {"session_1": [], "session_1_date_time": "8 May"}},
            "session_1: the time '8 May' is not like",
        ),
        (
            {"conversation": {"session_1": [{"dia_id": "D1:1", "text": "x\0"}]}},
            "session_1 turn 0: user contains a NUL character",
        ),
        (
            {"conversation": {"session_1": [{"dia_id": "D1:1", "text": "x"}] * 2}},
            "session_1 turn 1: an earlier turn has the same id 'D1:1'",
        ),
    ],
)
def test_a_fault_is_named_with_file_and_position(tmp_path, change, message):
    path = write(tmp_path / "bad.json", [locomo_sample(**change)])
    with pytest.raises(DatasetError) as caught:
        load_locomo(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_a_missing_file_and_a_file_that_is_not_json_are_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"nowhere\.json cannot be read: No such file"):
        load_locomo(tmp_path / "nowhere.json")
    (tmp_path / "cut.json").write_text('[{"a": ')
    with pytest.raises(DatasetError, match=r"cut\.json is not JSON: .* line 1 column 8"):
        load_locomo(tmp_path / "cut.json")


def test_a_file_without_a_question_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="contains no question"):
        load_locomo(write(tmp_path / "empty.json", [locomo_sample()]))


# REALTALK ----------------------------------------------------------------------------------


def chat(*evidence):
    def turn(name, text, **more):
        time = "29.12.2023, 22:42:04"
        return {
            "clean_text": text,
            "text": "raw",
            "speaker": "Emi",
            "date_time": time,
            "dia_id": name,
            **more,
        }

    return {
        "name": {"speaker_1": "Emi", "speaker_2": "elise"},
        "session_3": [turn("D2:53", "Late on day two."), turn("D12:11", "x")],
        "session_1": [turn("D1:1", "Hey!"), turn("D2:18", "", blip_caption="a cat")],
        "session_10": [turn("D12:12", "y"), turn("D12:14", "z"), turn("D17:39", "w")],
        "qa": [
            {"question": "Which?", "answer": "a", "evidence": [label], "category": 3}
            for label in evidence
        ],
    }


def test_realtalk_reads_clean_text_and_finds_turns_by_id_alone(tmp_path):
    write(tmp_path / "Chat_2_a_b.json", chat("D2:53"))
    write(tmp_path / "Chat_10_a_b.json", chat("D2:53"))
    data = load_realtalk(tmp_path)
    assert [conversation.id for conversation in data.conversations] == ["Chat_2_a_b", "Chat_10_a_b"]
    turns = data.conversations[0].turns
    assert [turn.user for turn in turns[:3]] == ["Hey!", "[image: a cat]", "Late on day two."]
    assert turns[0].time == datetime(2023, 12, 29, 22, 42, 4, tzinfo=timezone.utc)
    [question] = data.conversations[0].questions
    assert (question.type, question.evidence) == ("open-domain", (2,))


@pytest.mark.parametrize(
    ("label", "evidence"),
    [
        ("D12:11-D12:14;D2:53", (2, 3, 4, 5)),
        ("D1:1.", (0,)),
        ("D 2:18", (1,)),
        ("D17;39", (6,)),
        ("D2:18:D12:11", (1, 3)),
        ("D1:1; D2:18", (0, 1)),
        ("D58", ()),
        ("D:56", ()),
        ("", ()),
    ],
)
def test_realtalk_evidence_is_read_in_every_spelling_there_is(tmp_path, label, evidence):
    data = load_realtalk(write(tmp_path / "Chat_1.json", chat(label)))
    assert data.conversations[0].questions[0].evidence == evidence


def test_a_folder_without_chats_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"has no Chat_\*\.json"):
        load_realtalk(tmp_path)


# streams: BEAM, COVID-QA -------------------------------------------------------------------

STREAM = {
    "id": "beam-1",
    "turns": [
        {"speaker": "user", "text": "Hi.", "session": 1, "date": "March-15-2024", "plan": "1,14"},
        {"speaker": "assistant", "text": "Hello.", "session": 1},
        {"speaker": "user", "text": " ", "session": 2},
        {"speaker": "document", "text": "A paragraph."},
    ],
    "queries": [
        {"question": "What?", "type": "knowledge_update", "evidence": [1, 3], "target": "Hello."},
        {"question": "Who?", "type": "abstention", "evidence": []},
        {"question": "Where?", "evidence": [7, 2]},
        {"question": "When?", "type": "summary", "evidence_span": [0, 1]},
    ],
}


def stream(tmp_path, *values):
    path = tmp_path / "some.jsonl.xz"
    with lzma.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(value) + "\n" for value in values)
    return path


def test_a_stream_indexes_the_text_alone_and_carries_dates_forward(tmp_path):
    data = load_stream(stream(tmp_path, STREAM))
    turns = data.conversations[0].turns
    assert data.name == "some"
    assert [t.text for t in turns] == ["User: Hi.", "Assistant: Hello.", "document: A paragraph."]
    assert {turn.time for turn in turns} == {datetime(2024, 3, 15, tzinfo=timezone.utc)}


def test_a_streams_evidence_still_points_at_its_turns_after_an_empty_one_was_dropped(tmp_path):
    data = load_stream(stream(tmp_path, STREAM))
    questions = data.conversations[0].questions
    assert [question.evidence for question in questions] == [(1, 2), (), (), (0, 1)]
    assert data.counts()["left_out"] == {"abstention": 1, "its evidence names no turn": 1}
    assert data.counts()["evidence_dangling"] == 2


def test_a_turn_that_is_too_long_to_store_is_cut_and_counted(tmp_path):
    turns = [{"speaker": "user", "text": "x" * (MAX_CHARS + 1)}]
    queries = [{"question": "Q?", "evidence": [0]}]
    data = load_stream(stream(tmp_path, {"turns": turns, "queries": queries}))
    assert len(data.conversations[0].turns[0].user) == MAX_CHARS
    assert data.counts()["turns_cut"] == 1


def test_a_faulty_line_of_a_stream_is_named(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps(STREAM) + "\n\n{\n")
    with pytest.raises(DatasetError, match=r"bad\.jsonl line 3 is not JSON"):
        load_stream(path)
    bad = {**STREAM, "queries": [{"question": "Q?", "evidence": ["1"]}]}
    with pytest.raises(DatasetError, match="line 2 query 0 evidence: expected int, found str"):
        load_stream(stream(tmp_path, STREAM, bad))


def test_a_damaged_archive_is_named(tmp_path):
    path = stream(tmp_path, STREAM)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DatasetError, match=r"some\.jsonl\.xz is damaged"):
        load_stream(path)
    with pytest.raises(DatasetError, match=r"some\.jsonl\.xz is (damaged|not JSON)"):
        load_longmemeval(path)


# LongMemEval -------------------------------------------------------------------------------


def longmemeval_record(**changes):
    return {
        "question_id": "e47becba",
        "question_type": "single-session-user",
        "question": "What degree?",
        "answer_session_ids": ["answer_1"],
        "haystack_dates": ["2023/05/21 (Sun) 02:21", "2023/05/20 (Sat) 03:00"],
        "haystack_session_ids": ["filler", "answer_1"],
        "haystack_sessions": [
            [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}],
            [
                {"role": "user", "content": "I have a degree.", "has_answer": True},
                {"role": "assistant", "content": "Great.", "has_answer": False},
            ],
        ],
        **changes,
    }


def longmemeval(tmp_path, **changes):
    return load_longmemeval(write(tmp_path / "lme.json", [longmemeval_record(**changes)]))


def test_longmemeval_sessions_are_put_in_order_of_their_dates(tmp_path):
    conversation = longmemeval(tmp_path).conversations[0]
    assert [turn.text for turn in conversation.turns] == [
        "User: I have a degree.",
        "Assistant: Great.",
        "User: Hi",
        "Assistant: Hello",
    ]
    assert conversation.turns[0].time == datetime(2023, 5, 20, 3, 0, tzinfo=timezone.utc)
    [question] = conversation.questions
    assert (question.type, question.evidence) == ("single-session-user", (0,))


def test_abstention_questions_are_left_out_and_counted(tmp_path):
    data = longmemeval(tmp_path, question_id="e47becba_abs")
    assert data.counts()["left_out"] == {"abstention": 1}


def test_turn_labels_of_another_question_are_not_evidence(tmp_path):
    data = longmemeval(
        tmp_path,
        questions=["What degree?", "What did I say first?"],
        answer_session_ids=[["answer_1"], ["filler"]],
    )
    assert [question.evidence for question in data.conversations[0].questions] == [(0,), ()]
    assert data.counts()["left_out"] == {"its sessions are labelled, its turns are not": 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"haystack_dates": []}, r"2 haystack_sessions, 0 haystack_dates"),
        ({"haystack_dates": ["yesterday"] * 2}, r"session 0: the time 'yesterday' is not like"),
        ({"haystack_sessions": [[], [{"role": "system"}]]}, r"message 0: the role is 'system'"),
        ({"questions": ["a?"], "answer_session_ids": []}, r"1 questions, but 0 answer_session_ids"),
    ],
)
def test_a_faulty_record_is_named(tmp_path, changes, message):
    with pytest.raises(DatasetError, match=rf"lme\.json record 0.*{message}"):
        longmemeval(tmp_path, **changes)


@pytest.mark.parametrize("chunk", [1, 7, 10_000])
def test_records_are_read_one_by_one_whatever_the_size_of_a_read(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr("benchmarks.datasets.base.CHUNK", chunk)
    records = [{"a": "]}[{,"}, {"b": [1, {"c": None}]}, {}]
    path = write(tmp_path / "list.json", records)
    assert [value for _, value in read_records(path)] == records
    path.write_text(json.dumps(records)[:-3])
    with pytest.raises(
        DatasetError, match="not JSON of the expected structure: a value was expected"
    ):
        list(read_records(path))
    path.write_text('{"a": 1}')
    with pytest.raises(DatasetError, match="'\\[' was expected"):
        list(read_records(path))
    path.write_text(json.dumps(records) + "]")
    with pytest.raises(DatasetError, match="the end of the file was expected"):
        list(read_records(path))


def test_longmemeval_questions_keep_their_id_answer_and_date(tmp_path):
    data = longmemeval(tmp_path, answer=4, question_date="2023/05/30 (Tue) 23:40")
    [question] = data.conversations[0].questions
    assert (question.id, question.answer, question.asked) == (
        "e47becba",
        "4",
        "2023/05/30 (Tue) 23:40",
    )


# PersonaMem --------------------------------------------------------------------------------


def personamem(tmp_path, **changes):
    messages = [
        {"role": "system", "content": "The user loves tea."},
        {"role": "user", "content": "User: I drink tea."},
        {"role": "assistant", "content": "Assistant: Noted."},
        {"role": "user", "content": "User: Now coffee."},
    ]
    row = {
        "persona_id": "0",
        "question_id": "q1",
        "question_type": "recall_user_shared_facts",
        "user_question_or_message": "What do I drink?",
        "correct_answer": "(b)",
        "all_options": "['(a) Milk', \"(b) You said 'tea'\"]",
        "shared_context_id": "abc",
        "end_index_in_shared_context": "3",
        **changes,
    }
    (tmp_path / "shared_contexts_32k.jsonl").write_text(json.dumps({"abc": messages}))
    path = tmp_path / "questions_32k.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerow(row)
        writer.writerow({**row, "question_id": "q2", "end_index_in_shared_context": "4"})
    return load_personamem(path)


def test_personamem_questions_see_what_came_before_them_and_not_the_persona(tmp_path):
    first, second = personamem(tmp_path).conversations
    assert [turn.user or turn.assistant for turn in first.turns] == [
        "User: I drink tea.",
        "Assistant: Noted.",
    ]
    assert len(second.turns) == 3
    [question] = first.questions
    assert question.choices == ("(a) Milk", "(b) You said 'tea'")
    assert (question.answer, question.evidence) == ("(b)", ())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shared_context_id": "xyz"}, "row 1: .* has no context 'xyz'"),
        ({"all_options": "tea"}, "all_options: expected a list, found 'tea'"),
        ({"end_index_in_shared_context": "-1"}, "expected a number, found '-1'"),
    ],
)
def test_a_faulty_personamem_row_is_named(tmp_path, changes, message):
    with pytest.raises(DatasetError, match=message):
        personamem(tmp_path, **changes)


# planted histories -------------------------------------------------------------------------


def planted(tmp_path, *questions):
    session = [{"role": "user", "content": f"Filler {n}."} for n in range(3)]
    answer = [{"role": "user", "content": "An answer to something else.", "has_answer": True}]
    history = {
        "haystack_sessions": [session, answer, session],
        "haystack_dates": ["2023/05/21 (Sun) 02:21"] * 3,
        "haystack_session_ids": ["ultrachat_1", "answer_1", "sharegpt_2"],
    }
    with lzma.open(tmp_path / "longmemeval_haystacks.json.xz", "wt") as file:
        json.dump([history], file)
    path = tmp_path / "longmemeval_evidence.jsonl"
    path.write_text("\n".join(map(json.dumps, questions)))
    return load_planted(path)


def evident(name, *texts):
    evidence = [
        {"session": n, "role": "user", "content": text, "date": "2023/05/22 (Mon) 02:21"}
        for n, text in enumerate(texts)
    ]
    return {
        "question_id": name,
        "question_type": "multi-session",
        "question": "What?",
        "answer": 3,
        "evidence": evidence,
    }


def test_evidence_is_planted_in_its_order_and_a_historys_own_answers_are_gone(tmp_path):
    text = ["First.", "Second.", "Third."]
    data = planted(tmp_path, *(evident(f"q{n}", *text) for n in range(30)), evident("q_abs"))
    assert len(data.conversations) == 30
    for conversation in data.conversations:
        texts = [turn.user for turn in conversation.turns]
        [question] = conversation.questions
        assert [texts[place] for place in question.evidence] == text
        assert len(texts) == 3 + 3 + 3
        assert "An answer to something else." not in texts
        assert (question.id, question.answer) == (conversation.id, "3")


def test_places_differ_between_questions_but_not_between_runs_or_with_other_questions(tmp_path):
    several = [evident(f"q{n}", "Here.") for n in range(12)]
    alone = planted(tmp_path, several[4]).conversations[0]
    data = planted(tmp_path, *several)
    assert (
        next(conversation for conversation in data.conversations if conversation.id == "q4")
        == alone
    )
    assert len({conversation.questions[0].evidence for conversation in data.conversations}) > 1


# EvoTrain ----------------------------------------------------------------------------------


def test_an_evotrain_file_is_a_dataset_of_the_same_texts(tmp_path):
    turns = ["User: I moved.\nAssistant: Where to?", "Ann: To Oslo.", "Assistant: Nice.", "Rain."]
    record = {
        "messages": [
            {"role": "user", "content": "Where?"},
            {"role": "assistant", "content": "Oslo"},
        ],
        "meta": {"turns": [*turns, "Where?"], "evidence_turns": [1], "kind": "latest"},
    }
    path = tmp_path / "held_out.jsonl"
    path.write_text(json.dumps(record))
    [conversation] = load_evotrain(path).conversations
    assert [turn.text for turn in conversation.turns] == [*turns[:3], "User: Rain."]
    [question] = conversation.questions
    assert (question.evidence, question.type, question.answer) == ((1,), "latest", "Oslo")


def test_two_conversations_of_one_name_are_refused(tmp_path):
    with pytest.raises(DatasetError, match="two conversations have the id 'beam-1'"):
        load_stream(stream(tmp_path, STREAM, STREAM))
