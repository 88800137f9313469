import json

import pytest

from benchmarks import fusion, retrieval
from benchmarks.__main__ import BENCHMARKS
from benchmarks.__main__ import main as benchmarks_main
from benchmarks.datasets import DatasetError, find, load_stream


@pytest.fixture
def data(tmp_path):
    stream = {
        "id": "one",
        "turns": [
            {"speaker": "user", "text": "I adopted a cat called Miso.", "date": "March-15-2024"},
            {"speaker": "assistant", "text": "Lovely!"},
            {"speaker": "user", "text": "I moved to Oslo."},
        ],
        "queries": [
            {"question": "Which cat did I adopt?", "type": "pets", "evidence": [0]},
            {"question": "Where did I move to?", "type": "places", "evidence": [2]},
            {"question": "Who won?", "type": "abstention", "evidence": []},
        ],
    }
    path = tmp_path / "tiny.jsonl"
    path.write_text(json.dumps(stream))
    return path


@pytest.fixture
def ran(data, tmp_path, capsys):
    out = tmp_path / "results" / "out.json"
    argv = ["--stream", str(data), "--system", "bm25", "--system", "evomem"]
    assert retrieval.main([*argv, "--encoder", "hash", "--dates", "--out", str(out)]) == 0
    return json.loads(out.read_text()), capsys.readouterr().out


def test_a_run_writes_what_it_takes_to_repeat_it(ran):
    result, _ = ran
    assert result["command"].startswith("python -m benchmarks retrieval --stream ")
    assert result["versions"]["evomem-engine"]
    assert result["machine"]
    assert result["dates"] is True
    [entry] = result["datasets"]
    assert len(entry["sha256"]) == 64
    assert entry["counts"]["left_out"] == {"abstention": 1}


def test_a_run_scores_every_row_overall_and_by_type(ran):
    [entry] = ran[0]["datasets"]
    assert [row["system"] for row in entry["rows"]] == [
        "bm25",
        "evomem evolvable hash",
        "evomem lexical",
        "evomem hybrid hash",
    ]
    for row in entry["rows"]:
        assert set(row["types"]) == {"pets", "places"}
        assert row["overall"]["macro"]["recall@5"] == 1
        assert row["ms_per_turn"] > 0
        assert row["ms_per_query"] > 0


def test_a_run_prints_a_table_that_says_what_it_ran_on(ran):
    _, text = ran
    assert (
        "tiny (reporting) · 1 conversations, 3 turns · 2 questions scored, 1 left out (abst" in text
    )
    assert "evomem-engine" in text
    assert "recall_all@10" in text


def test_conversations_can_be_limited_but_something_must_be_left_to_score(data):
    dataset = load_stream(data)
    assert retrieval.evaluate(dataset, [], limit=1)["counts"]["questions"] == 3
    dataset.conversations[0].questions.pop(0)
    dataset.conversations[0].questions.pop(0)
    with pytest.raises(DatasetError, match=r"no question has evidence.*abstention"):
        retrieval.evaluate(dataset, [])


def test_without_data_the_official_addresses_are_given(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("EVOMEM_DATA", str(tmp_path))
    assert retrieval.main([]) == 2
    error = capsys.readouterr().err
    for name in ("snap-research/locomo", "danny911kr/REALTALK", "BEAM", "longmemeval-cleaned"):
        assert name in error


def test_a_data_folder_is_searched_for_known_files(monkeypatch, tmp_path, data):
    (tmp_path / "benchmarks").mkdir()
    data.rename(tmp_path / "benchmarks" / "beam_128k.jsonl.xz")
    monkeypatch.setenv("EVOMEM_DATA", str(tmp_path))
    with pytest.raises(DatasetError, match=r"beam_128k\.jsonl\.xz"):  # found, but no archive
        find.load_all(retrieval._parser().parse_args([]))


def test_a_faulty_option_ends_with_a_message_and_not_with_a_traceback(data, capsys):
    argv = ["--stream", str(data), "--system", "evomem", "--encoder", "/no/such"]
    assert retrieval.main(argv) == 2
    assert capsys.readouterr().err.startswith("error: no encoder '/no/such'")
    with pytest.raises(SystemExit):
        retrieval.main(["--limit", "0"])


def test_fusion_compares_rules_and_refuses_sets_that_are_for_reporting(data, tmp_path, capsys):
    assert fusion.main(["--stream", str(data), "--encoder", "hash"]) == 0
    assert "shares of the best 0.7" in capsys.readouterr().out
    data.rename(tmp_path / "locomo.jsonl")
    assert fusion.main(["--stream", str(tmp_path / "locomo.jsonl"), "--encoder", "hash"]) == 2
    assert "locomo is for reporting" in capsys.readouterr().err


def test_help_lists_every_benchmark_and_an_unknown_one_is_refused(capsys):
    assert benchmarks_main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in BENCHMARKS)
    assert benchmarks_main(["retrievel"]) == 2


def test_a_benchmark_is_found_by_name(data, capsys):
    argv = ["retrieval", "--stream", str(data), "--system", "bm25"]
    assert benchmarks_main(argv) == 0
    assert "bm25" in capsys.readouterr().out
