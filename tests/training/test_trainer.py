import json

import pytest
import torch

from evomem.errors import InputError
from evomem.mini import load
from evomem.training.contrastive import loss_of, recall, retrieval, score
from evomem.training.histories import History
from evomem.training.run import Run
from evomem.training.settings import MiniSettings
from evomem.training.stories import stories
from evomem.training.trainer import Trainer, sample_of

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
    assert load(str(tmp_path / "model.safetensors")).spec.latents == 4


def test_a_run_that_was_interrupted_ends_as_one_that_was_not(make_model, tokenizer, tmp_path):
    whole = trainer(make_model, tokenizer, tmp_path / "whole", steps=8)
    whole.run()
    broken = trainer(make_model, tokenizer, tmp_path / "broken", steps=8)
    for _ in range(4):
        broken.one_step()
    broken.save()
    broken.one_step()  # lost
    resumed = trainer(make_model, tokenizer, tmp_path / "broken", steps=8)
    resumed.run()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_a_folder_with_another_run_is_refused(make_model, tokenizer, tmp_path):
    trainer(make_model, tokenizer, tmp_path, steps=8)
    with pytest.raises(InputError, match=r"other settings \(steps\); give another --out"):
        trainer(make_model, tokenizer, tmp_path, steps=9)


def test_a_log_that_a_kill_cut_short_is_gone_on_with(make_model, tokenizer, tmp_path):
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


def test_memory_that_is_always_dropped_learns_nothing_about_the_queue(
    make_model, tokenizer, tmp_path
):
    run = trainer(make_model, tokenizer, tmp_path, steps=3, drop_memory=1.0)
    before = run.model.age.clone()
    run.one_step()
    assert torch.equal(before, run.model.age)


def test_the_retrieval_loss_is_small_only_if_all_evidence_is_nearest():
    scores = torch.tensor([[0.9, 0.1, 0.8]])
    assert retrieval(scores, [(0, 2)]) < 1e-4
    assert retrieval(scores, [(0, 1)]) > 5


def test_recall_counts_shares_of_the_evidence():
    scores = torch.tensor([[0.9, 0.1, 0.8], [0.1, 0.2, 0.3]])
    assert recall(scores, [(0, 1), (2,)], 2) == 0.75


def sample(trainer, history, queue=8):
    now = torch.arange(len(history.turns) + 1.0)
    return sample_of(trainer._tokens, history, history.questions, queue, now)


def test_turns_that_are_said_later_are_no_candidates(make_model, tokenizer, tmp_path):
    made = trainer(make_model, tokenizer, tmp_path, steps=1)
    history = History("x", [f"Ada: note {n}" for n in range(6)])
    history.ask("which note?", [1], "reply_to", asked_at=3)
    history.ask("which note?", [1], "document")
    scores = score(made.model, sample(made, history))
    assert torch.isfinite(scores.both[0, :3]).all()
    assert (scores.both[0, 3:] == -torch.inf).all()
    assert torch.isfinite(scores.both[1]).all()


def test_a_question_all_of_whose_candidates_are_evidence_has_a_finite_loss(
    make_model, tokenizer, tmp_path
):
    made = trainer(make_model, tokenizer, tmp_path, steps=1)
    history = History("x", ["Ada: one", "Ada: two"])
    history.ask("which?", [0], "reply_to", asked_at=1)
    loss, _ = loss_of(made.model, sample(made, history))
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in made.model.parameters() if p.grad is not None)


def test_products_in_bfloat16_learn_the_same(make_model, tokenizer, tmp_path):
    exact = trainer(make_model, tokenizer, tmp_path / "exact", steps=4)
    half = trainer(make_model, tokenizer, tmp_path / "half", steps=4, dtype="bfloat16")
    for _ in range(4):
        one, other = exact.one_step()["loss"], half.one_step()["loss"]
        assert one == pytest.approx(other, rel=0.03)
    assert half.model.age.dtype == torch.float32
