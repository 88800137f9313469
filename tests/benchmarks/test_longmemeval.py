"""LongMemEval's own files and measures; its repository's scripts, where a checkout is at hand.

LONGMEMEVAL_REPO=<checkout of github.com/xiaowu0162/LongMemEval> runs them.
"""

import importlib.util
import json
import os
from pathlib import Path
from random import Random

import numpy as np
import pytest

from benchmarks.qa import main, official
from tests.benchmarks.endpoint import Script, serving

REPOSITORY = os.environ.get("LONGMEMEVAL_REPO", "")
with_repository = pytest.mark.skipif(not REPOSITORY, reason="LONGMEMEVAL_REPO is not set")


def record(id, kind, sessions, **changes):
    """`sessions`: {id: [(role, text, has_answer)]}."""
    return {
        "question_id": id,
        "question_type": kind,
        "question": "Which instrument does my sister play?",
        "answer": "The cello",
        "question_date": "2023/05/30 (Tue) 23:40",
        "haystack_dates": [f"2023/05/{20 - n} (Sat) 02:21" for n in range(len(sessions))],
        "haystack_session_ids": list(sessions),
        "haystack_sessions": [
            [
                {"role": role, "content": text}
                | ({"has_answer": answer} if "answer" in name else {})
                for role, text, answer in messages
            ]
            for name, messages in sessions.items()
        ],
        "answer_session_ids": [name for name in sessions if "answer" in name],
        **changes,
    }


def talk(*texts):
    return [(("user", "assistant")[n % 2], text, False) for n, text in enumerate(texts)]


FILLER = {
    "ultrachat_1": talk("It rains on my sister.", "Take an umbrella."),
    "sharegpt_x_2": talk("Write a poem.", "Roses are red.", "Another one.", "Violets are blue."),
}
EVIDENT = [
    ("user", "Which instrument should I learn?", False),
    ("assistant", "Any.", False),
    ("user", "My sister plays the cello.", True),
]
RECORDS = [
    record("q1", "single-session-user", {**FILLER, "answer_a_1": EVIDENT}),
    record(
        "q2",
        "multi-session",
        {"answer_a_1": EVIDENT, **FILLER, "answer_a_2": [("user", "She plays daily.", True)]},
    ),
    record(
        "q3",
        "single-session-assistant",
        {**FILLER, "answer_b": [("user", "Sing.", False), ("assistant", "La cello.", True)]},
    ),
    record("q4_abs", "knowledge-update", {**FILLER, "answer_c": talk("My brother sings.", "Oh.")}),
]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "longmemeval_s_cleaned.json"
    path.write_text(json.dumps(RECORDS))
    return path


def test_candidates_are_the_users_turns_and_say_where_the_answer_is():
    assert [item.id for item in official.candidates(RECORDS[0])] == [
        *("ultrachat_1_1", "sharegpt_x_2_1", "sharegpt_x_2_3", "noans_a_1_1", "answer_a_1_3")
    ]


def test_official_measures_equal_values_computed_by_hand():
    ids = ["x_1_1", "answer_1_1", "noans_1_3", "answer_2_1"]
    result = official.scores([1, 0, 3], ids, k=1)
    assert result == {"recall_any@1": 1, "recall_all@1": 0, "ndcg_any@1": 1}
    result = official.scores([0, 1, 3], ids, k=3)
    assert result["recall_all@3"] == 1
    assert result["ndcg_any@3"] == pytest.approx((1 + 1 / np.log2(3)) / 2)  # ranks 1 and 2 count 1
    sessions = official.session_scores([2, 0, 1], ids, k=2)
    assert sessions == {"recall_any@2": 0, "recall_all@2": 0, "ndcg_any@2": 0}


