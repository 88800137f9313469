"""`evomem train`."""

from __future__ import annotations

import os
from argparse import Namespace
from dataclasses import fields

from rich.text import Text

from evomem.cli.screen import Screen, plain
from evomem.errors import InputError
from evomem.training.settings import GOING_ON, EvoSettings, MiniSettings, flag


def train(args: Namespace, screen: Screen) -> int:
    """Check everything, then train, or write the training data if requested."""
    # Imported here, since other commands do not need it.
    from evomem.training.evotrain import write_evotrain
    from evomem.training.sources import Base, gather, read_all

    if not (args.out or args.export):
        raise InputError("give --out, a folder for weights, log and checkpoints")
    base = Base.named(args.base)
    settings = _settings(args, base.kind)
    sizes = {"corpora": args.corpora, "turns": args.turns, "stories": args.stories}
    data = gather(args.data, **sizes, length=args.length, seed=settings.seed)
    dev = read_all(args.dev)
    if args.export:
        lines = write_evotrain(data, args.export)
        screen.result({"lines": lines}, Text(f"{lines:,} lines in {args.export}"))
        return 0
    turns = sum(len(conversation.turns) for conversation in data)
    asked = sum(len(conversation.questions) for conversation in data)
    speaks = os.environ.get("RANK", "0") == "0"  # of the processes that a launcher starts, one
    if speaks:
        screen.note(f"{len(data):,} histories, {turns:,} turns, {asked:,} questions")
    if isinstance(settings, EvoSettings):
        from evomem.training.evoembedding.trainer import train_evoembedding

        made = train_evoembedding(
            base, data, dev, args.out, settings, device=args.device, recompute=args.recompute
        )
        name = f"evoembedding:{made.resolve()}"
    else:
        from evomem.training.trainer import train_mini

        made = train_mini(base, data, dev, args.out, settings)
        name = f"mini:{made.resolve()}"
    if speaks:
        screen.result({"encoder": name}, Text(plain(f'evomem.open("agent.db", encoder="{name}")')))
    return 0


def _settings(args: Namespace, kind: str) -> MiniSettings | EvoSettings:
    """Return the settings of this kind of base; refuse settings of another kind."""
    made = EvoSettings if kind == "evoembedding" else MiniSettings
    known = {field.name for field in fields(made)}
    given = {
        setting.name: getattr(args, setting.name)
        for setting in (*fields(MiniSettings), *fields(EvoSettings))
        if hasattr(args, setting.name)
    }
    if foreign := sorted(set(given) - known):
        raise InputError(
            f"{', '.join(map(flag, foreign))} cannot be used with --base {args.base}; "
            "evomem train --help lists the options of each base"
        )
    if kind != "evoembedding" and os.environ.get("WORLD_SIZE", "1") != "1":
        raise InputError("the small encoder is trained by one process; start it without a launcher")
    if kind != "evoembedding" and args.device not in (None, "cpu"):
        raise InputError(
            f"the small encoder is trained on the CPU; leave out --device {args.device}"
        )
    return made(**{**(GOING_ON if kind == "mini" else {}), **given})
