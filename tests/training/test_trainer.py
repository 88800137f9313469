import json

import pytest
import torch

from evomem.errors import InputError
from evomem.mini import load, reading
from evomem.training.contrastive import loss_of, recall, recognition, retrieval
from evomem.training.run import Run
from evomem.training.settings import MiniSettings
from evomem.training.stories import stories
from evomem.training.trainer import Trainer

FAST = {"lr": 1e-3, "fresh_lr": 1e-3, "questions": 8, "check_every": 4}


def log(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()]


def trainer(make_model, tokenizer, out, **settings):
    told = stories(2, 20, seed=1)
    chosen = MiniSettings(**{**FAST, **settings})
    run = Run(out, "tiny", chosen, told, told[:1])
    return Trainer(make_model(), tokenizer, told, told[:1], run, chosen)


def test_the_loss_falls_and_the_weights_load(make_model, tokenizer, tmp_path):
    trainer(make_model, tokenizer, tmp_path, steps=24).run()
    losses = [entry["loss"] for entry in log(tmp_path) if "loss" in entry]
    assert sum(losses[-6:]) < 0.9 * sum(losses[:6])
    assert "dev_recall@10" in log(tmp_path)[-1]
    assert load(str(tmp_path / "model.safetensors")).spec.latents == 1


def test_a_run_that_was_interrupted_ends_as_one_that_was_not(make_model, tokenizer, tmp_path):
    complete = trainer(make_model, tokenizer, tmp_path / "whole", steps=8)
    complete.run()
    broken = trainer(make_model, tokenizer, tmp_path / "broken", steps=8)
    for _ in range(4):
        broken.one_step()
    broken.save()
    broken.one_step()  # lost
    resumed = trainer(make_model, tokenizer, tmp_path / "broken", steps=8)
    resumed.run()
    for name, value in complete.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_a_folder_with_another_run_is_refused(make_model, tokenizer, tmp_path):
    trainer(make_model, tokenizer, tmp_path, steps=8)
    with pytest.raises(InputError, match=r"other settings \(steps\); give another --out"):
        trainer(make_model, tokenizer, tmp_path, steps=9)


def test_a_log_that_a_kill_truncated_is_continued(make_model, tokenizer, tmp_path):
    run = trainer(make_model, tokenizer, tmp_path, steps=2)
    run.run()
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 1, "lo')
    trainer(make_model, tokenizer, tmp_path, steps=2).run()
    assert [entry["step"] for entry in log(tmp_path)] == [0, 1, 2, 2]


def test_a_damaged_checkpoint_is_named(make_model, tokenizer, tmp_path):
    run = trainer(make_model, tokenizer, tmp_path, steps=2)
    run.one_step()
    run.save()
    kept = tmp_path / "checkpoint.safetensors"
    kept.write_bytes(kept.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"checkpoint\.safetensors is damaged"):
        trainer(make_model, tokenizer, tmp_path, steps=2)


def test_the_log_says_the_learning_rate_of_every_step(make_model, tokenizer, tmp_path):
    trainer(make_model, tokenizer, tmp_path, steps=4, warmup=0.5, floor=0.1).run()
    rates = [entry["lr"] for entry in log(tmp_path) if "lr" in entry]
    assert rates[0] < rates[1] > rates[2] > rates[3] > 1e-4


def test_memory_that_is_always_dropped_learns_nothing_about_order(make_model, tokenizer, tmp_path):
    run = trainer(make_model, tokenizer, tmp_path, steps=3, drop_memory=1.0)
    before = run.model.ask[0].weight.clone()
    run.one_step()
    assert torch.allclose(before, run.model.ask[0].weight, atol=1e-3)


def test_with_a_learning_rate_of_zero_only_order_is_trained(make_model, tokenizer, tmp_path):
    run = trainer(make_model, tokenizer, tmp_path, steps=3, lr=0.0, drop_memory=0.0)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    run.run()
    changed = {
        name.split(".")[0]
        for name, value in run.model.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed == {"ask", "match", "match_scale", "match_bar"}


def test_texts_that_share_a_pass_give_the_loss_and_gradients_of_one_text_at_a_time(
    make_model, tokenizer, tmp_path, monkeypatch
):
    run = trainer(make_model, tokenizer, tmp_path, steps=1, drop_memory=0.0)
    torch.manual_seed(1)
    for parameter in run.model.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    [sample] = run._samples()

    def step(tokens_per_pass):
        monkeypatch.setattr(reading, "PASS", tokens_per_pass)
        run.model.zero_grad()
        loss, _ = loss_of(run.model, sample)
        loss.backward()
        return loss, {name: value.grad.clone() for name, value in run.model.named_parameters()
                      if value.requires_grad}  # fmt: skip

    loss, gradients = step(1)
    for limit in (40, 512):
        packed_loss, packed_gradients = step(limit)
        torch.testing.assert_close(packed_loss, loss)
        for name, gradient in gradients.items():
            assert gradient.abs().sum() > 0, name
            torch.testing.assert_close(packed_gradients[name], gradient, atol=1e-5, rtol=1e-4)
    assert "words.weight" not in gradients


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
