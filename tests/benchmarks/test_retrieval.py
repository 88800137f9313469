import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.__main__ import BENCHMARKS
from benchmarks.__main__ import main as benchmarks_main
from benchmarks.datasets import DatasetError, find, load_stream
from benchmarks.quality import ablation, fusion, retrieval
from benchmarks.systems.encoders import Encoders, read_all
from evomem import HashEncoder, Turn


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


SYSTEMS = ("bm25", "hash", "evomem/hybrid/hash")


@pytest.fixture
def ran(data, tmp_path, capsys):
    out = tmp_path / "results"
    argv = ["--stream", str(data), *(f"--system={name}" for name in SYSTEMS)]
    assert retrieval.main([*argv, "--dates", "--out", str(out)]) == 0
    return json.loads((out / "retrieval.json").read_text()), capsys.readouterr().out


def test_a_run_writes_what_it_takes_to_repeat_it(ran):
    result, _ = ran
    assert result["command"].startswith("python -m benchmarks retrieval --stream ")
    assert result["versions"]["evomem-engine"]
    assert result["machine"]
    [entry] = result["datasets"]
    assert entry["dates"] is True
    assert len(entry["sha256"]) == 64
    assert entry["counts"]["left_out"] == {"abstention": 1}


def test_a_run_scores_every_system_overall_and_by_type_with_intervals(ran):
    [entry] = ran[0]["datasets"]
    assert tuple(row["system"] for row in entry["rows"]) == SYSTEMS
    for row in entry["rows"]:
        assert set(row["types"]) == {"pets", "places"}
        assert row["overall"]["macro"]["recall@5"] == [1, 1, 1]
        assert row["ms_per_query"] > 0


def test_systems_that_were_read_before_have_no_reading_time(ran):
    times = [row["ms_per_turn"] for row in ran[0]["datasets"][0]["rows"]]
    assert times[0] > 0
    assert times[1] > 0
    assert times[2] is None


def test_a_run_prints_a_table_that_says_what_it_ran_on(ran):
    _, text = ran
    assert (
        "tiny (reporting) · 1 conversations, 3 turns · 2 questions scored, 1 left out (abst" in text
    )
    assert "evomem-engine" in text
    assert "recall_all@10" in text


@pytest.fixture
def messages(tmp_path):
    """A conversation whose second message repeats the first question's answer later."""
    texts = ["I adopted a cat.", "It rains.", "What about my cat?", "My cat sleeps.", "My cat?"]
    queries = [
        {"question": texts[2], "type": "t", "evidence": [0, 3], "asked_at": 2},
        {"question": texts[4], "type": "t", "evidence": [3], "asked_at": 4},
    ]
    turns = [{"speaker": "user", "text": text} for text in texts]
    path = tmp_path / "messages.jsonl"
    path.write_text(json.dumps({"id": "m", "turns": turns, "queries": queries}))
    return path


@pytest.mark.parametrize("name", SYSTEMS)
def test_messages_are_asked_at_their_own_position(messages, name):
    rankings = retrieval.rank_all(load_stream(messages), [name], Encoders())
    [first, second] = rankings.results[name]["m"]["rankings"]
    assert set(first) <= {0, 1}
    assert set(second) <= {0, 1, 2, 3}
    assert [row["recall@5"] for row in rankings.scores(name)] == [1, 1]


def test_a_run_over_the_first_turns_asks_only_about_them(messages, data, tmp_path):
    rankings = retrieval.rank_all(load_stream(messages), ["bm25"], Encoders(), turns=3)
    assert rankings.summary()["counts"]["turns"] == 3
    assert [question.text for _, question in rankings.questions] == ["What about my cat?"]
    rankings = retrieval.rank_all(load_stream(data), ["bm25"], Encoders(), turns=2)
    assert [question.type for _, question in rankings.questions] == ["pets"]


class Counting(HashEncoder):
    """Counts the turns it reads."""

    read_turns = 0

    def read(self, state, turns):
        self.read_turns += len(turns)
        return super().read(state, turns)


def two_conversations(tmp_path):
    def stream(name, texts):
        turns = [{"speaker": "user", "text": text} for text in texts]
        queries = [{"question": "What of cats?", "type": "t", "evidence": [0]}]
        return json.dumps({"id": name, "turns": turns, "queries": queries})

    path = tmp_path / "two.jsonl"
    shared = ["I adopted a cat.", "It rains.", "The train is late."]
    texts = [[*shared, "I moved to Rome."], [*shared, "I moved to Oslo."]]
    path.write_text("\n".join(map(stream, "ab", texts)))
    return load_stream(path)


