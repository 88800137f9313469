import json

import numpy as np
import pytest

from benchmarks.quality import precision
from benchmarks.systems.encoders import read_all
from tests.evoembedding.tiny import build


@pytest.fixture
def data(tmp_path):
    """Two chats of which one has questions."""
    pets = ["I adopted a cat called Miso.", "Lovely!", "I moved to Oslo.", "It snows in Oslo."]
    turns = [{"speaker": "user", "text": text} for text in pets]
    queries = [
        {"question": "Which cat did I adopt?", "type": "pets", "evidence": [0]},
        {"question": "Where did I move to?", "type": "places", "evidence": [2]},
    ]
    chats = [{"id": "mute", "turns": turns, "queries": []}]
    chats.append({"id": "one", "turns": turns, "queries": queries})
    path = tmp_path / "tiny.jsonl"
    path.write_text("\n".join(map(json.dumps, chats)))
    return path


def run(data, encoder, out):
    assert precision.main(["--stream", str(data), "--encoder", encoder, "--out", str(out)]) == 0
    [row] = json.loads(out.read_text())["rows"]
    assert (row["chats"], row["turns"], row["questions"]) == (1, 4, 2)
    return row


def test_the_small_encoder_hardly_changes_in_bfloat16(data, tmp_path, capsys):
    row = run(data, "mini", tmp_path / "out.json")
    for what in ("cosine of turns", "cosine of queries"):
        assert 0.999 < row[what]["worst"] <= row[what]["1st percentile"] <= row[what]["mean"] < 1
    assert row["recall@10 float32"] == row["recall@10 bfloat16"] == [1, 1, 1]  # of four turns
    assert row["top-10 overlap"] == 1
    assert "recall@10 difference 0.0 [0.0, 0.0]" in capsys.readouterr().out


def test_a_checkpoint_is_compared_with_its_options_kept(data, tmp_path):
    tiny = build(tmp_path / "tiny")
    row = run(data, f"evoembedding:{tiny.checkpoint}?base={tiny.base}", tmp_path / "out.json")
    assert 0.9 < row["cosine of turns"]["worst"] < 1


def test_equal_precisions_agree_in_everything(data, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "PRECISIONS", ("float32", "float32"))
    row = run(data, "mini", tmp_path / "out.json")
    assert row["cosine of turns"]["worst"] == pytest.approx(1, abs=1e-6)
    assert row["top-1 agreement"] == row["top-10 overlap"] == 1


def test_rankings_that_differ_are_counted(data, tmp_path, monkeypatch):
    """The second precision's turns are turned round: what was last comes first."""
    seen = []

    def turned(encoder, turns):
        vectors, state = read_all(encoder, turns)
        seen.append(vectors)
        return (vectors if len(seen) % 2 else -vectors), state

    monkeypatch.setattr(precision, "read_all", turned)
    monkeypatch.setattr(precision, "DEPTH", 1)
    row = run(data, "mini", tmp_path / "out.json")
    assert row["cosine of turns"]["mean"] == pytest.approx(-1, abs=1e-3)
    assert row["top-1 agreement"] == row["top-10 overlap"] == 0
    assert np.allclose(row["recall@10 float32"][0], 1)
    assert np.allclose(row["recall@10 difference"][0], -1)


def test_an_encoder_of_one_precision_is_an_error(data, capsys):
    assert precision.main(["--stream", str(data), "--encoder", "hash"]) == 2
    assert "float32, not in 'bfloat16'" in capsys.readouterr().err
