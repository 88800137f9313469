"""The objective: against transformers' own decoders, alone against packed, and its slope."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from evomem.training.evoembedding.base import start
from evomem.training.evoembedding.objective import losses_of
from evomem.training.evoembedding.samples import make_answer, make_sample
from evomem.training.evoembedding.trainer import drop_inputs
from evomem.training.settings import EvoSettings
from evomem.training.sources import Base
from tests.evoembedding.naive import Naive
from tests.training.conftest import told

STEP = 1e-4  # the loss bends strongly, so a longer one measures something else
HISTORIES = [told(20, questions=3), told(3, seed=4), told(9, seed=2), told(1, questions=1)]


@pytest.fixture(scope="module")
def begun(tiny):
    base = Base.named(f"{tiny.checkpoint}?base={tiny.base}")
    return start(base, EvoSettings(dtype="float32"), "cpu")


@pytest.fixture(scope="module")
def samples(begun):
    return [make_sample(begun.tokens, item, item.questions) for item in HISTORIES]


def gradients(begun, losses):
    """The slopes of what is trained; afterwards there are none."""
    begun.model.zero_grad()
    losses.total.backward()
    result = {name: parameter.grad.clone() for name, parameter in begun.trained.items()}
    begun.model.zero_grad()
    return result


def assert_same(one, other, share=1e-3):
    for name, slope in one.items():
        scale = max(slope.abs().max().item(), 1e-3)
        assert (slope - other[name]).abs().max().item() < share * scale, name


def naive_losses(naive, tokens, history):
    """Section 9 as one would write it down: every text a forward pass of its own."""
    messages = []
    for turn in history.turns:
        user, _, reply = turn.removeprefix("User: ").partition("\nAssistant: ")
        messages += [{"role": "user", "content": user}, {"role": "assistant", "content": reply}]
    contrastive, sft = [], []
    for question in history.questions:
        vectors = naive.retrieve([*messages, {"role": "user", "content": question.text}])
        scores = (vectors[:-1] @ vectors[-1]) / 0.1
        remaining = [scores[i] for i in range(len(scores)) if i not in question.evidence]
        item = [
            F.cross_entropy(torch.stack([scores[p], *remaining])[None], torch.tensor([0]))
            for p in question.evidence
        ]
        contrastive.append(torch.stack(item).mean() * math.log(len(remaining) + 1))
        if question.answer:
            answer = make_answer(tokens, question.text, question.answer)
            asked = [*messages, {"role": "user", "content": question.text}]
            latents = naive.evolve(naive.segments(asked)[:-1])[-naive.capacity :]
            queue = naive.linear("mem_to_latent.0", latents)
            embeds = naive.table(answer.ids)
            embeds = torch.cat([embeds[:3], queue, embeds[3:]])
            with torch.no_grad():
                logits = naive.models[""](inputs_embeds=embeds[None], use_cache=False).logits[0]
            first, last = answer.start + len(queue), answer.end + len(queue)
            expected = torch.tensor(answer.ids[answer.start : answer.end])
            sft.append(F.cross_entropy(logits[first - 1 : last - 1], expected))
    return torch.stack(contrastive).mean().item(), torch.stack(sft).mean().item()


@pytest.mark.parametrize("number", [0, 1, 3])
def test_the_losses_are_those_of_the_plain_decoders(tiny, begun, samples, number):
    contrastive, sft = naive_losses(Naive(tiny), begun.tokens, HISTORIES[number])
    with torch.no_grad():
        actual = losses_of(begun.model, [samples[number]], budget=4096)
    assert actual.contrastive.item() == pytest.approx(contrastive, abs=2e-3)
    assert actual.sft.item() == pytest.approx(sft, abs=1e-3)


def test_packed_histories_give_the_losses_and_gradients_of_each_alone(begun, samples):
    together = losses_of(begun.model, samples, budget=2048)
    slopes = gradients(begun, together)
    alone = [losses_of(begun.model, [sample], budget=1) for sample in samples]
    for kind in ("contrastive", "sft", "total"):
        mean = sum(getattr(interval, kind).item() for interval in alone) / len(alone)
        assert getattr(together, kind).item() == pytest.approx(mean, abs=1e-4)
    expected = {name: torch.zeros_like(slope) for name, slope in slopes.items()}
    for interval in alone:
        for name, slope in gradients(begun, interval).items():
            expected[name] += slope / len(alone)
    assert_same(expected, slopes)


def test_computing_activations_again_changes_no_gradient(begun, samples):
    kept = gradients(begun, losses_of(begun.model, samples[:2], budget=2048))
    begun.model.decoder.recompute = True
    try:
        again = gradients(begun, losses_of(begun.model, samples[:2], budget=2048))
    finally:
        begun.model.decoder.recompute = False
    assert_same(kept, again, share=1e-5)


def test_the_gradient_is_the_slope_of_the_loss_through_the_whole_recurrence(begun, samples):
    """A step along the latents' own weights: they reach the loss through the queue alone."""
    names = [name for name in begun.trained if "memory_generator" in name or "queries" in name]
    slopes = gradients(begun, losses_of(begun.model, samples[:1], budget=4096))
    length = math.sqrt(sum(slopes[name].square().sum().item() for name in names))
    values = []
    for step in (STEP, -STEP):
        with torch.no_grad():
            before = {name: begun.trained[name].clone() for name in names}
            for name in names:
                begun.trained[name] += step * slopes[name] / length
            values.append(losses_of(begun.model, samples[:1], budget=4096).total.item())
            for name in names:
                begun.trained[name].copy_(before[name])
    assert (values[0] - values[1]) / (2 * STEP) == pytest.approx(length, rel=0.02)