def test_a_run_writes_the_official_files(tmp_path, file, capsys):
    argv = ["--longmemeval", str(file), "--system", "bm25", "--out", str(tmp_path / "out")]
    assert main(argv) == 0
    [system] = json.loads((tmp_path / "out" / "qa.json").read_text())["datasets"][0][
        "systems"
    ].values()
    [log] = (tmp_path / "out" / "longmemeval").glob("retrievallog_turn-*.jsonl")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["question_id"] for line in lines] == ["q1", "q2"]  # the others are not counted
    remaining = log.with_name(log.name + ".uncounted").read_text().splitlines()
    assert [json.loads(line)["question_id"] for line in remaining] == ["q3", "q4_abs"]
    first = lines[0]["retrieval_results"]
    assert first["query"] == RECORDS[0]["question"]
    assert first["ranked_items"][0] == {
        "corpus_id": "answer_a_1_3",
        "text": "My sister plays the cello.",
        "timestamp": "2023/05/18 (Sat) 02:21",
    }
    assert len(first["ranked_items"]) == 5
    assert system["official"]["turn"]["recall_any@1"] == 1
    assert {*first["metrics"]["turn"]} == {
        f"{name}@{k}"
        for name in ("recall_any", "recall_all", "ndcg_any")
        for k in (1, 3, 5, 10, 30, 50)
    }


@pytest.mark.enable_socket
def test_answers_are_written_for_the_official_judge(tmp_path, file):
    with serving(Script(lambda prompt: "The cello")) as url:
        argv = ["--longmemeval", str(file), "--system", "recency", "--out", str(tmp_path / "out")]
        assert main([*argv, "--reader-model", "m", "--reader-url", url]) == 0
    [hypotheses] = (tmp_path / "out" / "longmemeval").glob("hypotheses-*.jsonl")
    lines = sorted(hypotheses.read_text().splitlines())
    assert [json.loads(line) for line in lines] == [
        {"question_id": item["question_id"], "hypothesis": "The cello"} for item in RECORDS
    ]


@with_repository
def test_our_measures_agree_with_the_repositorys(monkeypatch):
    path = Path(REPOSITORY, "src/retrieval/eval_utils.py")
    spec = importlib.util.spec_from_file_location("eval_utils", path)
    assert spec
    assert spec.loader
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    # NumPy 2 has dropped a name that the script uses
    monkeypatch.setattr(np, "asfarray", lambda rows: np.asarray(rows, float), raising=False)
    rng = Random(0)
    for _ in range(300):
        ids = [
            f"{rng.choice(['ultrachat', 'answer', 'noans'])}_{rng.randrange(5)}_{n}"
            for n in range(rng.randint(1, 30))
        ] + ["answer_9_1"]
        ranking = rng.sample(range(len(ids)), len(ids))
        right = list({id for id in ids if "answer" in id})
        for k in official.CUTS:
            expected = theirs.evaluate_retrieval(ranking, right, ids, k)
            assert tuple(official.scores(ranking, ids, k).values()) == pytest.approx(expected)
            expected = theirs.evaluate_retrieval_turn2session(ranking, right, ids, k)
            assert tuple(official.session_scores(ranking, ids, k).values()) == pytest.approx(
                expected
            )


@with_repository
def test_the_repositorys_script_prints_our_retrieval_figures(tmp_path, file, capsys):
    argv = ["--longmemeval", str(file), "--system", "hash", "--out", str(tmp_path / "out")]
    assert main([*argv, "--official-repo", REPOSITORY]) == 0
    [system] = json.loads((tmp_path / "out" / "qa.json").read_text())["datasets"][0][
        "systems"
    ].values()
    printed = capsys.readouterr().out
    for level in ("session", "turn"):
        for name in ("recall_all@5", "ndcg_any@5", "recall_all@10", "ndcg_any@10"):
            value = round(system["official"][level][name], 4)
            assert f"{name} = {value}" in printed


@with_repository
@pytest.mark.enable_socket
def test_the_repositorys_judge_reads_our_answers(tmp_path, file, monkeypatch, capsys):
    pytest.importorskip("backoff")  # a package that the script needs

    def says(prompt):
        return "yes" if "Model Response: The cello" in prompt else "The cello"

    with serving(Script(says)) as url:
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        argv = ["--longmemeval", str(file), "--system", "bm25", "--out", str(tmp_path / "out")]
        argv += ["--reader-model", "m", "--official-repo", REPOSITORY, "--official-judge", "gpt-4o"]
        assert main(argv) == 0
    assert "Accuracy: 1.0" in capsys.readouterr().out
    [judged] = (tmp_path / "out" / "longmemeval").glob("*.eval-results-gpt-4o")
    printed = official.run_script(Path(REPOSITORY), "print_qa_metrics.py", str(judged), str(file))
    assert "Overall Accuracy: 1.0" in printed
    assert "Abstention Accuracy: 1.0 (1)" in printed
