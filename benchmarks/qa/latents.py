"""Can one small model retrieve and answer? From its latent memory, from retrieved text, from nothing.

1. The base: a Qwen3 with random weights, trained to answer questions about turns in its prompt.
2. The model: `evomem train` on the frozen base, for memory, retrieval and answers from latents.
3. Memories read held-out stories, and every question is answered greedily: from the latents alone
   (`answer(llm="encoder")`), by the base from the turns that the same model retrieves, by the base from
   all turns as text, and by the base from the question alone.

The data are generated stories (`evomem.training.stories`). The held-out stories differ, but not their
words: the answer to a question about a home is one of twelve places, all of which occur in training.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional as F

import evomem
from benchmarks.reporting.output import finish, positive, setting, table, write_json
from evomem._extras import require
from evomem.evoembedding import EvoEmbeddingEncoder
from evomem.evoembedding.checkpoint import load_tokens
from evomem.evoembedding.tokens import INSTRUCTION, Tokens
from evomem.records import Turn
from evomem.state import State
from evomem.training.evoembedding.samples import sides
from evomem.training.evoembedding.trainer import train_evoembedding
from evomem.training.histories import History, Question, excerpt
from evomem.training.settings import EvoSettings
from evomem.training.sources import Base
from evomem.training.stories import stories

TURNS = 10  # kept from the beginning of each story
VOCABULARY = 1024  # of the tokenizer
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHATML = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + message.content "
    "+ '<|im_end|>' + '\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
CONFIG = {
    "model_type": "qwen3",
    "architectures": ["Qwen3ForCausalLM"],
    "vocab_size": VOCABULARY,
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
SEEDS = {"base": 1, "train": 2, "held out": 3}  # of the generated stories
TAUGHT = "taught.json"
BATCH = 16
CONTEXT_WEIGHT = 0.2  # of the loss of the turns, relative to that of answers
BLANK_SHARE = 0.1  # of the base's samples without turns, for answers without knowledge
RETRIEVED = 5  # turns
MAX_ANSWER_TOKENS = 24
WAYS = ("latents", "retrieved text", "all turns as text", "nothing")


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; return 0, or 2 after an error message."""
    options = _parser().parse_args(argv)
    result: dict[str, Any] = {**setting("latents", argv), "base": {}, "model": {}}

    def run() -> None:
        base = options.out / "base"
        if not (base / TAUGHT).is_file():
            teach_base(base, options.base_steps, options.seed)
        result["base"] = json.loads((base / TAUGHT).read_text("utf-8"))
        train = short_stories(options.stories, SEEDS["train"])
        settings = EvoSettings(
            steps=options.steps, seed=options.seed, lr=options.lr, latents=2, capacity=64,
            lora_rank=16, batch=4, questions=8, dropout=0.0, check_every=50,
        )  # fmt: skip
        with _timed(result["model"]):
            folder = train_evoembedding(
                Base.named(str(base)), train, [], options.out / "run", settings,
                device="cpu", recompute=False,
            )  # fmt: skip
        result.update(evaluate(folder, short_stories(options.held_out, SEEDS["held out"])))
        print(report(result))

    return finish(result, options.out / "latents.json", run)


def short_stories(count: int, seed: int) -> list[History]:
    """Return the beginnings of generated stories, with the questions that have one short answer."""
    histories = []
    for story in stories(count, TURNS, seed):
        part = excerpt(story, 0, TURNS - 1)
        part.questions = [q for q in part.questions if q.answer and q.kind != "every"]
        histories += [part] if part.questions else []
    return histories


def teach_base(folder: Path, steps: int, seed: int) -> None:
    """Train a language model from scratch to answer questions about turns in its prompt.

    It is written in the usual layout of a causal language model: configuration, weights, tokenizer.
    """
    start = time.process_time()
    folder.mkdir(parents=True, exist_ok=True)
    lessons = short_stories(steps * BATCH, SEEDS["base"])
    texts = [" ".join([*s.turns, *(q.text for q in s.questions)]) for s in lessons[:2000]]
    _write_tokenizer(folder, texts)
    (folder / "config.json").write_text(json.dumps(CONFIG), "utf-8")
    tokens = load_tokens(folder, None, VOCABULARY)
    torch.manual_seed(seed)
    transformers = require("transformers", extra="cpu")
    config = transformers.AutoConfig.for_model(**CONFIG)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.1)
    losses = []
    for step in range(steps):
        rng = Random(f"{seed} base {step}")
        batch = [_lesson(tokens, s, rng) for s in rng.sample(lessons, BATCH)]
        ids = nn.utils.rnn.pad_sequence([ids for ids, _ in batch], batch_first=True)
        weights = nn.utils.rnn.pad_sequence([weights for _, weights in batch], batch_first=True)
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        token_losses = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        weights = weights[:, 1:].flatten()
        loss = (token_losses * weights).sum() / weights.sum()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        rate.step()
        in_answer = weights == 1
        losses.append(float((token_losses.detach() * in_answer).sum() / in_answer.sum()))
        if (step + 1) % 20 == 0:
            print(
                f"base, step {step + 1}: loss of answers {sum(losses[-20:]) / 20:.3f}", flush=True
            )
    model.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(CONFIG), "utf-8")
    taught = {
        "steps": steps,
        "parameters": sum(p.numel() for p in model.parameters()),
        "loss": sum(losses[-20:]) / len(losses[-20:]),
        "cpu_s": round(time.process_time() - start),
    }
    write_json(folder / TAUGHT, taught)