@pytest.fixture
def counting(monkeypatch):
    encoder = Counting()
    monkeypatch.setattr("benchmarks.systems.encoders.load_encoder", lambda name, **_: encoder)
    return encoder


def test_a_shared_beginning_is_read_once_for_all_conversations_and_systems(tmp_path, counting):
    dataset = two_conversations(tmp_path)
    retrieval.rank_all(dataset, ["hash", "hash+bm25"], Encoders())
    assert counting.read_turns == 3 + 1 + 1


@settings(max_examples=50)
@given(st.lists(st.text("abc", min_size=1, max_size=6), max_size=6))
def test_reading_only_what_is_new_changes_no_vector(histories):
    shared = Encoders()["hash"]
    for texts in histories:
        turns = [Turn(user=text) for text in texts]
        again, state = read_all(shared, turns)
        alone, expected = read_all(HashEncoder(), turns)
        assert np.array_equal(again, alone)
        assert state.key == expected.key
        assert np.array_equal(state.latents, expected.latents)


def test_a_killed_run_continues_where_it_was(tmp_path, counting):
    dataset = two_conversations(tmp_path)
    full = retrieval.rank_all(dataset, ["hash"], Encoders(), folder=tmp_path / "out")
    [log] = (tmp_path / "out" / "two").iterdir()
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:2]) + lines[2][:20])  # killed while the second was written
    counting.read_turns = 0
    again = retrieval.rank_all(dataset, ["hash"], Encoders(), folder=tmp_path / "out")
    assert counting.read_turns == 4
    assert again.scores("hash") == full.scores("hash")
    assert len(log.read_bytes().splitlines()) == 3


def test_other_weights_or_other_data_are_not_taken_for_those_of_before(tmp_path, counting):
    dataset = two_conversations(tmp_path)
    folder = tmp_path / "out"
    retrieval.rank_all(dataset, ["hash"], Encoders(), folder=folder)
    counting._spec = replace(counting.spec, fingerprint="trained on")
    retrieval.rank_all(dataset, ["hash"], Encoders(), folder=folder)
    retrieval.rank_all(replace(dataset, sha256="other"), ["hash"], Encoders(), folder=folder)
    assert len(list((folder / "two").iterdir())) == 3


def test_conversations_can_be_limited_but_something_must_be_left_to_score(tmp_path, data):
    dataset = two_conversations(tmp_path)
    rankings = retrieval.rank_all(dataset, ["bm25"], Encoders(), limit=1)
    assert rankings.summary()["counts"]["questions"] == 1
    dataset = load_stream(data)
    del dataset.conversations[0].questions[:2]
    with pytest.raises(DatasetError, match=r"no question has evidence.*abstention"):
        retrieval.rank_all(dataset, ["bm25"], Encoders())


def test_an_ablation_is_one_table_with_differences_and_published_figures(data, tmp_path, capsys):
    named = tmp_path / "locomo.jsonl"
    data.rename(named)
    out = tmp_path / "out"
    argv = ["--stream", str(named), "--system", "hash", "--system", "recency", "--k", "2"]
    assert ablation.main([*argv, "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "EvoEmbedding-4B (published)" in shown
    assert "arXiv 2606.21649" in shown
    result = json.loads((out / "ablation.json").read_text())
    [entry] = result["datasets"]
    assert entry["against"] == "hash"
    assert set(entry["differences"]) == {"recency"}
    assert entry["rows"][0]["overall"]["all"]["recall@2"][0] == 1
    with pytest.raises(SystemExit):
        ablation.main([*argv, "--k", "51"])


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
    argv = ["--stream", str(data), "--system", "/no/such"]
    assert retrieval.main(argv) == 2
    assert "error: no encoder '/no/such'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        retrieval.main(["--limit", "0"])


def test_fusion_learns_weights_and_refuses_sets_that_are_for_reporting(data, tmp_path, capsys):
    assert fusion.main(["--stream", str(data), "--encoder", "hash"]) == 0
    shown = capsys.readouterr().out
    assert "evolvable + lexical + time" in shown
    assert "learned" in shown
    data.rename(tmp_path / "locomo.jsonl")
    assert fusion.main(["--stream", str(tmp_path / "locomo.jsonl"), "--encoder", "hash"]) == 2
    assert "locomo is for reporting" in capsys.readouterr().err


def test_help_lists_every_benchmark_and_an_unknown_one_is_refused(capsys):
    assert benchmarks_main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {module.rpartition('.')[2]} " in shown for module in BENCHMARKS)
    assert benchmarks_main(["retrievel"]) == 2


def test_a_benchmark_is_found_by_name(data, capsys):
    argv = ["retrieval", "--stream", str(data), "--system", "bm25"]
    assert benchmarks_main(argv) == 0
    assert "bm25" in capsys.readouterr().out
