"""A language model that is small enough to train on a CPU, and an EvoEmbedding model on top of it.

The base is a Qwen3 with random weights that learns to answer questions about turns in its prompt, from
generated stories in a closed vocabulary; `evomem train`'s training then adds a memory to the frozen base.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.reporting.output import write_json
from evomem._extras import require
from evomem.evoembedding.checkpoint import load_tokens
from evomem.evoembedding.tokens import INSTRUCTION, Tokens
from evomem.records import Turn
from evomem.training.evoembedding.samples import sides
from evomem.training.evoembedding.trainer import train_evoembedding
from evomem.training.histories import History
from evomem.training.settings import EvoSettings
from evomem.training.sources import Base

Tell = Callable[[int, Random, str], History]
"""(size, rng, name) → a story."""


@dataclass(frozen=True, slots=True)
class Stories:
    """A generator of stories with questions."""

    tell: Tell
    largest: int
    """The largest size of a story for training; the smallest is 1."""

    def many(self, count: int, seed: str, size: int | None = None) -> list[History]:
        """Return `count` stories of `size`, or of 1 to `largest`."""
        stories = []
        for number in range(count):
            rng = Random(f"{seed} {number}")
            length = rng.randint(1, self.largest) if size is None else size
            stories.append(self.tell(length, rng, f"{seed} {number}"))
        return stories


SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|unknown|>"]
WORD = r"\n|\w+(:\d+)?|[^\w\s]"
CHATML = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + message.content "
    "+ '<|im_end|>' + '\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
CONFIG = {
    "model_type": "qwen3",
    "architectures": ["Qwen3ForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
    "eos_token_id": 2,
}
"""The base's configuration, without the size of its vocabulary."""
TAUGHT, TRAINED = "taught.json", "trained.json"  # figures of both trainings
BATCH = 32  # stories in a step of the base
BASE_LR = 3e-3  # peak
DEVIATION = 0.02  # of the base's random weights
CONTEXT_WEIGHT = 0.1  # of the loss of other tokens, relative to that of answers
END_WEIGHT = 0.3  # of the loss of the token that ends an answer
RAMP = 0.5  # share of the base's steps in which stories grow to their largest size
CURVE = 50  # steps between points of a learning curve


def teach_base(
    folder: Path,
    stories: Stories,
    steps: int,
    seed: int,
    *,
    batch: int = BATCH,
    deviation: float = DEVIATION,
) -> None:
    """Train a language model from scratch to answer questions about turns in its prompt.

    Args:
        folder: Where it is written, in the usual layout of a causal language model: configuration,
            weights, tokenizer.
        stories: The stories to learn from; at first, only small ones.
        steps: Training steps.
        seed: Seed of weights and stories.
        batch: Stories in a step.
        deviation: The standard deviation of the random weights.
    """
    start = time.process_time()
    folder.mkdir(parents=True, exist_ok=True)
    words = stories.many(2000, "words", stories.largest)
    vocabulary = _write_tokenizer(folder, [text for story in words for text in _texts(story)])
    config = {**CONFIG, "vocab_size": vocabulary, "initializer_range": deviation}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    tokens = load_tokens(folder, None, vocabulary)
    torch.manual_seed(seed)
    transformers = require("transformers", extra="cpu")
    model = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(**config), dtype=torch.float32
    )
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=BASE_LR, weight_decay=0.01, betas=(0.9, 0.98)
    )
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, BASE_LR, total_steps=max(2, steps), pct_start=0.05
    )
    check = _batch(tokens, stories.many(64, "check", stories.largest), Random(seed))
    losses: list[float] = []
    curve: list[dict[str, float]] = []
    for step in range(steps):
        rng = Random(f"{seed} base {step}")
        most = 2 + int((stories.largest - 2) * min(1.0, step / (RAMP * steps)))
        lessons = [stories.tell(rng.randint(1, most), rng, "") for _ in range(batch)]
        loss, answer_loss, _ = _losses(model, *_batch(tokens, lessons, rng))
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        rate.step()
        losses.append(answer_loss)
        if (step + 1) % CURVE == 0 or step + 1 == steps:
            with torch.no_grad():
                _, _, share = _losses(model, *check)
            recent = losses[-CURVE:]
            point = {"step": step + 1, "loss": sum(recent) / len(recent), "correct": share}
            curve.append(point)
            print(
                f"base, step {step + 1}: loss {point['loss']:.3f}, correct {share:.3f}", flush=True
            )
    model.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    taught = {
        "steps": steps,
        "parameters": sum(p.numel() for p in model.parameters()),
        "vocabulary": vocabulary,
        "curve": curve,
        "cpu_s": round(time.process_time() - start),
    }
    write_json(folder / TAUGHT, taught)


