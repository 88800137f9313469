"""`python -m benchmarks scale`, on a small scale."""

import json
import sys

import numpy as np
import pytest

from benchmarks.cost import scale
from benchmarks.cost.scale_others import measure
from benchmarks.cost.scale_vectors import Texts, grown, nearest, seeds, unit
from benchmarks.reporting import report
from evomem.errors import InputError


@pytest.fixture
def some():
    return unit(np.random.default_rng(0).standard_normal((400, 24)).astype(np.float32))


def test_a_small_run_finds_everything_and_can_be_reported(some, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scale, "CONCURRENT_SECONDS", 0.2)
    monkeypatch.setattr(scale, "REPEATS", 6)
    np.savez(tmp_path / "seeds.npz", turns=some, questions=some[:3])
    given = [
        "--memory",
        "500x25",
        "--memories",
        "3",
        "--each",
        "4",
        "--part",
        "index",
        "large",
        "small",
    ]
    given += [
        "--index",
        "5000",
        "--index-device",
        "cpu",
        "--seeds",
        str(tmp_path / "seeds.npz"),
        "--out",
        str(tmp_path / "scale.json"),
    ]
    assert scale.main(given) == 0
    assert "search p95, ms" in capsys.readouterr().out
    result = json.loads((tmp_path / "scale.json").read_text())
    assert [row["recall@10"] for row in result["index"] + result["large"]] == [1.0, 1.0]
    assert result["index"][0]["device recall@10"] == 1.0
    assert result["index"][0]["on the device, MB"] == pytest.approx(5000 * 1.25 * 24 * 4 / 1e6)
    assert result["index_device"] == "cpu"
    assert result["small"][0]["memories"] == 3
    assert report.main([str(tmp_path), "--out", str(tmp_path)]) == 0
    assert "| cold hybrid p95, ms |" in (tmp_path / "report.md").read_text()


def test_grown_vectors_are_of_length_one_and_begin_with_the_seeds(some):
    vectors = grown(some, 1000)
    assert vectors.shape == (1000, 24)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.array_equal(vectors[:400], some)
    assert np.array_equal(vectors, grown(some, 1000))


def test_the_nearest_are_found_across_blocks():
    rows = np.random.default_rng(1).standard_normal((70_000, 4)).astype(np.float32)
    best = np.argsort(-(rows @ rows[5]))[:10]
    assert nearest(rows, rows[5:6], 10) == [set(best.tolist())]


def test_other_systems_are_measured_or_skipped_with_a_reason(some, tmp_path, monkeypatch):
    right = nearest(some, some[:5], 10)
    assert measure("FAISS flat", some, some[:5], right, tmp_path)["recall@10"] == 1.0
    monkeypatch.setitem(sys.modules, "sqlite_vec", None)
    assert "sqlite_vec" in measure("sqlite-vec", some, some[:5], right, tmp_path)["skipped"]


def test_without_seeds_and_corpora_there_is_nothing_to_measure(tmp_path):
    with pytest.raises(InputError, match="pass --corpora"):
        seeds(tmp_path / "no.npz", tmp_path)


def test_texts_are_as_long_as_asked_for():
    texts = Texts()
    assert len(texts.text(500).split()) == pytest.approx(375, rel=0.2)
    assert len(texts.question().split()) == 4
