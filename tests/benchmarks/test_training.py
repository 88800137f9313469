"""`python -m benchmarks training`: sentence-transformers on the same texts."""

import argparse
import math

import numpy as np
import pytest

from benchmarks.cost import training
from evomem.training.histories import History
from evomem.training.stories import stories


def test_sentence_transformers_learns_from_the_same_histories(tmp_path, monkeypatch):
    library = pytest.importorskip("sentence_transformers")
    modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    from tokenizers import Tokenizer, models, pre_tokenizers

    histories = stories(2, 6, seed=0)
    words = sorted(
        {word for history in histories for turn in history.turns for word in turn.split()}
    )
    tokenizer = Tokenizer(models.WordLevel({"?": 0, **{w: n for n, w in enumerate(words, 1)}}, "?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    table = np.random.default_rng(0).normal(size=(len(words) + 1, 8)).astype(np.float32)
    module = modules.StaticEmbedding(tokenizer, embedding_weights=table)
    model = library.SentenceTransformer(modules=[module], device="cpu")
    monkeypatch.setattr(training, "packaged_model", lambda: tmp_path)
    monkeypatch.setattr(training, "load_model", lambda kind, folder: model)
    steps = []
    monkeypatch.setattr(model, "zero_grad", lambda: steps.append(module.embedding.weight.grad))
    rows = training._minilm(argparse.Namespace(repeats=1), histories)
    assert [row["passes"] for row in rows] == [
        "padded, 16 texts",
        "padded, 16 texts, frozen tables",
    ]
    assert all(math.isfinite(row["loss"]) and row["seconds"] > 0 for row in rows)
    assert len(steps) == 2
    assert steps[0].abs().sum() > 0
    monkeypatch.setattr(training, "packaged_model", lambda: None)
    assert training._minilm(argparse.Namespace(repeats=1), histories) == []


def test_merged_turns_keep_the_places_of_the_evidence():
    history = History("h", ["a", "b", "c", "d", "e"], threads=[(0, 1), (1, 4)])
    history.ask("who?", [3, 4], "", thread=[0, 3, 4])
    history.ask("where?", [0], "")
    merged = training._merged(history, argparse.Namespace(merge=2, questions=1))
    assert merged.turns == ["a b", "c d", "e"]
    assert [(q.text, q.evidence, q.rivals) for q in merged.questions] == [("who?", (1, 2), (0,))]
    assert merged.threads == [(0, 2)]
