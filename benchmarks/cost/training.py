"""How much faster is training when segments are packed into shared forward passes?

One training step (loss and gradients) over the same histories with the same weights is timed three ways:
one forward pass per segment, segments packed by length within each history, and packed across histories.
The figures are CPU seconds of the process, the best of several repeats. EvoEmbedding is a random model
of the given sizes; the small encoder is the bundled one. The data are generated stories. For comparison,
all-MiniLM-L6-v2, a model of the small encoder's size without memory, learns from the same texts as
sentence-transformers trains it, and once more with frozen tables, as the small encoder is trained.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import nn
from torch.nn.functional import cosine_similarity, cross_entropy

from benchmarks.reporting.output import finish, setting, table
from evomem.evoembedding.config import CheckpointConfig, DecoderConfig
from evomem.evoembedding.fields import Fields
from evomem.evoembedding.model import EvoEmbedding
from evomem.evoembedding.tokens import SpecialIds
from evomem.mini import encoder, reading, weights
from evomem.static import PACKAGE, load_model, packaged_model
from evomem.training.contrastive import Sample as MiniSample
from evomem.training.contrastive import loss_of
from evomem.training.evoembedding.objective import losses_of
from evomem.training.evoembedding.samples import Answer, Sample
from evomem.training.histories import History, Question
from evomem.training.stories import stories
from evomem.training.trainer import freeze_tables

MINILM_BATCH = 16  # texts per batch, as sentence-transformers trains by default


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; return 0, or 2 after an error message."""
    options = _parser().parse_args(argv)
    length = options.turns * options.merge
    histories = [
        _merged(history, options) for history in stories(options.histories, length, seed=0)
    ]
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
        result["rows"] += _minilm(options, histories)
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
    model = _random_model(family, options)
    samples = [_sample(history) for history in histories]

    def unpacked() -> float:
        return _training_step(model, [[sample] for sample in samples], 1)

    def packed_per_history() -> float:
        return _training_step(model, [[sample] for sample in samples], options.pack)

    def packed_across_histories() -> float:
        return _training_step(model, [samples], options.pack)

    name = f"{family}, {options.layers} layers of {options.hidden}"
    steps = {
        "alone": unpacked,
        "packed, a history": packed_per_history,
        "packed, all histories": packed_across_histories,
    }
    return _timed(name, steps, options.repeats)


def _mini(options: argparse.Namespace, histories: Sequence[History]) -> list[dict[str, Any]]:
    model = weights.load(encoder.WEIGHTS)
    freeze_tables(model)
    tokenizer = Tokenizer.from_file(str(encoder.TOKENIZER))
    tokenizer.no_padding()
    tokenizer.enable_truncation(64)

    def tokens(texts: Sequence[str]) -> list[reading.Tokens]:
        return [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]

    samples = [
        MiniSample(
            tokens(history.turns),
            tokens([question.text for question in history.questions]),
            [question.evidence for question in history.questions],
            [question.rivals for question in history.questions],
            history.threads,
            model.config.turns,
            torch.arange(len(history.turns) + 1.0),
        )
        for history in histories
    ]
    tokens_per_pass = reading.PASS

    def training_step(limit: int) -> float:
        reading.PASS = limit
        try:
            total = 0.0
            for sample in samples:
                loss, _ = loss_of(model, sample)
                (loss / len(samples)).backward()  # type: ignore[no-untyped-call]
                total += float(loss.detach()) / len(samples)
            model.zero_grad()
            return total
        finally:
            reading.PASS = tokens_per_pass

    steps = {
        "alone": lambda: training_step(1),
        f"packed, {tokens_per_pass} tokens": lambda: training_step(tokens_per_pass),
    }
    return _timed("mini", steps, options.repeats)


