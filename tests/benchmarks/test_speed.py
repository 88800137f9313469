import json
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

import evomem
from benchmarks.cost import shapes, soak, speed, speed_published, speed_small, streaming
from benchmarks.cost.speed_lines import Clock
from benchmarks.reporting import report
from evomem.evoembedding.config import FULL
from evomem.memory import Memory


def test_every_part_of_the_speed_benchmark_gives_rows_that_a_report_shows(tmp_path, monkeypatch):
    whole, two = shapes.decoder_of, (FULL, FULL)
    monkeypatch.setattr(
        shapes, "decoder_of", lambda *shape: replace(whole(*shape), layer_types=two)
    )
    out = tmp_path / "speed.json"
    arguments = "--no-mini --model tiny --streams 1 2 --histories 1 --rebuild 3 --seconds 0".split()
    assert speed.main([*arguments, "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    assert {row["part"] for row in result["rows"]} == {*speed.PARTS} - {"threads"}
    for row in (row for row in result["rows"] if row["part"] == "stream"):
        if row["what"] != "rebuild":  # nothing is read that need not be
            assert row["over the floor"] == pytest.approx(1, abs=0.01)
    assert report.main([str(tmp_path), "--out", str(tmp_path)]) == 0
    assert "append + query" in (tmp_path / "report.md").read_text()


def test_threads_that_add_and_search_are_measured():
    clock = Clock(time.monotonic() + 60, 0)
    one, three = speed_small._threads("hash", evomem.load_encoder("hash"), [1, 3], clock)
    assert (one["threads"], three["threads"]) == (1, 3)
    assert three["cpu ms a pair"] > 0
    assert not list(speed_small._threads("hash", evomem.load_encoder("hash"), [1], Clock(0, 0)))


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")  # PyTorch's own
def test_compiled_layers_are_measured_for_one_stream_only(capsys):
    with pytest.raises(SystemExit):
        speed.main(["--no-mini", "--model", "tiny", "--compile"])
    assert "add --part stream" in capsys.readouterr().err
    options = speed._options("--model tiny --compile --part stream".split())
    work = speed_published.work_of("tiny", options, torch.device("cpu"), torch.float32, 1.0)
    assert work.name == "tiny, compiled"
    assert all(layer._compiled_call_impl for layer in work.reader.model.decoder.layers)


def test_the_rebuilding_baseline_takes_the_model_s_own_precision():
    reader = shapes.random_reader("tiny", torch.device("cpu"), torch.bfloat16)
    vectors, _ = streaming.rebuild_everything(reader.model, 2)
    assert vectors.shape == (3, reader.spec.dim)
    assert vectors.dtype == np.float32


def test_re_ranking_reads_every_hit_again():
    reader = streaming.make_reader(64, 1)
    cost = streaming.rerank(reader, hits=3, queries=2)
    hit = streaming.TURN_TOKENS + streaming.TEXT_TOKENS + 2 * reader.spec.latents
    assert cost["tokens"] == 3 * hit + streaming.QUERY_TOKENS


@pytest.fixture
def short_rounds(monkeypatch):
    """Rounds in which each thread adds six turns, enough for every mode, a purge and a fork."""
    monkeypatch.setattr(soak, "TURNS", 6)


@pytest.mark.usefixtures("short_rounds")
def test_a_short_soak_loses_and_reorders_nothing(tmp_path):
    encoder = soak.tiny(tmp_path / "tiny.safetensors")
    count, used = soak.soak(tmp_path / "a.db", encoder, seconds=0, threads=8)
    assert count.turns == count.queries == count.memories * soak.SHARE * soak.TURNS > 0
    assert len(used) == soak.SAMPLES + 1


@pytest.mark.usefixtures("short_rounds")
def test_a_soak_continues_with_another_encoder(tmp_path):
    encoders = [soak.tiny(tmp_path / f"{seed}.safetensors", seed) for seed in (0, 1)]
    count, _ = soak.soak(tmp_path / "a.db", encoders[0], 0.2, 4, later=encoders[1])
    assert count.memories >= 1
    with evomem.open(str(tmp_path / "a.db"), encoders[1]) as db:
        assert db.memories() == []


@pytest.mark.usefixtures("short_rounds")
def test_a_soak_starts_over_what_an_interrupted_one_left(tmp_path):
    encoder = soak.tiny(tmp_path / "tiny.safetensors")
    with evomem.open(str(tmp_path / "a.db"), encoder) as db:
        db.memory("soak", "m0").add("a turn of a round that never ended")
        db.memory("soak", "m0").fork("soak", "m0", "fork 0")
    count, _ = soak.soak(tmp_path / "a.db", encoder, seconds=0, threads=4)
    assert count.memories == 1


def test_a_soak_notices_a_lost_turn(tmp_path, monkeypatch):
    add = Memory.add

    def lossy(self, text, **rest):
        return None if text == "thread 1 says thing 7" else add(self, text, **rest)

    monkeypatch.setattr(Memory, "add", lossy)
    encoder = soak.tiny(tmp_path / "tiny.safetensors")
    with pytest.raises((AssertionError, threading.BrokenBarrierError)):
        soak.soak(tmp_path / "a.db", encoder, seconds=0, threads=4)
