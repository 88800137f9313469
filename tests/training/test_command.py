"""`evomem train`: from the files of a user to an encoder that a memory opens."""

from __future__ import annotations

import json

import pytest

import evomem
from evomem.cli import main
from evomem.training.evotrain import read_evotrain, write_evotrain
from evomem.training.sources import Base
from tests.training.conftest import told


@pytest.fixture
def run(capsys):
    """Run `evomem train`; return exit code, stdout and stderr."""

    def call(*arguments):
        code = main(["train", *map(str, arguments)])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def data(tmp_path):
    file = tmp_path / "log.jsonl"
    write_evotrain([told(6), told(5, seed=2)], file)
    return file


def test_the_bundled_encoder_learns_from_a_small_log_and_a_memory_opens_it(run, data, tmp_path):
    out = tmp_path / "out"
    code, texts, _ = run("--data", data, "--dev", data, "--out", out, "--steps", 2, "--json")
    assert code == 0
    name = json.loads(texts)["encoder"]
    assert name == f"mini:{out / 'model.safetensors'}"
    with evomem.open(str(tmp_path / "agent.db"), encoder=name) as db:
        memory = db.memory("default")
        memory.add("I was in Rome.")
        memory.add("I bought a lamp.")
        assert memory.search("Which city did I visit?", 1)[0].record.turn.user == "I was in Rome."
    steps = [json.loads(line) for line in (out / "log.jsonl").read_text("utf-8").splitlines()]
    assert steps[0]["dev_recall@10"] > 0
    assert {"loss", "lr", "train_recall@10"} <= steps[1].keys()


def test_an_encoder_that_was_trained_can_be_trained_on(run, data, tmp_path):
    assert run("--data", data, "--out", tmp_path / "a", "--steps", 1)[0] == 0
    base = f"mini:{tmp_path / 'a' / 'model.safetensors'}"
    assert run("--data", data, "--out", tmp_path / "b", "--steps", 1, "--base", base)[0] == 0
    assert (tmp_path / "b" / "model.safetensors").exists()


def test_a_causal_model_becomes_a_checkpoint_that_a_memory_opens(run, data, tmp_path, causal):
    options = "--steps 1 --latents 4 --capacity 26 --lora-rank 4 --device cpu --batch 1"
    base = causal("qwen3_5")
    code, texts, _ = run("--data", data, "--base", base, "--out", tmp_path / "o", *options.split())
    assert code == 0
    name = f"evoembedding:{tmp_path / 'o' / 'model'}"
    assert texts.strip() == f'evomem.open("agent.db", encoder="{name}")'
    with evomem.open(str(tmp_path / "agent.db"), encoder=name, device="cpu") as db:
        db.memory("default").add("I was in Rome.")
        assert len(db.memory("default").search("Where?", 1)) == 1


def test_bad_data_stops_the_command_before_anything_is_loaded_or_written(run, data, tmp_path):
    """The base is damaged, too: the data's fault is said, so the base was not reached."""
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"messages": 3}\n', "utf-8")
    weights = tmp_path / "base.safetensors"
    weights.write_bytes(b"no weights")
    for arguments in (("--data", bad), ("--data", data, "--dev", bad)):
        code, _, text = run(*arguments, "--base", f"mini:{weights}", "--out", tmp_path / "out")
        assert code == 2
        assert "bad.jsonl line 1 messages: expected list, found int" in text
        assert not (tmp_path / "out").exists()
    code, _, text = run("--data", data, "--base", f"mini:{weights}", "--out", tmp_path / "out")
    assert code == 3
    assert "cannot be read as safetensors" in text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ("--out o", "give --data, --corpora or --stories"),
        ("--stories 1", "give --out"),
        ("--data {data} --out o --steps 0", "--steps must be at least 1, got 0"),
        ("--data {data} --out o --drop-memory 2", "--drop-memory must be at least 0 and below"),
        ("--data {data} --out o --batch 3", "--batch cannot be used with --base mini"),
        ("--data {data} --out o --base Qwen/Qwen3-0.6B --tokens 9", "--tokens cannot be used with"),
        (
            "--data {data} --out o --base Qwen/X --dtype half",
            "--dtype must be one of float32, bfloat16",
        ),
        ("--data {data} --out o --base nothing", "--base nothing is neither 'mini'"),
        ("--data {data} --out o --base mini:nothing", "there is no file nothing"),
        ("--data {data} --out o --device cuda", "the small encoder is trained on the CPU"),
    ],
)
def test_wrong_usage_is_reported_before_anything_is_written(run, data, tmp_path, arguments, fault):
    words = arguments.format(data=data).replace(" o", f" {tmp_path / 'out'}").split()
    code, _, texts = run(*words)
    assert code == 2
    assert fault in texts
    assert not (tmp_path / "out").exists()


def test_data_that_is_made_can_be_written_as_lines(run, tmp_path):
    assert run("--stories", 4, "--export", tmp_path / "mix.jsonl.xz")[0] == 0
    code, texts, _ = run("--data", tmp_path, "--export", tmp_path / "again.jsonl")
    assert code == 0
    assert texts.startswith(
        f"{sum(len(h.questions) for h in read_evotrain(tmp_path / 'again.jsonl'))} "
    )


def test_bases_are_distinguished(causal, tmp_path):
    assert Base.named("mini").kind == "mini"
    assert Base.named("minilm").kind == "minilm"
    assert Base.named(str(tmp_path)).kind == "minilm"
    assert Base.named(str(causal("qwen3"))).kind == "evoembedding"
    named = Base.named("MiG-NJU/EvoEmbedding-4B?base=/models/qwen")
    assert (named.kind, named.source, named.base) == (
        "evoembedding", "MiG-NJU/EvoEmbedding-4B", "/models/qwen",
    )  # fmt: skip


def test_a_model_of_another_kind_is_refused(run, data, tmp_path):
    (tmp_path / "llama").mkdir()
    (tmp_path / "llama" / "config.json").write_text('{"model_type": "llama"}', "utf-8")
    code, _, texts = run("--data", data, "--base", tmp_path / "llama", "--out", tmp_path / "out")
    assert code == 2
    assert "holds a model of type 'llama', which cannot be trained here" in texts


def test_a_folder_of_someone_elses_is_not_written_to(run, data, tmp_path):
    (tmp_path / "settings.json").write_text("[1]", "utf-8")
    code, _, texts = run("--data", data, "--out", tmp_path)
    assert code == 2
    assert "settings.json is not a file of a training run" in texts


def test_the_small_encoder_wants_no_launcher(run, data, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, texts = run("--data", data, "--out", tmp_path / "out")
    assert code == 2
    assert "trained by one process" in texts
