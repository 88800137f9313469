"""The reference's training losses, from the lines that a user would write."""

from __future__ import annotations

import json

import pytest
import torch

from evomem.evoembedding.tokens import pair_by_position
from evomem.training.evoembedding.base import start
from evomem.training.evoembedding.objective import losses_of
from evomem.training.evoembedding.samples import make_sample
from evomem.training.evotrain import read_evotrain
from evomem.training.settings import EvoSettings
from evomem.training.sources import Base
from tests.conftest import SHARED

FIXTURES = sorted((SHARED / "fixtures").glob("parity-*")) if SHARED.is_dir() else []
CASES = [
    pytest.param(folder, name, id=f"{folder.name}-{name}")
    for folder in FIXTURES
    for name in json.loads((folder / "golden.json").read_text("utf-8")).get("train", {})
]
if not CASES:
    CASES = [pytest.param(None, "", marks=pytest.mark.skip(reason=f"no fixtures below {SHARED}"))]


@pytest.fixture(scope="module")
def begun():
    loaded = {}

    def load(folder):
        if folder not in loaded:
            base = Base.named(f"{folder / 'checkpoint'}?base={folder / 'base'}")
            loaded[folder] = start(base, EvoSettings(dtype="float32"), "cpu")
        return loaded[folder]

    return load


def sample_of(begun, folder, name, tmp_path):
    golden = json.loads((folder / "golden.json").read_text("utf-8"))["train"][name]
    *asked, answer = golden["messages"]
    assert answer["role"] == "assistant"
    turns = [*pair_by_position(asked[:-1]), asked[-1]["content"].strip()]
    record = {
        "messages": golden["messages"],
        "meta": {"turns": turns, "evidence_turns": golden["evidence_turns"]},
    }
    (tmp_path / "line.jsonl").write_text(json.dumps(record), "utf-8")
    [history] = read_evotrain(tmp_path / "line.jsonl")
    return golden, make_sample(begun.tokens, history, history.questions)


@pytest.mark.parametrize(("folder", "name"), CASES)
def test_the_losses_are_those_of_the_reference(begun, folder, name, tmp_path):
    ours = begun(folder)
    want, sample = sample_of(ours, folder, name, tmp_path)
    with torch.no_grad():
        actual = losses_of(ours.model, [sample], budget=8192)
    assert actual.sft.item() == pytest.approx(want["sft_loss"], abs=1e-3)
    assert actual.contrastive.item() == pytest.approx(want["contrastive"], abs=5e-3)
    assert actual.total.item() == pytest.approx(want["total"], abs=5e-3)


@pytest.mark.parametrize(("folder", "name"), CASES)
def test_the_segments_are_those_of_the_whole_conversation(begun, folder, name, tmp_path):
    ours = begun(folder)
    want, sample = sample_of(ours, folder, name, tmp_path)
    ids = ours.tokens.chat(want["messages"], answer=False)
    *segments, last = ours.tokens.segments(ids)
    [answer] = sample.answers
    assert sample.segments == segments
    assert answer.ids == last
    before = len(ids) - len(last)
    labels = (answer.start + before, answer.end + before)
    assert labels == (want["label_start"], want["label_end"])
