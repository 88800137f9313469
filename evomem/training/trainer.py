"""The training loop of the small encoder: seeded, resumable, logged."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from evomem.errors import InputError
from evomem.mini import weights
from evomem.mini.model import MiniModel
from evomem.mini.reading import Tokens
from evomem.training.contrastive import Sample, loss_of, recall, score
from evomem.training.histories import History, excerpt

BASE = ("words.", "places.", "norm.", "layers.")
"""What MiniLM brings; everything else starts from nothing and learns faster."""
QUEUES = (8, 16, 32, 64, 96)
DRIFTS = (1, 1, 1, 2, 5, 10)  # turns that pass for each turn of a sample: stands for longer ones


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run depends on, apart from the data."""

    steps: int = 600
    seed: int = 0
    lr: float = 3e-5
    """Of MiniLM's own layers."""
    fresh_lr: float = 6e-4
    """Of everything that is new."""
    warmup: float = 0.06
    floor: float = 0.05
    """Share of the learning rate that is left at the end."""
    accumulate: int = 1
    """Histories for each step."""
    questions: int = 24
    """At most, of one history in one step."""
    tokens: int = 64
    """Longer texts are cut here."""
    drop_memory: float = 0.15
    """Share of histories that are read without memory; 1 trains a static encoder."""
    check_every: int = 100
    """Steps between checkpoints with a development score."""


class Trainer:
    """One run. `run` goes on where the last checkpoint in `out` ends."""

    def __init__(
        self,
        model: MiniModel,
        tokenizer: Tokenizer,
        train: Sequence[History],
        dev: Sequence[History],
        out: Path,
        settings: Settings,
    ) -> None:
        """Prepare everything; raises InputError if `out` holds another run."""
        self.model, self.train, self.dev, self.out, self.settings = model, train, dev, out, settings
        self._tokenizer = tokenizer
        tokenizer.no_padding()
        tokenizer.enable_truncation(settings.tokens)
        model.words.weight.requires_grad_(False)
        model.places.weight.requires_grad_(False)
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
        self._step = 0
        out.mkdir(parents=True, exist_ok=True)
        described = out / "settings.json"
        text = json.dumps(asdict(settings))
        if described.exists() and described.read_text("utf-8") != text:
            raise InputError(f"{out} holds a run with other settings; give another --out")
        described.write_text(text, "utf-8")
        if (out / "checkpoint.safetensors").exists():
            self._resume()

    def run(self) -> None:
        """Train to the end; the result is `model.safetensors` in `out`."""
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
        with Progress(*columns, TimeRemainingColumn()) as progress:
            task = progress.add_task("training", total=self.settings.steps, completed=self._step)
            if self._step == 0:
                self._log({"step": 0, **self.check()})
            while self._step < self.settings.steps:
                loss, found = self._one_step()
                self._log({"step": self._step, "loss": loss, "train_recall@10": found})
                progress.update(task, advance=1, description=f"loss {loss:.3f}")
                if self._step % self.settings.check_every == 0:
                    self._log({"step": self._step, **self.check()})
                    self._save()
        weights.save(self.model, self.out / "model.safetensors")
        self._log({"step": self._step, "final": True, **self.check()})

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

    def _one_step(self) -> tuple[float, float]:
        self.model.train()
        done = min(1.0, (self._step + 1) / max(1, self.settings.warmup * self.settings.steps))
        left = 0.5 + 0.5 * math.cos(math.pi * self._step / self.settings.steps)
        share = done * (self.settings.floor + (1 - self.settings.floor) * left)
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * share
        losses, found = [], []
        for sample in self._samples():
            loss, right = loss_of(self.model, sample)
            (loss / self.settings.accumulate).backward()  # type: ignore[no-untyped-call]
            losses.append(float(loss.detach()))
            found.append(right)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._step += 1
        return sum(losses) / len(losses), sum(found) / len(found)

    def _samples(self) -> Iterator[Sample]:
        """Draw this step's histories; depends on seed and step alone, so a resumed run agrees."""
        for number in range(self.settings.accumulate):
            place = self._step * self.settings.accumulate + number
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
        off = rng.random() < self.settings.drop_memory
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

    def _log(self, entry: dict[str, Any]) -> None:
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(entry) + "\n")

    def _save(self) -> None:
        state = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for index, slots in self._optimizer.state_dict()["state"].items():
            state |= {f"optimizer.{index}.{name}": value for name, value in slots.items()}
        half_done = self.out / "checkpoint.tmp"
        save_file(state, half_done, {"step": str(self._step)})
        (self.out / "step").write_text(str(self._step), "utf-8")
        half_done.replace(self.out / "checkpoint.safetensors")

    def _resume(self) -> None:
        state = load_file(self.out / "checkpoint.safetensors")
        self._step = int((self.out / "step").read_text("utf-8"))
        own = {n[6:]: value for n, value in state.items() if n.startswith("model.")}
        self.model.load_state_dict(own)
        slots: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in state.items():
            if name.startswith("optimizer."):
                _, index, slot = name.split(".", 2)
                slots.setdefault(int(index), {})[slot] = value
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": slots, "param_groups": groups})


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
