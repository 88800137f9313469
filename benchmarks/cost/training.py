"""How much faster is training when segments are packed into shared forward passes?

One training step (loss and gradients) over the same histories and the same weights, every segment a
pass of its own, then packed by length within one history, then across histories. CPU seconds of the
process, best of several. EvoEmbedding is a random model of the given sizes; the small encoder is the
bundled one. Data are generated stories.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from benchmarks.reporting.output import finish, setting, table
from evomem.evoembedding.config import CheckpointConfig, DecoderConfig
from evomem.evoembedding.fields import Fields
from evomem.evoembedding.model import EvoEmbedding
from evomem.evoembedding.tokens import SpecialIds
from evomem.mini import encoder, reading, weights
from evomem.training.contrastive import Sample as MiniSample
from evomem.training.contrastive import loss_of
from evomem.training.evoembedding.objective import losses_of
from evomem.training.evoembedding.samples import Answer, Sample
from evomem.training.histories import History
from evomem.training.stories import stories

QUESTIONS = 8  # of a history in one step


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; return 0, or 2 after saying what is wrong."""
    options = _parser().parse_args(argv)
    histories = stories(options.histories, options.turns, seed=0)
    result: dict[str, Any] = {
        **setting("training", argv),
        "histories": len(histories),
        "turns": sum(len(history.turns) for history in histories),
        "rows": [],
    }

    def run() -> None:
        for family in options.families:
            result["rows"] += _evoembedding(family, options, histories)
        result["rows"] += _mini(options, histories)
        rows = [
            [row["model"], row["passes"], f"{row['seconds']:.2f}", f"{row['speedup']:.1f}x",
             f"{row['loss']:.4f}"]
            for row in result["rows"]
        ]  # fmt: skip
        print(table(["model", "passes", "CPU seconds", "speed-up", "loss"], rows))

    return finish(result, options.out, run)


def _evoembedding(
    family: str, options: argparse.Namespace, histories: Sequence[History]
) -> list[dict[str, Any]]:
    model = _random(family, options)
    samples = [_sample(history) for history in histories]

    def alone() -> float:
        return _learn(model, [[sample] for sample in samples], 1)

    def within() -> float:
        return _learn(model, [[sample] for sample in samples], options.pack)

    def across() -> float:
        return _learn(model, [samples], options.pack)

    name = f"{family}, {options.layers} layers of {options.hidden}"
    kinds = {"alone": alone, "packed, a history": within, "packed, all histories": across}
    return _measured(name, kinds, options.repeats)


def _mini(options: argparse.Namespace, histories: Sequence[History]) -> list[dict[str, Any]]:
    model = weights.load(encoder.WEIGHTS)
    tokenizer = Tokenizer.from_file(str(encoder.TOKENIZER))
    tokenizer.no_padding()
    tokenizer.enable_truncation(64)

    def tokens(texts: Sequence[str]) -> list[reading.Tokens]:
        return [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]

    samples = [
        MiniSample(
            tokens(history.turns),
            tokens([question.text for question in history.questions[:QUESTIONS]]),
            [question.evidence for question in history.questions[:QUESTIONS]],
            [question.rivals for question in history.questions[:QUESTIONS]],
            history.threads,
            model.config.turns,
            torch.arange(len(history.turns) + 1.0),
        )
        for history in histories
    ]
    group = reading.GROUP

    def learn(rows: int) -> float:
        reading.GROUP = rows  # what the encoder pads together; 1 is every text alone
        try:
            total = 0.0
            for sample in samples:
                loss, _ = loss_of(model, sample)
                (loss / len(samples)).backward()  # type: ignore[no-untyped-call]
                total += float(loss.detach()) / len(samples)
            model.zero_grad()
            return total
        finally:
            reading.GROUP = group

    kinds = {"alone": lambda: learn(1), f"packed, {group} texts": lambda: learn(group)}
    return _measured("mini", kinds, options.repeats)


def _learn(model: EvoEmbedding, batches: Sequence[Sequence[Sample]], budget: int) -> float:
    total = 0.0
    for batch in batches:
        loss = losses_of(model, batch, budget).total / len(batches)
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    model.zero_grad()
    return total


def _measured(
    model: str, kinds: dict[str, Callable[[], float]], repeats: int
) -> list[dict[str, Any]]:
    """Time each kind of passes; the first is what the others are compared with."""
    rows: list[dict[str, Any]] = []
    for passes, step in kinds.items():
        seconds = []
        for _ in range(repeats):
            begun = time.process_time()
            loss = step()
            seconds.append(time.process_time() - begun)
        best = min(seconds)
        first = rows[0]["seconds"] if rows else best
        rows.append(
            {
                "model": model,
                "passes": passes,
                "seconds": best,
                "speedup": first / best,
                "loss": loss,
            }
        )
    return rows


def _random(family: str, options: argparse.Namespace) -> EvoEmbedding:
    values: dict[str, Any] = {
        "model_type": family,
        "vocab_size": 2048,
        "hidden_size": options.hidden,
        "intermediate_size": 3 * options.hidden,
        "num_hidden_layers": options.layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": options.hidden // 4,
        "rope_theta": 1e6,
        "tie_word_embeddings": True,
        "linear_num_key_heads": 4,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": options.hidden // 4,
        "linear_value_head_dim": options.hidden // 4,
    }
    config = CheckpointConfig("", 16, options.capacity, 16, 32, False)
    torch.manual_seed(0)
    model = EvoEmbedding(config, DecoderConfig.parse(Fields(values, "benchmark")), options.hidden)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith("decoder.") or ".lora_" in name)
    return model


def _sample(history: History) -> Sample:
    """Ids at random, as many as words and a half: what is measured does not depend on which."""
    special = SpecialIds()
    generator = torch.Generator().manual_seed(0)

    def ids(text: str, more: int) -> list[int]:
        count = int(1.5 * len(text.split())) + more
        return torch.randint(2048, (count,), generator=generator).tolist()

    asked = history.questions[:QUESTIONS]
    answers = [ids(q.text + q.answer, 10) for q in asked]
    return Sample(
        [ids(turn, 10) for turn in history.turns],
        [ids(turn, 1) for turn in history.turns],
        [ids(q.text, 1 + len(special.instruction)) for q in asked],
        [q.evidence for q in asked],
        [Answer(answer, len(answer) - 6, len(answer) - 1) for answer in answers],
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks training", description=(__doc__ or "").partition("\n")[0]
    )
    add = parser.add_argument
    add("--families", nargs="*", default=["qwen3", "qwen3_5_text"], help="of the random models")
    add("--layers", type=int, default=4, help="of the random models (default: 4)")
    add("--hidden", type=int, default=128, help="of the random models (default: 128)")
    add("--capacity", type=int, default=128, help="latents in the queue (default: 128)")
    add("--histories", type=int, default=4, help="that share a step (default: 4)")
    add("--turns", type=int, default=24, help="of each history (default: 24)")
    add("--pack", type=int, default=8192, help="positions of a packed pass (default: 8192)")
    add("--repeats", type=int, default=3, help="of which the fastest counts (default: 3)")
    add("--out", type=Path, metavar="FILE", help="write everything here as JSON")
    return parser
