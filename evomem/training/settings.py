"""The settings of a training run, without its data and its base. Light to import, for `--help`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

from evomem.errors import InputError


def option(
    default: Any,
    help: str,
    *,
    least: float = 0,
    below: float = math.inf,
    choices: tuple[str, ...] = (),
) -> Any:
    """Return a field that is also an option of the command.

    Args:
        default: The default; its type is the option's type.
        help: The option's help text.
        least: Smallest allowed number.
        below: Upper bound, exclusive.
        choices: The allowed texts; any if empty.
    """
    about = {"help": help, "least": least, "below": below, "choices": choices}
    return field(default=default, metadata=about)


def flag(name: str) -> str:
    """Return the command's spelling of a setting.

    >>> flag("fresh_lr")
    '--fresh-lr'
    """
    return f"--{name.replace('_', '-')}"


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of both kinds of training.

    Raises:
        InputError: A value is out of range.
    """

    steps: int = option(600, "optimiser steps", least=1)
    seed: int = option(0, "seed of all random choices")
    lr: float = option(3e-5, "peak learning rate")
    warmup: float = option(0.06, "share of the steps in which the rate rises", below=1)
    floor: float = option(0.05, "final rate, as a share of the peak", below=1)
    accumulate: int = option(1, "batches whose gradients are summed for each step", least=1)
    questions: int = option(24, "maximum questions per history and step", least=1)
    check_every: int = option(100, "steps between checkpoints with a development score", least=1)

    def __post_init__(self) -> None:
        for setting in fields(self):
            value, about = getattr(self, setting.name), setting.metadata
            if isinstance(value, str):
                allowed = not about["choices"] or value in about["choices"]
                expected = "one of " + ", ".join(filter(None, about["choices"]))
            else:
                allowed = about["least"] <= value < about["below"]
                limit = f" and below {about['below']}" if about["below"] < math.inf else ""
                expected = f"at least {about['least']}{limit}"
            if not allowed:
                raise InputError(f"{flag(setting.name)} must be {expected}, got {value}")

    def share(self, step: int) -> float:
        """Return the share of the peak rate for a step, counted from 0: warm-up, then cosine."""
        done = min(1.0, (step + 1) / max(1, self.warmup * self.steps))
        left = 0.5 + 0.5 * math.cos(math.pi * step / self.steps)
        return done * (self.floor + (1 - self.floor) * left)


@dataclass(frozen=True, slots=True)
class MiniSettings(Settings):
    """The settings of the small encoder."""

    fresh_lr: float = option(
        6e-4,
        "peak rate of the weights that MiniLM lacks; --lr is for its layers, and with --lr 0 only "
        "order is trained",
    )
    tokens: int = option(64, "maximum tokens of a text; longer texts are cut", least=3)
    drop_memory: float = option(0.15, "share of histories read without memory", below=1.0001)


GOING_ON: dict[str, Any] = {"steps": 100, "lr": 1e-5, "fresh_lr": 1e-4, "check_every": 25}
"""Defaults for training trained weights further."""


@dataclass(frozen=True, slots=True)
class EvoSettings(Settings):
    """The settings of EvoEmbedding; defaults are the reference's (arXiv:2606.21649) if it has them."""

    steps: int = option(0, "optimiser steps; for EvoEmbedding 0: one pass through the data")
    lr: float = option(5e-5, "peak learning rate")
    warmup: float = option(0.05, "share of the steps in which the rate rises", below=1)
    floor: float = option(0.1, "final rate, as a share of the peak", below=1)
    questions: int = option(8, "maximum questions per history and step", least=1)
    batch: int = option(2, "histories that share their forward passes", least=1)
    pack: int = option(16384, "positions of one forward pass, including padding", least=1)
    dropout: float = option(0.1, "dropout of the adapters' inputs", below=1)
    latents: int = option(0, "latents per turn; 0: as in the checkpoint, 16 for a new model")
    capacity: int = option(0, "length of the queue in latents; 0: as in the checkpoint, or 512")
    lora_rank: int = option(0, "rank of both adapters; 0: as in the checkpoint, or 64")
    dtype: str = option(
        "",
        "type of the computations, float32 or bfloat16; trained weights are kept in float32; if "
        "not given, bfloat16 on a GPU and float32 on the CPU",
        choices=("", "float32", "bfloat16"),
    )
    emb: str = option(
        "",
        "a new model's frozen embedding model (folder or hub id), whose weights go "
        "into the checkpoint for the reference and for native mode",
    )
