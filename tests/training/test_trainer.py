import json

import pytest
import torch

from evomem.errors import InputError
from evomem.mini import load
from evomem.training.__main__ import main
from evomem.training.contrastive import recall, recognition, retrieval
from evomem.training.stories import stories
from evomem.training.trainer import Settings, Trainer

FAST = {"lr": 1e-3, "fresh_lr": 1e-3, "questions": 8, "check_every": 4}


def log(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()]


def trainer(make_model, tokenizer, out, **settings):
    told = stories(2, 20, seed=1)
    return Trainer(make_model(), tokenizer, told, told[:1], out, Settings(**{**FAST, **settings}))


def test_the_loss_falls_and_the_weights_load(make_model, tokenizer, tmp_path):
    trainer(make_model, tokenizer, tmp_path, steps=24).run()
    losses = [entry["loss"] for entry in log(tmp_path) if "loss" in entry]
    assert sum(losses[-6:]) < 0.9 * sum(losses[:6])
    assert "dev_recall@10" in log(tmp_path)[-1]
    assert load(str(tmp_path / "model.safetensors")).spec.latents == 2


def test_a_run_that_was_interrupted_ends_as_one_that_was_not(make_model, tokenizer, tmp_path):
    whole = trainer(make_model, tokenizer, tmp_path / "whole", steps=8)
    whole.run()
    broken = trainer(make_model, tokenizer, tmp_path / "broken", steps=8)
    for _ in range(4):
        broken._one_step()
    broken._save()
    broken._one_step()  # lost
    resumed = trainer(make_model, tokenizer, tmp_path / "broken", steps=8)
    resumed.run()
    for name, value in whole.model.state_dict().items():
        assert torch.allclose(value, resumed.model.state_dict()[name], atol=1e-5), name


def test_a_folder_with_another_run_is_refused(make_model, tokenizer, tmp_path):
    trainer(make_model, tokenizer, tmp_path, steps=8)
    with pytest.raises(InputError, match="other settings"):
        trainer(make_model, tokenizer, tmp_path, steps=9)


def test_memory_that_is_always_dropped_learns_nothing_about_the_queue(
    make_model, tokenizer, tmp_path
):
    run = trainer(make_model, tokenizer, tmp_path, steps=3, drop_memory=1.0)
    before = run.model.recall[0].key.weight.clone()
    run._one_step()
    assert torch.allclose(before, run.model.recall[0].key.weight, atol=1e-3)


def test_the_retrieval_loss_is_small_only_if_all_evidence_is_nearest():
    scores = torch.tensor([[0.9, 0.1, 0.8]])
    assert retrieval(scores, [(0, 2)]) < 1e-4
    assert retrieval(scores, [(0, 1)]) > 5


def test_recall_counts_shares_of_the_evidence():
    scores = torch.tensor([[0.9, 0.1, 0.8], [0.1, 0.2, 0.3]])
    assert recall(scores, [(0, 1), (2,)], 2) == 0.75


def test_recognition_is_finite_for_a_thread_of_two(make_model):
    model = make_model()
    assert torch.isfinite(recognition(model, torch.randn(5, 32), [(0, 3)]))


def test_bad_data_stops_the_command_before_training(tmp_path, capsys):
    (tmp_path / "data.jsonl").write_text('{"messages": 3}\n', "utf-8")
    assert main(["--data", str(tmp_path / "data.jsonl"), "--out", str(tmp_path / "out")]) == 2
    assert "data.jsonl line 1 messages: expected list, found int" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_no_data_or_no_folder_is_said(tmp_path, capsys):
    assert main(["--out", str(tmp_path)]) == 2
    assert "give --data, --corpora or --stories" in capsys.readouterr().err
    assert main(["--stories", "1"]) == 2
    assert "give --out" in capsys.readouterr().err


def test_the_mixture_can_be_written_as_evotrain_lines(tmp_path, capsys):
    assert main(["--stories", "4", "--export", str(tmp_path / "mix.jsonl.xz")]) == 0
    assert main(["--data", str(tmp_path), "--export", str(tmp_path / "again.jsonl")]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.split()[0] == second.split()[0]
