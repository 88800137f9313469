"""Training runs of the real architecture on tiny random bases of both families."""

from __future__ import annotations

import json
import os
import socket

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from evomem.cli import main
from evomem.errors import CheckpointError, InputError
from evomem.evoembedding import EvoEmbeddingEncoder
from evomem.records import Turn
from evomem.state import State
from evomem.training.evoembedding.base import start
from evomem.training.evoembedding.objective import evolve_all, score_all
from evomem.training.evoembedding.processes import Processes
from evomem.training.evoembedding.samples import make_sample, sides
from evomem.training.evoembedding.trainer import EvoTrainer, train_evoembedding
from evomem.training.evotrain import write_evotrain
from evomem.training.run import Run
from evomem.training.settings import EvoSettings
from evomem.training.sources import Base
from tests.evoembedding.tiny import QWEN3
from tests.processes import Forked
from tests.training.conftest import told, write_causal

SMALL = {"latents": 4, "capacity": 26, "lora_rank": 4, "dtype": "float32", "lr": 1e-2, "pack": 2048}
HISTORIES = [told(4), told(8, seed=3)]  # the queue overflows behind the sixth turn
DEV = [told(5, seed=1)]
FAMILIES = pytest.mark.parametrize("family", ["qwen3", "qwen3_5"])


def log(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text("utf-8").splitlines()]


def settings_of(**changes):
    return EvoSettings(**{**SMALL, **changes})


def train(base, out, *, histories=HISTORIES, dev=(), **changes):
    named = Base.named(str(base))
    return train_evoembedding(named, histories, dev, out, settings_of(**changes), device="cpu")


def trainer(base, out, *, dev=(), **changes):
    named, settings = Base.named(str(base)), settings_of(**changes)
    run = Run(out, named.name, settings, HISTORIES, dev)
    begun = start(named, settings, "cpu")
    return EvoTrainer(begun, HISTORIES, dev, run, settings, Processes("cpu"))


@pytest.fixture(scope="module")
def finished(causal, emb, tmp_path_factory):
    """A short run on each family."""
    made = {}

    def find(family):
        if family not in made:
            out = tmp_path_factory.mktemp(f"finished-{family}") / "out"
            train(causal(family), out, dev=DEV, steps=12, check_every=6, emb=str(emb))
            made[family] = out
        return made[family]

    return find


@FAMILIES
def test_the_loss_falls_and_the_log_tells_of_it(finished, family):
    entries = log(finished(family))
    steps = [entry for entry in entries if "loss" in entry]
    assert [entry["step"] for entry in steps] == list(range(1, 13))
    losses = [entry["loss"] for entry in steps]
    assert sum(losses[-4:]) < 0.85 * sum(losses[:4])
    assert max(entry["lr"] for entry in steps) == pytest.approx(1e-2)
    scored = [entry["step"] for entry in entries if "dev_recall@10" in entry]
    assert scored == [0, 6, 12, 12]


@FAMILIES
def test_the_checkpoint_opens_and_gives_the_scores_of_the_trained_model(finished, causal, family):
    out = finished(family)
    encoder = EvoEmbeddingEncoder(str(out / "model"), device="cpu", dtype="float32")
    history = told(9, seed=5)
    pairs = map(sides, history.turns)
    turns = [Turn(user=user, assistant=assistant) for user, assistant in pairs]
    state: State[Turn] = State.empty(encoder.spec)
    readings = encoder.read(state, turns)
    for turn, reading in zip(turns, readings, strict=True):
        state = state.after(turn, reading)
    queries = encoder.embed_queries(state, [question.text for question in history.questions])
    opened = queries @ np.stack([reading.embedding for reading in readings]).T

    run = trainer(causal(family), out, dev=DEV, **json_settings(out))
    assert run.step == 12
    sample = make_sample(run.begun.tokens, history, history.questions)
    with torch.no_grad():
        latents = evolve_all(run.model.eval(), [sample.segments], 4096)
        [trained] = score_all(run.model, [sample], latents, 4096)
    np.testing.assert_allclose(opened, trained.numpy(), atol=1e-4)


def json_settings(out):
    """The settings of a run, so that it can be taken up."""
    described = json.loads((out / "settings.json").read_text("utf-8"))
    return {k: v for k, v in described.items() if k not in ("base", "train", "dev")}


