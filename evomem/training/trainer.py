"""Training of the small encoder: seeded, resumable, logged."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from evomem.mini import weights
from evomem.mini.encoder import TOKENIZER, WEIGHTS
from evomem.mini.model import MiniModel
from evomem.mini.reading import Tokens
from evomem.training.contrastive import Sample, loss_of, recall, score
from evomem.training.histories import History, Question, excerpt
from evomem.training.run import Run, check_finite, train_to_the_end
from evomem.training.settings import MiniSettings
from evomem.training.sources import Base

BASE = ("words.", "places.", "norm.", "layers.")
"""What MiniLM brings; everything else starts from nothing and learns faster."""
ORDERED = {
    "first": True,
    "latest": True,
    "only": None,
    "before": None,
    "after": None,
    "every": None,
}
"""Whether a question of a kind asks for order; others do not. None: its words do not decide it."""
LINKED = {"linked", "reference", "choice", "reply", "reply_to", "taken_up"}
"""Kinds of questions whose evidence may say nothing without the turns before it."""
QUEUES = (2, 4, 8, 8, 8)
DRIFTS = (1, 1, 1, 2, 5, 10)  # turns that pass for each turn of a sample: stands for longer ones


class Trainer:
    """One run. `run` goes on where the last checkpoint in the run's folder ends."""

    def __init__(
        self,
        model: MiniModel,
        tokenizer: Tokenizer,
        train: Sequence[History],
        dev: Sequence[History],
        run: Run,
        settings: MiniSettings,
    ) -> None:
        """Prepare everything, and take up what was kept in the run's folder."""
        self.model, self.train, self.dev, self.settings = model, train, dev, settings
        self._run = run
        self._tokenizer = tokenizer
        tokenizer.no_padding()
        tokenizer.enable_truncation(settings.tokens)
        model.words.weight.requires_grad_(False)
        model.places.weight.requires_grad_(False)
        if settings.keep:
            for part in (model.norm, *model.layers[: model.config.write_layer]):
                part.requires_grad_(False)
            model.roles.requires_grad_(False)
        if settings.only_order:
            model.requires_grad_(False)
            model.ask.requires_grad_(True)
        self._base = deepcopy(model).requires_grad_(False) if settings.keep else None
        groups: dict[bool, list[torch.nn.Parameter]] = {True: [], False: []}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                groups[name.startswith(BASE)].append(parameter)
        self._optimizer = torch.optim.AdamW(
            [
                {"params": groups[True], "lr": settings.lr, "peak": settings.lr},
                {"params": groups[False], "lr": settings.fresh_lr, "peak": settings.fresh_lr},
            ],
            weight_decay=0.01,
        )
        run.begin()
        self.step, kept = run.resume(self._optimizer)
        if kept:
            model.load_state_dict(kept)

    def run(self) -> None:
        """Train to the end; the result is `model.safetensors` in the run's folder."""
        train_to_the_end(self, self._run)

    def check(self) -> dict[str, float]:
        """Return recall@10 on the development histories, with memory and without."""
        if not self.dev:
            return {}
        self.model.eval()
        scores = {
            "dev_recall@10": development(self.model, self._tokens, self.dev),
            "dev_recall@10_memory_off": development(self.model, self._tokens, self.dev, queue=0),
        }
        self.model.train()
        return scores

    def one_step(self) -> dict[str, float]:
        """Learn from the next histories."""
        self.model.train()
        share = self.settings.share(self.step)
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * share
        losses, found = [], []
        for sample in self._samples():
            with torch.autocast("cpu", torch.bfloat16, enabled=self.settings.dtype == "bfloat16"):
                loss, right = loss_of(
                    self.model,
                    sample,
                    only_order=bool(self.settings.only_order),
                    base=self._base,
                    keep=self.settings.keep,
                )
            (loss / self.settings.accumulate).backward()  # type: ignore[no-untyped-call]
            losses.append(float(loss.detach()))
            found.append(right)
        mean = sum(losses) / len(losses)
        check_finite(mean, self.step)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.step += 1
        recalled = sum(found) / len(found)
        return {"loss": mean, "lr": self.settings.lr * share, "train_recall@10": recalled}

    def save(self) -> None:
        """Keep the state in the run's folder."""
        self._run.save(self.step, self.model.state_dict(), self._optimizer)

    def finish(self) -> None:
        """Write the weights that `mini:FILE` names."""
        weights.save(self.model, self._run.out / "model.safetensors")

    def _samples(self) -> Iterator[Sample]:
        """Draw this step's histories; depends on seed and step alone, so a resumed run agrees."""
        for number in range(self.settings.accumulate):
            place = self.step * self.settings.accumulate + number
            epoch, index = divmod(place, len(self.train))
            order = list(range(len(self.train)))
            Random(f"{self.settings.seed} epoch {epoch}").shuffle(order)
            rng = Random(f"{self.settings.seed} sample {place}")
            yield self._sample(self.train[order[index]], rng)

    def _sample(self, history: History, rng: Random) -> Sample:
        if rng.random() < 0.3:  # begin in the middle, as a queue does
            cut = excerpt(history, rng.randrange(1 + len(history.turns) // 3), len(history.turns))
            history = cut if cut.questions else history
        chosen = rng.sample(history.questions, min(self.settings.questions, len(history.questions)))
        off = rng.random() < self.settings.drop_memory and not self.settings.only_order
        start = 0 if rng.random() < 0.5 else int(math.exp(rng.uniform(0, math.log(1500))))
        now = start + rng.choice(DRIFTS) * torch.arange(len(history.turns) + 1.0)
        queue = 0 if off else rng.choice(QUEUES)
        return sample_of(
            self._tokens, history, chosen, queue, torch.zeros_like(now) if off else now
        )

    def _tokens(self, texts: Sequence[str]) -> list[Tokens]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]


def train_mini(
    base: Base,
    train: Sequence[History],
    dev: Sequence[History],
    out: Path,
    settings: MiniSettings,
) -> Path:
    """Train the small encoder on the CPU and return its weight file, which `mini:FILE` names.

    Args:
        base: MiniLM, or weights that were trained before.
        train: What to learn from.
        dev: What to be scored on.
        out: Where everything is written; a run that is there is gone on with.
        settings: How.

    Raises:
        InputError: `out` holds another run; nothing was written.
        CheckpointError: The base cannot be loaded; nothing was written.
    """
    run = Run(out, base.name, settings, train, dev)
    torch.manual_seed(settings.seed)
    if base.kind == "minilm":
        folder = Path(base.source).expanduser()
        model = weights.from_minilm(folder / "model.safetensors")
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    elif base.kind == "text":
        model = weights.from_text_layers(Path(base.source).expanduser())
        tokenizer = Tokenizer.from_file(str(TOKENIZER))
    else:
        model = weights.load(Path(base.source).expanduser() if base.source else WEIGHTS)
        tokenizer = Tokenizer.from_file(str(TOKENIZER))
    Trainer(model, tokenizer, train, dev, run, settings).run()
    return out / "model.safetensors"


def sample_of(
    tokens: Any, history: History, questions: Sequence[Question], queue: int, now: Tensor
) -> Sample:
    """Return a history with some of its questions, tokenised by `tokens`; the rest as in `Sample`."""
    count = len(history.turns)
    return Sample(
        tokens(history.turns),
        tokens([question.text for question in questions]),
        [question.evidence for question in questions],
        [count if question.asked_at is None else question.asked_at for question in questions],
        [ORDERED.get(question.kind, False) for question in questions],
        [question.kind in LINKED for question in questions],
        queue,
        now,
    )


@torch.no_grad()
def development(
    model: MiniModel, tokens: Any, histories: Sequence[History], queue: int = -1
) -> float:
    """Return recall@10 over whole histories, the mean over questions.

    Args:
        model: The network.
        tokens: Turns texts into tokens.
        histories: What is asked.
        queue: Turns that may be looked at; the model's own length if negative.
    """
    queue = model.config.turns if queue < 0 else queue
    total, count = 0.0, 0
    for history in histories:
        now = torch.arange(len(history.turns) + 1.0) * (queue > 0)
        sample = sample_of(tokens, history, history.questions, queue, now)
        total += recall(score(model, sample).both, sample.evidence, 10) * len(sample.evidence)
        count += len(sample.evidence)
    return total / count