def train_model(
    base: Path, run: Path, settings: EvoSettings, stories: Sequence[History], trained: Path
) -> None:
    """Train a memory on the base, and write the cost and the learning curve to `trained`."""
    start = time.process_time()
    train_evoembedding(
        Base.named(str(base)), stories, [], run, settings,
        device="cpu", recompute=False,
    )  # fmt: skip
    cost = round(time.process_time() - start)
    write_json(trained, {"cpu_s": cost, "curve": _curve(run / "log.jsonl")})


def prompt(turns: Sequence[str], question: str) -> str:
    """Return a question after its turns, in the format that the base is trained on."""
    return "\n".join([*turns, question])


def as_turn(text: str) -> Turn:
    """Return a story's turn as a memory reads it."""
    user, assistant = sides(text)
    speaker, _, utterance = user.partition(": ")
    if utterance and not text.startswith("User: "):
        return Turn(user=utterance, speaker=speaker)
    return Turn(user=user, assistant=assistant)


def _losses(model: Any, ids: Tensor, weights: Tensor) -> tuple[Tensor, float, float]:
    """Return the weighted loss, the mean loss of answers, and the share of correct answers."""
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    expected, weights = ids[:, 1:], weights[:, 1:]
    losses = F.cross_entropy(logits.flatten(0, 1), expected.flatten(), reduction="none")
    losses = losses.view_as(weights)
    answers = weights == 1
    correct = (logits.argmax(-1) == expected)[answers].float().mean()
    total = (losses * weights).sum() / weights.sum()
    return total, float(losses[answers].detach().mean()), float(correct)


def _batch(tokens: Tokens, stories: Sequence[History], rng: Random) -> tuple[Tensor, Tensor]:
    """Return ids and loss weights of stories with their questions, each `(stories, T)`."""
    pairs = [_lesson(tokens, story, rng) for story in stories]
    ids, weights = (
        nn.utils.rnn.pad_sequence([pair[part] for pair in pairs], batch_first=True)
        for part in (0, 1)
    )
    return ids, weights


def _lesson(tokens: Tokens, story: History, rng: Random) -> tuple[Tensor, Tensor]:
    """Return a story's turns with its questions and answers as ids, and the loss weight of each id.

    The turns are before the first question, where the queue of latents will be.
    """
    ids: list[int] = []
    weights: list[float] = []
    for number, question in enumerate(rng.sample(story.questions, len(story.questions))):
        text = prompt(story.turns if not number else [], question.text)
        opening = tokens.encode(f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n")
        answer = tokens.encode(question.answer)
        ids += [*opening, *answer, *tokens.encode("<|im_end|>\n")]
        weights += [CONTEXT_WEIGHT] * len(opening) + [1.0] * len(answer)
        weights += [END_WEIGHT, CONTEXT_WEIGHT]
    return torch.tensor(ids), torch.tensor(weights)


def _texts(story: History) -> list[str]:
    return [*story.turns, *(f"{question.text} {question.answer}" for question in story.questions)]


def _curve(log: Path) -> list[dict[str, float]]:
    """Return points of a training log: step, and mean losses since the point before.

    `loss` is that of answers, `contrastive` that of retrieval.
    """
    entries = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    entries = [entry for entry in entries if "sft" in entry]
    pieces = [entries[at : at + CURVE] for at in range(0, len(entries), CURVE)]
    means = {"loss": "sft", "contrastive": "contrastive"}
    return [
        {
            "step": piece[-1]["step"],
            **{
                name: round(sum(entry[key] for entry in piece) / len(piece), 4)
                for name, key in means.items()
            },
        }
        for piece in pieces
    ]


def _write_tokenizer(folder: Path, texts: Sequence[str]) -> int:
    """Make a tokenizer whose tokens are the words of `texts`; return the size of the vocabulary."""
    tokenizer = Tokenizer(models.WordLevel(unk_token=SPECIAL[-1]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), behavior="removed", invert=True)
    trainer = trainers.WordLevelTrainer(special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator([*texts, f"user\nassistant\n{INSTRUCTION}"], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": SPECIAL[-1],
        "model_max_length": 8192,
        "chat_template": CHATML,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    return int(tokenizer.get_vocab_size())