@FAMILIES
def test_the_checkpoint_holds_the_base_bit_by_bit_under_the_published_names(
    finished, causal, emb, family
):
    made = load_file(finished(family) / "model" / "model.safetensors")
    text = {
        "model." + name.removeprefix("model.language_model.").removeprefix("model."): value
        for name, value in load_file(causal(family) / "model.safetensors").items()
    }
    for name, value in text.items():
        stored = f"model.base_model.model.{name}"
        module, _, end = stored.rpartition(".")
        result = made.pop(stored) if stored in made else made.pop(f"{module}.base_layer.{end}")
        assert result.dtype == torch.bfloat16
        assert torch.equal(result, value), name
    for name, value in load_file(emb / "model.safetensors").items():
        assert torch.equal(made.pop(f"emb_model.{name}"), value)
    adapters = {name for name in made if ".lora_" in name}
    assert {name.split(".")[-2] for name in adapters} == {"memory_generator", "retriever"}
    assert set(made) - adapters == {
        "memory_queries",
        *(f"{head}.0.{end}" for head in HEADS for end in ("weight", "bias")),
        *(f"mem_to_emb.2.{end}" for end in ("weight", "bias")),
    }
    assert all(made[name].dtype == torch.float32 for name in made)
    assert not torch.equal(made["latent_to_mem.0.weight"], torch.eye(32))


HEADS = ("latent_to_mem", "mem_to_latent", "mem_to_emb")


def test_the_files_are_those_that_the_reference_reads(finished, causal):
    folder = finished("qwen3") / "model"
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert json.loads((folder / "config.json").read_text("utf-8")) == {
        "architectures": ["EvoRAGModel"],
        "model_type": "EvoRAG",
        "base_model_name_or_path": str(causal("qwen3")),
        "num_latents": 4,
        "buffer_capacity": 26,
        "lora_r": 4,
        "lora_alpha": 8,
        "local_files_only": False,
    }
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


@FAMILIES
def test_a_run_that_was_interrupted_ends_with_the_weights_of_one_that_was_not(
    causal, tmp_path, family
):
    complete = trainer(causal(family), tmp_path / "whole", steps=5)
    complete.run()
    broken = trainer(causal(family), tmp_path / "broken", steps=5)
    for _ in range(2):
        broken.one_step()
    broken.save()
    broken.one_step()  # lost
    resumed = trainer(causal(family), tmp_path / "broken", steps=5)
    assert resumed.step == 2
    resumed.run()
    for name, value in complete.masters.items():
        assert torch.equal(value, resumed.masters[name]), name
    assert [e["step"] for e in log(tmp_path / "broken") if "loss" in e][-3:] == [3, 4, 5]


def test_a_trained_checkpoint_can_be_trained_on(finished, tmp_path):
    first = finished("qwen3") / "model"
    again = train(first, tmp_path / "again", steps=1, lr=1e-9, latents=0, capacity=0, lora_rank=0)
    before, after = (load_file(item / "model.safetensors") for item in (first, again))
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert torch.allclose(value.float(), after[name].float(), atol=1e-6), name
    assert (first / "config.json").read_text() == (again / "config.json").read_text()


def test_another_size_than_the_checkpoints_is_refused(finished, tmp_path):
    with pytest.raises(InputError, match="--latents is 8, but .* was trained with 4"):
        train(finished("qwen3") / "model", tmp_path / "out", latents=8)
    assert not (tmp_path / "out").exists()


@FAMILIES
def test_bfloat16_starts_at_the_loss_of_float32_and_keeps_what_is_trained_in_float32(
    causal, tmp_path, family
):
    run, exact = (
        trainer(causal(family), tmp_path / dtype, steps=2, dtype=dtype, dropout=0.0)
        for dtype in ("bfloat16", "float32")
    )
    assert {p.dtype for p in run.model.parameters()} == {torch.bfloat16}
    assert run.one_step()["loss"] == pytest.approx(exact.one_step()["loss"], rel=0.05)
    name = "latent_to_mem.0.weight"
    step = (run.masters[name] - torch.eye(32)).sign()
    agreed = step == (exact.masters[name] - torch.eye(32)).sign()
    assert agreed.float().mean() > 0.9  # the first step of AdamW is the gradient's sign
    assert {value.dtype for value in run.masters.values()} == {torch.float32}