def _minilm(options: argparse.Namespace, histories: Sequence[History]) -> list[dict[str, Any]]:
    folder = packaged_model()
    if folder is None:
        print(f"MiniLM is skipped: the package {PACKAGE} is not installed")
        return []
    model = load_model("SentenceTransformer", folder).train()

    def training_step() -> float:
        total = 0.0
        for history in histories:
            questions = history.questions
            texts = [*history.turns, *(question.text for question in questions)]
            rows = [  # batches as they come: the library does not sort texts by length in training
                model(model.preprocess(texts[start : start + MINILM_BATCH]))["sentence_embedding"]
                for start in range(0, len(texts), MINILM_BATCH)
            ]
            turns, queries = torch.split(torch.cat(rows), [len(history.turns), len(questions)])
            best = torch.tensor([question.evidence[0] for question in questions])
            loss = cross_entropy(20 * cosine_similarity(queries[:, None], turns[None], -1), best)
            (loss / len(histories)).backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach()) / len(histories)
        model.zero_grad()
        return total

    def frozen_step() -> float:
        embeddings = [module for module in model.modules() if isinstance(module, nn.Embedding)]
        for embedding in embeddings:
            embedding.requires_grad_(False)
        try:
            return training_step()
        finally:
            for embedding in embeddings:
                embedding.requires_grad_(True)

    passes = f"padded, {MINILM_BATCH} texts"
    steps = {passes: training_step, f"{passes}, frozen tables": frozen_step}
    return _timed("MiniLM, sentence-transformers", steps, options.repeats)


def _training_step(model: EvoEmbedding, batches: Sequence[Sequence[Sample]], budget: int) -> float:
    """Compute loss and gradients with at most `budget` positions per pass; return the loss."""
    total = 0.0
    for batch in batches:
        loss = losses_of(model, batch, budget).total / len(batches)
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    model.zero_grad()
    return total


def _timed(model: str, steps: dict[str, Callable[[], float]], repeats: int) -> list[dict[str, Any]]:
    """Time each way of packing a training step; speed-ups are relative to the first way."""
    rows: list[dict[str, Any]] = []
    for passes, step in steps.items():
        seconds = []
        for _ in range(repeats):
            start = time.process_time()
            loss = step()
            seconds.append(time.process_time() - start)
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


def _merged(history: History, options: argparse.Namespace) -> History:
    """Join every `merge` consecutive turns to one, and keep the first `questions` questions."""

    def places(turns: Sequence[int]) -> tuple[int, ...]:
        return tuple(sorted({turn // options.merge for turn in turns}))

    merged = History(
        history.id,
        [
            " ".join(history.turns[start : start + options.merge])
            for start in range(0, len(history.turns), options.merge)
        ],
    )
    for question in history.questions[: options.questions]:
        evidence, rivals = places(question.evidence), places(question.rivals)
        merged.questions.append(
            Question(question.text, evidence, question.kind, rivals, question.answer)
        )
    threads = map(places, history.threads)
    merged.threads.extend(thread for thread in threads if len(thread) > 1)
    return merged


def _random_model(family: str, options: argparse.Namespace) -> EvoEmbedding:
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
    """Return a sample with random token ids, 1.5 per word: the cost does not depend on their values."""
    special = SpecialIds()
    generator = torch.Generator().manual_seed(0)

    def ids(text: str, extra: int) -> list[int]:
        count = int(1.5 * len(text.split())) + extra
        return torch.randint(2048, (count,), generator=generator).tolist()

    questions = history.questions
    answers = [ids(q.text + q.answer, 10) for q in questions]
    return Sample(
        [ids(turn, 10) for turn in history.turns],
        [ids(turn, 1) for turn in history.turns],
        [ids(q.text, 1 + len(special.instruction)) for q in questions],
        [q.evidence for q in questions],
        [Answer(answer, len(answer) - 6, len(answer) - 1) for answer in answers],
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks training", description=(__doc__ or "").partition("\n")[0]
    )
    add = parser.add_argument
    add("--families", nargs="*", default=["qwen3", "qwen3_5_text"], help="random models")
    add("--layers", type=int, default=4, help="layers of the random models (default: 4)")
    add("--hidden", type=int, default=128, help="width of the random models (default: 128)")
    add("--capacity", type=int, default=128, help="latents in the queue (default: 128)")
    add("--histories", type=int, default=4, help="histories per step (default: 4)")
    add("--turns", type=int, default=24, help="turns per history (default: 24)")
    add("--questions", type=int, default=8, help="questions per history, at most (default: 8)")
    add("--merge", type=int, default=1, help="turns of a story that are joined to one (default: 1)")
    add("--pack", type=int, default=8192, help="positions per packed pass (default: 8192)")
    add("--repeats", type=int, default=3, help="repeats; the fastest counts (default: 3)")
    add("--out", type=Path, metavar="FILE", help="where to write the figures as JSON")
    return parser
