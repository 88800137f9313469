"""The training of EvoEmbedding: seeded, resumable, logged, on one device or on several.

Gradients flow through the whole recurrence. The model computes in the dtype in which it was loaded;
trained weights are kept in float32 and copied into the model after every step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from random import Random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evomem.evoembedding.layers import AdaptedLinear
from evomem.training.contrastive import recall
from evomem.training.evoembedding.base import Start, start
from evomem.training.evoembedding.objective import evolve_all, losses_of, score_all
from evomem.training.evoembedding.processes import Processes
from evomem.training.evoembedding.samples import Sample, make_sample
from evomem.training.evoembedding.saving import save_checkpoint
from evomem.training.histories import History
from evomem.training.run import Run, check_finite, train_to_the_end
from evomem.training.settings import EvoSettings
from evomem.training.sources import Base


class EvoTrainer:
    """One training run. `run` continues from the last checkpoint in the run's folder."""

    def __init__(
        self,
        started: Start,
        train: Sequence[History],
        dev: Sequence[History],
        run: Run,
        settings: EvoSettings,
        processes: Processes,
    ) -> None:
        """Prepare the run, and restore the state in its folder, if any."""
        self.begun, self.train, self.dev, self.settings = started, train, dev, settings
        self.model = started.model
        self._run, self._processes = run, processes
        self._trained = started.trained
        self.masters = started.masters
        self._optimizer = torch.optim.AdamW(
            [self.masters[name] for name in self._trained], lr=settings.lr, weight_decay=0.0
        )
        drop_inputs(self.model, settings.dropout)
        run.begin()
        self.step, weights = run.resume(self._optimizer)
        for name, tensor in weights.items():
            self.masters[name].copy_(tensor)
        self._to_model()

    def run(self) -> None:
        """Train to the end; the result is the folder `model` in the run's folder."""
        train_to_the_end(self, self._run)
        self._processes.wait()

    def one_step(self) -> dict[str, float]:
        """Train on the next histories."""
        self.model.train()
        settings = self.settings
        # Dropout is seeded by the step, so that a resumed run repeats its draws.
        torch.manual_seed(hash((settings.seed, self.step, self._processes.rank)) % 2**63)
        sums = torch.zeros(4, device=self.model.device)
        for samples in self._batches():
            losses = losses_of(self.model, samples, settings.pack)
            (losses.total / settings.accumulate).backward()  # type: ignore[no-untyped-call]
            parts = [losses.total, losses.contrastive, losses.sft]
            sums += torch.stack(
                [*(part.detach().to(sums) for part in parts), sums.new_tensor(losses.recall)]
            )
        sums /= settings.accumulate
        gradients = [_gradient(parameter) for parameter in self._trained.values()]
        self._processes.average([sums, *gradients])
        loss, contrastive, sft, recalled = sums.tolist()
        check_finite(loss, self.step)
        for name, gradient in zip(self._trained, gradients, strict=True):
            self.masters[name].grad = gradient
        nn.utils.clip_grad_norm_(self.masters.values(), 1.0)
        rate = settings.lr * settings.share(self.step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self._to_model()
        self.step += 1
        return {
            "loss": loss,
            "contrastive": contrastive,
            "sft": sft,
            "lr": rate,
            "train_recall@10": recalled,
        }

    @torch.no_grad()
    def check(self) -> dict[str, float]:
        """Return recall@10 on the development histories, the mean over all questions."""
        if not self.dev:
            return {}
        self.model.eval()
        sums = torch.zeros(2, device=self.model.device)
        for history in self.dev[self._processes.rank :: self._processes.count]:
            sample = make_sample(self.begun.tokens, history, history.questions)
            latents = evolve_all(self.model, [sample.segments], self.settings.pack)
            [scores] = score_all(self.model, [sample], latents, self.settings.pack)
            count = len(sample.questions)
            share = recall(scores, sample.evidence, 10)
            sums += torch.tensor([share * count, count], device=sums.device)
        self._processes.average([sums])
        return {"dev_recall@10": float(sums[0] / sums[1])}

    def save(self) -> None:
        """Save the state in the run's folder."""
        self._run.save(self.step, self.masters, self._optimizer)

    def finish(self) -> None:
        """Write the checkpoint."""
        if self._run.writes:
            save_checkpoint(self.begun, self.masters, self._run.out / "model")

    def _batches(self) -> Iterator[list[Sample]]:
        """Draw this process's histories of this step; they depend on the seed and the step only."""
        settings, processes = self.settings, self._processes
        for number in range(settings.accumulate):
            batch = (self.step * settings.accumulate + number) * processes.count + processes.rank
            places = range(batch * settings.batch, (batch + 1) * settings.batch)
            yield [self._sample(place) for place in places]

    def _sample(self, place: int) -> Sample:
        epoch, index = divmod(place, len(self.train))
        history = self.train[_order(len(self.train), self.settings.seed, epoch)[index]]
        rng = Random(f"{self.settings.seed} sample {place}")
        count = min(self.settings.questions, len(history.questions))
        return make_sample(self.begun.tokens, history, rng.sample(history.questions, count))

    @torch.no_grad()
    def _to_model(self) -> None:
        for name, parameter in self._trained.items():
            parameter.copy_(self.masters[name])
            parameter.grad = None


def train_evoembedding(
    base: Base,
    train: Sequence[History],
    dev: Sequence[History],
    out: Path,
    settings: EvoSettings,
    *,
    device: str | None = None,
    recompute: bool = True,
) -> Path:
    """Train EvoEmbedding and return the folder of its checkpoint, which `evoembedding:FOLDER` names.

    Args:
        base: A Qwen3 or Qwen3.5 model, or an EvoEmbedding checkpoint to continue with.
        train: The training data.
        dev: The development data.
        out: The folder of the run; a run in it is continued.
        settings: The settings.
        device: Such as `"cuda"`; by default a GPU if there is one.
        recompute: Whether activations are recomputed instead of kept.

    Raises:
        InputError: `out` belongs to another run; nothing was written.
        CheckpointError: The base cannot be loaded; nothing was written.
        EncoderError: The device cannot be used.
    """
    processes = Processes(device)
    if not settings.steps:
        settings = replace(settings, steps=one_pass(len(train), settings, processes.count))
    run = Run(out, base.name, settings, train, dev, writes=processes.rank == 0)
    started = start(base, settings, processes.device)
    started.model.decoder.recompute = recompute
    EvoTrainer(started, train, dev, run, settings, processes).run()
    processes.leave()
    return out / "model"


def drop_inputs(model: nn.Module, share: float) -> None:
    """Drop a share of every adapter's inputs while the model trains, as the reference does."""

    def drop(adapter: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        return F.dropout(inputs[0], share, adapter.training)

    if share:
        for module in model.modules():
            if isinstance(module, AdaptedLinear):
                for adapter in module.lora_A.values():
                    adapter.register_forward_pre_hook(drop)


def one_pass(histories: int, settings: EvoSettings, processes: int) -> int:
    """Return the number of steps of one pass through the histories."""
    return -(-histories // (settings.batch * settings.accumulate * processes))


@lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int) -> list[int]:
    order = list(range(count))
    Random(f"{seed} epoch {epoch}").shuffle(order)
    return order


def _gradient(parameter: nn.Parameter) -> Tensor:
    if parameter.grad is None:  # no question of this step needed it
        return torch.zeros_like(parameter, dtype=torch.float32)
    return parameter.grad.float()
