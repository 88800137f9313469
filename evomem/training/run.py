"""The folder of a run: its settings, its log, and the state from which it continues."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from evomem.errors import InputError
from evomem.training.histories import History
from evomem.training.settings import Settings

STATE = "checkpoint.safetensors"


class Run:
    """`settings.json`, `log.jsonl` and `checkpoint.safetensors` in one folder."""

    def __init__(
        self,
        out: Path,
        base: str,
        settings: Settings,
        train: Sequence[History],
        dev: Sequence[History],
        *,
        writes: bool = True,
    ) -> None:
        """Describe a run; nothing is written before `begin`.

        Args:
            out: The folder; it need not exist.
            base: The model that the run starts from.
            settings: Its settings.
            train: The training data.
            dev: The development data.
            writes: Whether this process writes; true in one process only.

        Raises:
            InputError: `out` belongs to another run.
        """
        self.out, self.settings, self.writes = out, settings, writes
        described = {"base": base, "train": digest(train), "dev": digest(dev), **asdict(settings)}
        self._description = json.dumps(described, indent=1)
        self._file = out / "settings.json"
        if self._file.exists():
            try:
                stored = dict(json.loads(self._file.read_text("utf-8")))
            except (OSError, ValueError, TypeError) as error:
                raise InputError(
                    f"{self._file} is not a file of a training run; give another --out"
                ) from error
            other = sorted(k for k in stored | described if stored.get(k) != described.get(k))
            if other:
                raise InputError(
                    f"{out} holds a run with other settings ({', '.join(other)}); give another "
                    "--out, or the same options and data to continue it"
                )

    def begin(self) -> None:
        """Create the folder and write the settings."""
        if self.writes:
            self.out.mkdir(parents=True, exist_ok=True)
            _replace(self._file, self._description)

    def log(self, entry: Mapping[str, Any]) -> None:
        """Append a line to the log."""
        if self.writes:
            with (self.out / "log.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps(entry) + "\n")

    def save(self, step: int, tensors: Mapping[str, Tensor], optimizer: torch.optim.AdamW) -> None:
        """Save the complete state from which a run continues after `step`, in place of the previous one."""
        if not self.writes:
            return
        state = {f"model.{name}": value.detach().contiguous() for name, value in tensors.items()}
        for index, slots in optimizer.state_dict()["state"].items():
            state |= {f"optimizer.{index}.{name}": value for name, value in slots.items()}
        partial = self.out / "checkpoint.partial"
        save_file(state, partial, {"step": str(step)})
        partial.replace(self.out / STATE)

    def resume(self, optimizer: torch.optim.AdamW) -> tuple[int, dict[str, Tensor]]:
        """Return the saved step and the model's tensors, and restore the optimizer.

        Later lines of the log are removed. Returns step 0 and no tensors if nothing was saved.

        Raises:
            InputError: The file is damaged.
        """
        file = self.out / STATE
        if not file.exists():
            self._forget(-1)
            return 0, {}
        tensors: dict[str, Tensor] = {}
        slots: dict[int, dict[str, Tensor]] = {}
        try:
            with safe_open(file, "pt") as opened:
                step = int((opened.metadata() or {})["step"])
                for name in opened.keys():
                    part, _, key = name.partition(".")
                    if part == "model":
                        tensors[key] = opened.get_tensor(name)
                    else:
                        index, _, slot = key.partition(".")
                        slots.setdefault(int(index), {})[slot] = opened.get_tensor(name)
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise InputError(
                f"{file} is damaged ({error}); start again in another --out"
            ) from error
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": slots, "param_groups": groups})
        self._forget(step)
        return step, tensors

    def _forget(self, step: int) -> None:
        log = self.out / "log.jsonl"
        if not (self.writes and log.exists()):
            return
        earlier = []
        for line in log.read_text("utf-8").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:  # a line that a kill truncated
                continue
            if entry["step"] <= step and not entry.get("final"):
                earlier.append(line + "\n")
        _replace(log, "".join(earlier))


class Trainee(Protocol):
    """A model that the loop trains."""

    step: int
    """The number of completed steps."""

    def one_step(self) -> dict[str, float]:
        """Run one step and return the values for the log; `loss` is displayed."""

    def check(self) -> dict[str, float]:
        """Return development scores."""

    def save(self) -> None:
        """Save the state in the run's folder."""

    def finish(self) -> None:
        """Write the result."""


def train_to_the_end(trainee: Trainee, run: Run) -> None:
    """Train from the current step to the last one, and write the result."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    settings = run.settings
    console = Console(stderr=True)
    with Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not run.writes
    ) as progress:
        task = progress.add_task("training", total=settings.steps, completed=trainee.step)
        if trainee.step == 0:
            run.log({"step": 0, **trainee.check()})
        while trainee.step < settings.steps:
            entry = trainee.one_step()
            run.log({"step": trainee.step, **entry})
            progress.update(task, advance=1, description=f"loss {entry['loss']:.3f}")
            if trainee.step % settings.check_every == 0:
                run.log({"step": trainee.step, **trainee.check()})
                trainee.save()
    trainee.finish()
    run.log({"step": trainee.step, "final": True, **trainee.check()})


def digest(histories: Sequence[History]) -> str:
    """Return a hash of everything in the histories that training uses."""
    sha = hashlib.sha256()
    for history in histories:
        asked = [(q.text, q.evidence, q.answer) for q in history.questions]
        sha.update(repr((history.turns, asked, history.threads)).encode())
    return sha.hexdigest()


def check_finite(loss: float, step: int) -> None:
    """Raise InputError if a loss is not finite, before the saved state is overwritten."""
    if loss != loss or loss in (float("inf"), float("-inf")):
        raise InputError(
            f"the loss of step {step + 1} is not finite; lower --lr, or train in float32"
        )


def _replace(file: Path, text: str) -> None:
    partial = file.with_name(file.name + ".partial")
    partial.write_text(text, "utf-8")
    partial.replace(file)