def test_only_adapters_and_the_memory_are_trained(begun):
    for name in begun.trained:
        assert ".lora_" in name or name.startswith(("memory_queries", "latent_to", "mem_to"))
    frozen = [n for n, p in begun.model.named_parameters() if not p.requires_grad]
    assert all(name.startswith("decoder.") and ".lora_" not in name for name in frozen)
    assert {name for name in begun.model.state_dict() if ".lora_" in name} <= set(begun.trained)


def test_every_trained_parameter_has_a_gradient(begun, samples):
    for name, slope in gradients(begun, losses_of(begun.model, samples, budget=4096)).items():
        assert slope.abs().max() > 0, name


def test_a_history_whose_every_turn_answers_teaches_no_ranking_and_breaks_nothing(begun):
    history = told(1, questions=1)
    sample = make_sample(begun.tokens, history, history.questions)
    losses = losses_of(begun.model, [sample], budget=4096)
    assert losses.contrastive.item() == 0
    assert all(slope.isfinite().all() for slope in gradients(begun, losses).values())


def test_a_question_without_an_answer_is_only_ranked(begun):
    history = told(4, questions=1)
    asked = history.questions[0]
    history.questions.clear()
    history.ask(asked.text, asked.evidence, "")
    sample = make_sample(begun.tokens, history, history.questions)
    assert sample.answers == []
    losses = losses_of(begun.model, [sample], budget=4096)
    assert losses.sft.item() == 0
    assert losses.contrastive.item() > 0


def test_adapters_drop_inputs_only_while_they_train(tiny):
    begun = start(
        Base.named(f"{tiny.checkpoint}?base={tiny.base}"), EvoSettings(dtype="float32"), "cpu"
    )
    drop_inputs(begun.model, 0.5)
    sample = make_sample(begun.tokens, HISTORIES[1], HISTORIES[1].questions)
    with torch.no_grad():
        quiet = [losses_of(begun.model.eval(), [sample], 4096).total.item() for _ in range(2)]
        loud = [losses_of(begun.model.train(), [sample], 4096).total.item() for _ in range(2)]
    assert quiet[0] == quiet[1]
    assert loud[0] != loud[1]
