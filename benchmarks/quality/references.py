"""Can training make an EvoEmbedding model use its memory for retrieval?

1. The base: a small Qwen3 with random weights, trained to answer questions about turns in its prompt.
2. Two models on this base, by the training of `evomem train`: one on stories half of which do not name in their
   follow-ups what these are about ("It cost forty dollars."), and, as a control, one on the same kind of stories
   with the name in each follow-up ("It cost forty dollars, the lamp.").
3. The tests of `python -m benchmarks memory` on held-out stories and pairs, for both models: counterfactual
   openings; recall of follow-ups with the history as it is, off, shuffled, and replaced.

The stories are generated (`benchmarks.quality.reference_stories`). Every question is about a combination of
a name and a kind of fact that is in no training story; the words and sentences are the same.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.datasets.base import Conversation
from benchmarks.datasets.base import Question as Asked
from benchmarks.qa.tiny_model import (
    TAUGHT,
    TRAINED,
    Stories,
    Tell,
    as_turn,
    teach_base,
    train_model,
)
from benchmarks.quality.intervals import Interval
from benchmarks.quality.memory import BETWEEN, counterfactual, measure
from benchmarks.quality.reference_stories import (
    LARGEST,
    either_story,
    held_out_case,
    reference_story,
)
from benchmarks.reporting.output import finish, positive, setting, table
from evomem.evoembedding import EvoEmbeddingEncoder
from evomem.training.histories import History
from evomem.training.settings import EvoSettings

MODELS: dict[str, Tell] = {
    "references": either_story,
    "control": partial(reference_story, naming=True),
}
TESTS = ("memory off", "shuffled", "replaced")
KS = (1, 2)
DEVIATION = 0.125  # of the base's random weights: 1 / sqrt(hidden size)
TURNS = 18  # the most that a story has; all are in the queue


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; return 0, or 2 after an error message."""
    options = _parser().parse_args(argv)
    result: dict[str, Any] = {**setting("references", argv), "base": {}, "models": {}}

    def run() -> None:
        base = options.out / "base"
        if not (base / TAUGHT).is_file():
            teach_base(
                base, Stories(either_story, 2), options.base_steps, options.seed,
                batch=16, deviation=DEVIATION,
            )  # fmt: skip
        result["base"] = json.loads((base / TAUGHT).read_text("utf-8"))
        settings = EvoSettings(
            steps=options.steps, seed=options.seed, lr=options.lr, latents=options.latents,
            capacity=options.latents * TURNS, lora_rank=options.lora_rank, batch=options.batch,
            questions=6, dropout=0.0, check_every=50,
        )  # fmt: skip
        for name in MODELS:
            trained = options.out / name / TRAINED
            if not trained.is_file():
                stories = training_stories(name, options.stories)
                train_model(base, options.out / name, settings, stories, trained)
            encoder = EvoEmbeddingEncoder(
                str(options.out / name / "model"), device="cpu", dtype="float32"
            )
            result["models"][name] = {
                **json.loads(trained.read_text("utf-8")),
                **evaluate(encoder, options.held_out),
            }
        print(report(result))

    return finish(result, options.out / "references.json", run)


def training_stories(model: str, count: int) -> list[History]:
    """Return `count` stories of two openings for the training of one of `MODELS`, without answers."""
    stories = Stories(MODELS[model], 2).many(count, "two", 2)
    for story in stories:
        story.questions = [replace(question, answer="") for question in story.questions]
    return stories


def evaluate(encoder: EvoEmbeddingEncoder, count: int) -> dict[str, Any]:
    """Test an encoder's memory on `count` held-out pairs of openings and as many held-out stories."""
    cases = [held_out_case(Random(f"case {number}")) for number in range(count)]
    tell = partial(reference_story, held_out=True)
    conversations = [
        _conversation(s) for s in Stories(tell, LARGEST).many(count, "held out", LARGEST)
    ]
    return {
        "pairs": count,
        "counterfactual": counterfactual(encoder, cases),
        **{str(k): measure(encoder, conversations, 80, TESTS, k) for k in KS},
    }


def _conversation(story: History) -> Conversation:
    questions = [Asked(q.text, q.kind, q.evidence) for q in story.questions]
    return Conversation(story.id, [as_turn(text) for text in story.turns], questions)


def report(result: dict[str, Any]) -> str:
    """Return one table of both models: the counterfactual pairs, recall, and what each test takes away."""
    rows: list[list[str]] = []
    for between in map(str, BETWEEN):
        for what, memories in (("apart", "two memories"), ("together", "one memory")):
            label = f"counterfactual, {between} between, {memories}"
            rows.append([label, *_cells(result, "counterfactual", between, what)])
    for k in map(str, KS):
        recall = f"recall@{k}"
        rows.append([f"{recall}, as it is", *_cells(result, k, recall, "as it is")])
        for test in TESTS:
            rows.append([f"{recall}, {test}", *_cells(result, k, recall, test)])
        for test in TESTS:
            rows.append([f"{recall}, as it is minus {test}", *_cells(result, k, "gain", test)])
    return table(["%", *MODELS], rows)


def _cells(result: dict[str, Any], *keys: str) -> list[str]:
    cells = []
    for model in MODELS:
        value = result["models"][model]
        for key in keys:
            value = value[key]
        cells.append(str(Interval(*value)))
    return cells


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks references",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--base-steps", type=positive, default=320, help="training steps of the base"
    )
    parser.add_argument("--steps", type=positive, default=300, help="training steps of each model")
    parser.add_argument("--stories", type=positive, default=4000, help="stories for training")
    parser.add_argument(
        "--held-out", type=positive, default=200, help="stories, and pairs, for the evaluation"
    )
    parser.add_argument("--lr", type=float, default=3e-3, help="peak learning rate of the models")
    parser.add_argument("--batch", type=positive, default=8, help="stories in a step of a model")
    parser.add_argument("--latents", type=positive, default=2, help="latents of a turn")
    parser.add_argument("--lora-rank", type=positive, default=16, help="rank of the adapters")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for base, models and references.json"
    )
    return parser
