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
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional as F

import evomem
from benchmarks.qa.latent_stories import short_story
from benchmarks.quality.intervals import Interval, Resampling
from benchmarks.reporting.output import finish, positive, setting, table, write_json
from evomem._extras import require
from evomem.evoembedding import EvoEmbeddingEncoder
from evomem.evoembedding.checkpoint import load_tokens
from evomem.evoembedding.tokens import INSTRUCTION, Tokens
from evomem.records import Turn
from evomem.state import State
from evomem.training.evoembedding.samples import sides
from evomem.training.evoembedding.trainer import train_evoembedding
from evomem.training.histories import History, Question
from evomem.training.settings import EvoSettings
from evomem.training.sources import Base

HELD_OUT_TURNS = (4, 6)  # lengths of held-out stories
MAX_TURNS = 6  # of a story for training
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
CONTEXT_WEIGHT = 0.1  # of the loss of other tokens, relative to that of answers
END_WEIGHT = 0.3  # of the loss of the token that ends an answer
RAMP = 0.5  # share of the base's steps in which stories grow to MAX_TURNS turns
CURVE = 50  # steps between points of a learning curve
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
            teach_base(base, options.base_steps, options.seed)
        result["base"] = json.loads((base / TAUGHT).read_text("utf-8"))
        settings = EvoSettings(
            steps=options.steps, seed=options.seed, lr=options.lr, latents=options.latents,
            capacity=MAX_TURNS * options.latents, lora_rank=16, batch=options.batch, questions=6,
            dropout=0.0, check_every=50,
        )  # fmt: skip
        trained = options.out / TRAINED
        if not trained.is_file():
            train_model(base, options.out / "run", settings, options.stories, trained)
        result["model"] = json.loads(trained.read_text("utf-8"))
        encoder = EvoEmbeddingEncoder(
            str(options.out / "run" / "model"), device="cpu", dtype="float32"
        )
        result["held out"] = {
            str(turns): evaluate(
                encoder, short_stories(options.held_out, f"held out {turns}", turns)
            )
            for turns in HELD_OUT_TURNS
        }
        print(report(result))

    return finish(result, options.out / "latents.json", run)


def short_stories(count: int, seed: str, turns: int | None = None) -> list[History]:
    """Return `count` stories of `turns` turns, or of 1 to `MAX_TURNS`."""
    stories = []
    for number in range(count):
        rng = Random(f"{seed} {number}")
        length = rng.randint(1, MAX_TURNS) if turns is None else turns
        stories.append(short_story(length, rng, f"{seed} {number}"))
    return stories


def teach_base(folder: Path, steps: int, seed: int) -> None:
    """Train a language model from scratch to answer questions about turns in its prompt.

    It is written in the usual layout of a causal language model: configuration, weights, tokenizer.
    """
    start = time.process_time()
    folder.mkdir(parents=True, exist_ok=True)
    stories = short_stories(2000, "words", MAX_TURNS)
    vocabulary = _write_tokenizer(folder, [text for story in stories for text in _texts(story)])
    config = {**CONFIG, "vocab_size": vocabulary}
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
    check = _batch(tokens, short_stories(64, "check", MAX_TURNS), Random(seed))
    losses: list[float] = []
    curve: list[dict[str, float]] = []
    for step in range(steps):
        rng = Random(f"{seed} base {step}")
        most = 2 + int((MAX_TURNS - 2) * min(1.0, step / (RAMP * steps)))
        stories = [short_story(rng.randint(1, most), rng) for _ in range(BATCH)]
        loss, answer_loss, _ = _losses(model, *_batch(tokens, stories, rng))
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


def prompt(turns: Sequence[str], question: str) -> str:
    """Return a question after its turns, in the format that the base is trained on."""
    return "\n".join([*turns, question])


def train_model(base: Path, run: Path, settings: EvoSettings, stories: int, trained: Path) -> None:
    """Train a memory on the base, and write the cost and the learning curve to `trained`."""
    start = time.process_time()
    train_evoembedding(
        Base.named(str(base)), short_stories(stories, "memory"), [], run, settings,
        device="cpu", recompute=False,
    )  # fmt: skip
    cost = round(time.process_time() - start)
    write_json(trained, {"cpu_s": cost, "curve": _curve(run / "log.jsonl")})


def evaluate(encoder: EvoEmbeddingEncoder, held_out: Sequence[History]) -> dict[str, Any]:
    """Answer every question of held-out stories in each of the ways."""
    correct: dict[str, list[bool]] = {way: [] for way in WAYS}
    recalled: list[bool] = []
    examples: list[dict[str, str]] = []
    asked: list[tuple[str, str]] = []  # story and kind of each question
    with closing(evomem.open(":memory:", encoder=encoder)) as db:
        for story in held_out:
            db.memory(story.id).add_many([_turn(text) for text in story.turns])
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


def _curve(log: Path) -> list[dict[str, float]]:
    """Return points of a training log: step, and mean loss of answers since the point before."""
    entries = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    entries = [entry for entry in entries if "sft" in entry]
    pieces = [entries[at : at + CURVE] for at in range(0, len(entries), CURVE)]
    return [
        {"step": piece[-1]["step"], "loss": sum(e["sft"] for e in piece) / len(piece)}
        for piece in pieces
    ]


def _generate(encoder: EvoEmbeddingEncoder, text: str) -> str:
    return encoder.generate(State.empty(encoder.spec), text, MAX_ANSWER_TOKENS)


def _is_correct(reply: str, question: Question) -> bool:
    return reply.strip().strip(".").lower() == question.answer.strip().lower()


def _turn(text: str) -> Turn:
    user, assistant = sides(text)
    speaker, _, utterance = user.partition(": ")
    if utterance and not text.startswith("User: "):
        return Turn(user=utterance, speaker=speaker)
    return Turn(user=user, assistant=assistant)


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