def _lesson(tokens: Tokens, story: History, rng: Random) -> tuple[Tensor, Tensor]:
    """Return a story's turns with its questions and answers as ids, and the loss weight of each id.

    The turns are before the first question, where the queue of latents will be.
    """
    questions = rng.sample(story.questions, len(story.questions))
    context = [] if rng.random() < BLANK_SHARE else story.turns
    im_start, im_end, line = (tokens.encode(text) for text in ("<|im_start|>", "<|im_end|>", "\n"))
    ids: list[int] = []
    weights: list[float] = []
    for number, question in enumerate(questions):
        text = prompt(context if not number else [], question.text)
        opened = [*im_start, *tokens.encode(f"user\n{text}"), *im_end, *line, *im_start]
        opened += tokens.encode("assistant\n")
        reply = [*tokens.encode(question.answer), *im_end]
        ids += [*opened, *reply, *line]
        weights += [*[CONTEXT_WEIGHT] * len(opened), *[1.0] * len(reply), CONTEXT_WEIGHT]
    return torch.tensor(ids), torch.tensor(weights)


def prompt(turns: Sequence[str], question: str) -> str:
    """Return a question after its turns, in the format that the base is trained on."""
    return "\n".join([*turns, question])


def evaluate(folder: Path, held_out: Sequence[History]) -> dict[str, Any]:
    """Answer every question of held-out stories in each of the ways."""
    encoder = EvoEmbeddingEncoder(str(folder), device="cpu", dtype="float32")
    correct: dict[str, dict[str, list[bool]]] = {way: defaultdict(list) for way in WAYS}
    recalled: list[bool] = []
    examples: list[dict[str, str]] = []
    for story in held_out:
        with closing(evomem.open(":memory:", encoder=encoder)) as db:
            memory = db.memory("story")
            memory.add_many([_turn(text) for text in story.turns])
            for question in story.questions:
                hits = memory.search(question.text, RETRIEVED, mode="evolvable")
                texts = [hit.text for hit in sorted(hits, key=lambda hit: hit.seq)]
                evidence = {story.turns[place] for place in question.evidence}
                recalled.append(evidence <= set(texts))
                replies = {
                    "latents": memory.answer(question.text, "encoder").text,
                    "retrieved text": _generate(encoder, prompt(texts, question.text)),
                    "all turns as text": _generate(encoder, prompt(story.turns, question.text)),
                    "nothing": _generate(encoder, question.text),
                }
                for way, reply in replies.items():
                    correct[way][question.kind].append(_is_correct(reply, question))
                if len(examples) < 20:
                    examples.append(
                        {"question": question.text, "answer": question.answer, **replies}
                    )
    kinds = sorted(correct["nothing"])
    return {
        "stories": len(held_out),
        "questions": len(recalled),
        f"recall@{RETRIEVED}": sum(recalled) / len(recalled),
        "ways": {
            way: {
                "all": _share([r for group in groups.values() for r in group]),
                **{kind: _share(groups[kind]) for kind in kinds},
            }
            for way, groups in correct.items()
        },
        "counts": {kind: len(correct["nothing"][kind]) for kind in kinds},
        "examples": examples,
    }


def report(result: dict[str, Any]) -> str:
    """Return the recall, and a table of correct answers by way and kind of question."""
    kinds = ["all", *result["counts"]]
    rows = [
        [way, *(f"{100 * shares[kind]:.1f}" for kind in kinds)]
        for way, shares in result["ways"].items()
    ]
    return (
        f"{result['stories']} held-out stories, {result['questions']} questions; the turns that answer "
        f"are among the first {RETRIEVED} for {100 * result[f'recall@{RETRIEVED}']:.1f} %\n\n"
        + table(["answered right from, %", *kinds], rows)
    )


def _generate(encoder: EvoEmbeddingEncoder, text: str) -> str:
    return encoder.generate(State.empty(encoder.spec), text, MAX_ANSWER_TOKENS)


def _is_correct(reply: str, question: Question) -> bool:
    return reply.strip().strip(".").lower() == question.answer.strip().lower()


def _share(answers: Sequence[bool]) -> float:
    return sum(answers) / len(answers)


def _turn(text: str) -> Turn:
    user, assistant = sides(text)
    speaker, _, utterance = user.partition(": ")
    if utterance and not text.startswith("User: "):
        return Turn(user=utterance, speaker=speaker)
    return Turn(user=user, assistant=assistant)


@contextmanager
def _timed(result: dict[str, Any]) -> Iterator[None]:
    """Add the CPU seconds of the context to `result`."""
    start = time.process_time()
    yield
    result["cpu_s"] = round(time.process_time() - start)


def _write_tokenizer(folder: Path, texts: Sequence[str]) -> None:
    """Train a byte-level BPE like Qwen's on `texts`, with its special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    fixed = f"user\nassistant\n{INSTRUCTION}"
    tokenizer.train_from_iterator([*texts, *[fixed] * len(texts)], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": 8192,
        "chat_template": CHATML,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks latents",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--base-steps", type=positive, default=500, help="training steps of the base"
    )
    parser.add_argument("--steps", type=positive, default=300, help="training steps of the memory")
    parser.add_argument("--stories", type=positive, default=1200, help="stories for training")
    parser.add_argument("--held-out", type=positive, default=40, help="stories for the evaluation")
    parser.add_argument("--lr", type=float, default=2e-3, help="peak learning rate of the memory")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for base, model and latents.json"
    )
    return parser
