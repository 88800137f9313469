"""Can one small model retrieve and answer? From its latent memory, from text, from nothing.

1. The base: a Qwen3 with random weights, trained to answer questions about turns in its prompt.
2. The model: `evomem train` on the frozen base, for memory, retrieval and answers from latents.
3. Memories read held-out stories, and every question is answered greedily: from the latents alone
   (`answer(llm="encoder")`), by the base from all turns as text, by the base from the turns that the same
   model retrieves, from the latents of another story, and by the base from the question alone.

The stories are generated (`benchmarks.qa.latent_stories`). The held-out stories differ from those of the
training, their words and sentences do not.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import evomem
from benchmarks.qa.latent_stories import short_story
from benchmarks.qa.tiny_model import (
    TAUGHT,
    TRAINED,
    Stories,
    as_turn,
    prompt,
    teach_base,
    train_model,
)
from benchmarks.quality.intervals import Interval, Resampling
from benchmarks.reporting.output import finish, positive, setting, table
from evomem.evoembedding import EvoEmbeddingEncoder
from evomem.state import State
from evomem.training.histories import History, Question
from evomem.training.settings import EvoSettings

HELD_OUT_TURNS = (4, 6)  # lengths of held-out stories
MAX_TURNS = 6  # of a story for training
STORIES = Stories(short_story, MAX_TURNS)
RETRIEVED = 2  # turns
MAX_ANSWER_TOKENS = 4
WAYS = (
    "latents",
    "all turns as text",
    "retrieved text",
    "latents of another story",
    "nothing",
)


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; return 0, or 2 after an error message."""
    options = _parser().parse_args(argv)
    result: dict[str, Any] = {**setting("latents", argv), "base": {}, "model": {}}

    def run() -> None:
        base = options.out / "base"
        if not (base / TAUGHT).is_file():
            teach_base(base, STORIES, options.base_steps, options.seed)
        result["base"] = json.loads((base / TAUGHT).read_text("utf-8"))
        settings = EvoSettings(
            steps=options.steps, seed=options.seed, lr=options.lr, latents=options.latents,
            capacity=MAX_TURNS * options.latents, lora_rank=16, batch=options.batch, questions=6,
            dropout=0.0, check_every=50,
        )  # fmt: skip
        trained = options.out / TRAINED
        if not trained.is_file():
            train_model(
                base,
                options.out / "run",
                settings,
                STORIES.many(options.stories, "memory"),
                trained,
            )
        result["model"] = json.loads(trained.read_text("utf-8"))
        encoder = EvoEmbeddingEncoder(
            str(options.out / "run" / "model"), device="cpu", dtype="float32"
        )
        result["held out"] = {
            str(turns): evaluate(
                encoder, STORIES.many(options.held_out, f"held out {turns}", turns)
            )
            for turns in HELD_OUT_TURNS
        }
        print(report(result))

    return finish(result, options.out / "latents.json", run)


def evaluate(encoder: EvoEmbeddingEncoder, held_out: Sequence[History]) -> dict[str, Any]:
    """Answer every question of held-out stories in each of the ways."""
    correct: dict[str, list[bool]] = {way: [] for way in WAYS}
    recalled: list[bool] = []
    examples: list[dict[str, str]] = []
    asked: list[tuple[str, str]] = []  # story and kind of each question
    with closing(evomem.open(":memory:", encoder=encoder)) as db:
        for story in held_out:
            db.memory(story.id).add_many([as_turn(text) for text in story.turns])
        for story, other in zip(held_out, [*held_out[1:], held_out[0]], strict=True):
            memory = db.memory(story.id)
            for question in story.questions:
                hits = memory.search(question.text, RETRIEVED, mode="evolvable")
                texts = [hit.text for hit in sorted(hits, key=lambda hit: hit.seq)]
                recalled.append({story.turns[place] for place in question.evidence} <= set(texts))
                replies = {
                    "latents": memory.answer(question.text, "encoder").text,
                    "all turns as text": _generate(encoder, prompt(story.turns, question.text)),
                    "retrieved text": _generate(encoder, prompt(texts, question.text)),
                    "latents of another story": db.memory(other.id)
                    .answer(question.text, "encoder")
                    .text,
                    "nothing": _generate(encoder, question.text),
                }
                asked.append((story.id, question.kind))
                for way, reply in replies.items():
                    correct[way].append(_is_correct(reply, question))
                if len(examples) < 20:
                    examples.append(
                        {"question": question.text, "answer": question.answer, **replies}
                    )
    kinds = sorted({kind for _, kind in asked})
    resampling = Resampling([story for story, _ in asked], [kind for _, kind in asked])

    def row(values: Sequence[bool]) -> dict[str, Any]:
        interval = resampling.interval([float(value) for value in values])
        by_kind = {
            kind: [value for value, (_, own) in zip(values, asked, strict=True) if own == kind]
            for kind in kinds
        }
        return {
            "all": [interval.mean, interval.low, interval.high],
            **{kind: sum(group) / len(group) for kind, group in by_kind.items()},
        }

    return {
        "stories": len(held_out),
        "questions": len(asked),
        f"recall@{RETRIEVED}": sum(recalled) / len(recalled),
        "ways": {way: row(values) for way, values in correct.items()},
        "counts": {kind: sum(own == kind for _, own in asked) for kind in kinds},
        "examples": examples,
    }


def report(result: dict[str, Any]) -> str:
    """Return recall, and a table of correct answers by way and kind of question, for each length."""
    return "\n\n".join(
        f"{part['stories']} held-out stories of {turns} turns, {part['questions']} questions; the turn "
        f"that answers is among the first {RETRIEVED} for {100 * part[f'recall@{RETRIEVED}']:.1f} %\n\n"
        + _table(part)
        for turns, part in result["held out"].items()
    )


def _table(part: dict[str, Any]) -> str:
    rows = [
        [
            way,
            str(Interval(*shares["all"])),
            *(f"{100 * shares[kind]:.1f}" for kind in part["counts"]),
        ]
        for way, shares in part["ways"].items()
    ]
    return table(["answered right from, %", "all", *part["counts"]], rows)


def _generate(encoder: EvoEmbeddingEncoder, text: str) -> str:
    return encoder.generate(State.empty(encoder.spec), text, MAX_ANSWER_TOKENS)


def _is_correct(reply: str, question: Question) -> bool:
    return reply.strip().strip(".").lower() == question.answer.strip().lower()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks latents",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--base-steps", type=positive, default=2500, help="training steps of the base"
    )
    parser.add_argument("--steps", type=positive, default=1500, help="training steps of the memory")
    parser.add_argument("--stories", type=positive, default=20000, help="stories for training")
    parser.add_argument("--held-out", type=positive, default=100, help="stories for the evaluation")
    parser.add_argument("--lr", type=float, default=3e-3, help="peak learning rate of the memory")
    parser.add_argument("--batch", type=positive, default=8, help="stories in a step of the memory")
    parser.add_argument("--latents", type=positive, default=4, help="latents of a turn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for base, model and latents.json"
    )
    return parser