def test_a_new_model_is_what_the_reference_begins_with(causal):
    begun = start(Base.named(str(causal("qwen3"))), settings_of(), "cpu")
    masters = begun.masters
    assert torch.equal(masters["latent_to_mem.0.weight"], torch.eye(32))
    assert torch.equal(masters["mem_to_emb.0.weight"], torch.eye(1024, 32))
    assert masters["memory_queries"].std().item() == pytest.approx(0.02, rel=0.3)
    for name, value in masters.items():
        if ".lora_B." in name or name.endswith(".bias"):
            assert not value.any()
        if ".lora_A." in name:
            assert value.abs().max() <= value.shape[1] ** -0.5


def test_the_same_seed_draws_the_same_model_and_another_seed_another(causal):
    base = Base.named(str(causal("qwen3")))
    first, same, other = (
        start(base, settings_of(seed=seed), "cpu").masters["memory_queries"] for seed in (1, 1, 2)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_a_base_with_an_output_head_of_its_own_keeps_it(tmp_path):
    values = {**QWEN3, "tie_word_embeddings": False}
    base = write_causal(tmp_path / "base", values, head=True)
    made = train(base, tmp_path / "out", steps=1)
    stored = load_file(made / "model.safetensors")["model.base_model.model.lm_head.weight"]
    assert torch.equal(stored, load_file(base / "model.safetensors")["lm_head.weight"])
    EvoEmbeddingEncoder(str(made), device="cpu")


def test_a_base_that_lacks_its_output_head_is_refused(tmp_path):
    base = write_causal(tmp_path / "base", {**QWEN3, "tie_word_embeddings": False})
    with pytest.raises(CheckpointError, match=r"no lm_head\.weight"):
        train(base, tmp_path / "out", steps=1)
    assert not (tmp_path / "out").exists()


def test_a_base_with_damaged_weights_is_refused_before_anything_is_written(tmp_path):
    base = write_causal(tmp_path / "base", QWEN3)
    file = base / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged or cut short"):
        train(base, tmp_path / "out", steps=1)
    assert not (tmp_path / "out").exists()


def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_the_saved_state(causal, tmp_path):
    run = trainer(causal("qwen3"), tmp_path, steps=3)
    run.one_step()
    run.save()
    kept = (tmp_path / "checkpoint.safetensors").read_bytes()
    with torch.no_grad():
        run.model.memory_queries.fill_(float("nan"))
    with pytest.raises(InputError, match=r"loss of step 2 is not finite; lower --lr"):
        run.one_step()
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == kept


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@FAMILIES
def test_a_gpu_learns_what_the_cpu_learns(causal, tmp_path, family):
    entries = []
    for device in ("cpu", "cuda"):
        made = train_evoembedding(
            Base.named(str(causal(family))), HISTORIES, [], tmp_path / device,
            settings_of(steps=2, dropout=0.0, lr=1e-3), device=device,
        )  # fmt: skip
        entries.append([e["loss"] for e in log(made.parent) if "loss" in e])
    assert entries[0] == pytest.approx(entries[1], rel=1e-3)


def train_as(rank, port, arguments):
    """Train as one of two processes that `torchrun` or `accelerate launch` starts."""
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1"}
    os.environ.update({name: str(value) for name, value in {**names, "MASTER_PORT": port}.items()})
    assert main(["train", *arguments]) == 0


@pytest.mark.slow
@pytest.mark.enable_socket  # to find a free port
def test_two_processes_learn_what_one_learns_from_twice_the_batch(causal, tmp_path):
    pytest.importorskip("accelerate", reason="several processes need the extra [train]")
    data = tmp_path / "data.jsonl"
    write_evotrain([told(6, seed=i) for i in range(4)], data)
    common = f"--data {data} --base {causal('qwen3')} --device cpu --steps 2 --dropout 0 --lr 1e-3 "
    common += "--latents 4 --capacity 26 --lora-rank 4 --dtype float32 --questions 1"
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    arguments = [*common.split(), "--batch", "1", "--out", str(tmp_path / "two")]
    pair = [Forked(train_as, rank, port, arguments) for rank in range(2)]
    assert main(["train", *common.split(), "--batch", "2", "--out", str(tmp_path / "one")]) == 0
    for process in pair:
        process.finish()
    losses = [[e["loss"] for e in log(tmp_path / name) if "loss" in e] for name in ("one", "two")]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    first, second = (
        load_file(tmp_path / n / "model" / "model.safetensors") for n in ("one", "two")
    )
    assert first.keys() == second.keys()
    for name, value in first.items():
        # Adam turns the last digit of a gradient near zero into a step: directions are compared.
        alike = torch.cosine_similarity(value.float().flatten(), second[name].float().flatten(), 0)
        assert alike > 0.99 or not value.any(), name
