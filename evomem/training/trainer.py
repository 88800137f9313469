"""Training of the small encoder: seeded, resumable, logged."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from tokenizers import Tokenizer

from evomem.mini import weights
from evomem.mini.encoder import TOKENIZER, WEIGHTS
from evomem.mini.model import MiniModel
from evomem.mini.reading import Tokens
from evomem.training.contrastive import Sample, loss_of, recall, score
from evomem.training.histories import History, excerpt
from evomem.training.run import Run, check_finite, train_to_the_end
from evomem.training.settings import MiniSettings
from evomem.training.sources import Base

BASE = ("words.", "places.", "norm.", "layers.")
"""The weights that MiniLM provides; all others start untrained and have a higher learning rate."""
TEXT = (*BASE, "roles")
"""The weights that a text's own embedding depends on."""
QUEUES = (8, 16, 32, 64, 96)
DRIFTS = (1, 1, 1, 2, 5, 10)  # turns counted per turn of a sample, to imitate longer histories


class Trainer:
    """One training run. `run` continues from the last checkpoint in the run's folder."""

    def __init__(
        self,
        model: MiniModel,
        tokenizer: Tokenizer,
        train: Sequence[History],
        dev: Sequence[History],
        run: Run,
        settings: MiniSettings,
    ) -> None:
        """Prepare the run, and restore the state in its folder, if any."""
        self.model, self.train, self.dev, self.settings = model, train, dev, settings
        self._run = run
        self._tokenizer = tokenizer
        tokenizer.no_padding()
        tokenizer.enable_truncation(settings.tokens)
        freeze_tables(model)
        if not settings.lr:
            freeze_text(model)
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
        self.step, stored = run.resume(self._optimizer)
        if stored:
            model.load_state_dict(stored)

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
        """Train on the next histories."""
        self.model.train()
        share = self.settings.share(self.step)
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * share
        losses, recalls = [], []
        for sample in self._samples():
            loss, right = loss_of(self.model, sample)
            (loss / self.settings.accumulate).backward()  # type: ignore[no-untyped-call]
            losses.append(float(loss.detach()))
            recalls.append(right)
        mean = sum(losses) / len(losses)
        check_finite(mean, self.step)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.step += 1
        recalled = sum(recalls) / len(recalls)
        return {"loss": mean, "lr": self.settings.lr * share, "train_recall@10": recalled}

    def save(self) -> None:
        """Save the state in the run's folder."""
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
        if rng.random() < 0.3:  # begin in the middle of the history, as a queue does
            cut = excerpt(history, rng.randrange(1 + len(history.turns) // 3), len(history.turns))
            history = cut if cut.questions else history
        chosen = rng.sample(history.questions, min(self.settings.questions, len(history.questions)))
        dropped = rng.random() < self.settings.drop_memory
        off = dropped and self.settings.lr > 0  # without memory, there is no order to train
        start = 0 if rng.random() < 0.5 else int(math.exp(rng.uniform(0, math.log(1500))))
        now = start + rng.choice(DRIFTS) * torch.arange(len(history.turns) + 1.0)
        return Sample(
            self._tokens(history.turns),
            self._tokens([question.text for question in chosen]),
            [question.evidence for question in chosen],
            [question.rivals for question in chosen],
            history.threads,
            0 if off else rng.choice(QUEUES),
            torch.zeros_like(now) if off else now,
        )

    def _tokens(self, texts: Sequence[str]) -> list[Tokens]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]


def freeze_tables(model: MiniModel) -> None:
    """Exclude the tables of words and positions from training: no gradients are computed for them."""
    model.words.weight.requires_grad_(False)
    model.places.weight.requires_grad_(False)


def freeze_text(model: MiniModel) -> None:
    """Exclude everything from training that a text's own embedding depends on."""
    for name, parameter in model.named_parameters():
        if name.startswith(TEXT):
            parameter.requires_grad_(False)


def train_mini(
    base: Base,
    train: Sequence[History],
    dev: Sequence[History],
    out: Path,
    settings: MiniSettings,
) -> Path:
    """Train the small encoder on the CPU and return its weight file, which `mini:FILE` names.

    Args:
        base: MiniLM, or trained weights.
        train: The training data.
        dev: The development data.
        out: The folder of the run; a run in it is continued.
        settings: The settings.

    Raises:
        InputError: `out` belongs to another run; nothing was written.
        CheckpointError: The base cannot be loaded; nothing was written.
    """
    run = Run(out, base.name, settings, train, dev)
    torch.manual_seed(settings.seed)
    if base.kind == "minilm":
        folder = Path(base.source).expanduser()
        model = weights.from_minilm(folder / "model.safetensors")
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    else:
        model = weights.load(Path(base.source).expanduser() if base.source else WEIGHTS)
        tokenizer = Tokenizer.from_file(str(TOKENIZER))
    Trainer(model, tokenizer, train, dev, run, settings).run()
    return out / "model.safetensors"


@torch.no_grad()
def development(
    model: MiniModel, tokens: Any, histories: Sequence[History], queue: int = -1
) -> float:
    """Return recall@10 over whole histories, the mean over questions.

    Args:
        model: The network.
        tokens: Converts texts to tokens.
        histories: The histories with their questions.
        queue: The length of the queue in turns; the model's own length if negative.
    """
    queue = model.config.turns if queue < 0 else queue
    total, count = 0.0, 0
    for history in histories:
        now = torch.arange(len(history.turns) + 1.0) * (queue > 0)
        sample = Sample(
            tokens(history.turns),
            tokens([question.text for question in history.questions]),
            [question.evidence for question in history.questions],
            [question.rivals for question in history.questions],
            history.threads,
            queue,
            now,
        )
        total += recall(score(model, sample).both, sample.evidence, 10) * len(sample.evidence)
        count += len(sample.evidence)
    return total / count
