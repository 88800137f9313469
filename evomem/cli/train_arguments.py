"""The arguments of `evomem train`, and its help."""

from __future__ import annotations

from argparse import SUPPRESS, ArgumentParser, BooleanOptionalAction
from dataclasses import fields
from pathlib import Path
from typing import Any

from evomem.training.settings import GOING_ON, EvoSettings, MiniSettings, flag

SENTENCE = """\
Train an encoder on histories and questions whose answers are known: check all data, then train, then
write weights that a memory can use. If it is stopped, the same command continues after the last checkpoint.

A line of data is a question, the turns before it, and which of them answer it (counted from 0):

  {"messages": [{"role": "user", "content": "Where do I live?"},
                {"role": "assistant", "content": "In Oslo."}],
   "meta": {"turns": ["User: I moved to Oslo.", "Where do I live?"], "evidence_turns": [0]}}

docs/guides/training.md shows the way from a chat log to a trained encoder.\
"""

EXAMPLES = """\
  evomem train --data log.jsonl --base mini --out trained
  evomem train --data train/ --dev dev.jsonl --base Qwen/Qwen3-0.6B --out evo --dtype bfloat16
  accelerate launch -m evomem.training --data train/ --base Qwen/Qwen3-4B --out evo"""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's own arguments."""
    add = parser.add_argument
    add("--data", metavar="SOURCE", nargs="+", default=[],
        help="the training data: .jsonl or .jsonl.xz files, folders of them, or "
        "dataset:HUB-ID-OR-FOLDER for the datasets package")  # fmt: skip
    add("--dev", metavar="SOURCE", nargs="+", default=[],
        help="data to compute recall@10 on during training, in the same form")  # fmt: skip
    add("--base", metavar="NAME", default="mini",
        help="the model to start from: mini (the bundled encoder, the default), mini:FILE (one you "
        "trained), minilm, or the folder or hub id of a Qwen3 or Qwen3.5 model or of an "
        "EvoEmbedding checkpoint")  # fmt: skip
    add("--out", metavar="FOLDER", type=Path,
        help="where weights, log.jsonl, settings.json and checkpoints go")  # fmt: skip
    add("--device", help="where EvoEmbedding is trained, such as cpu or cuda (default: a GPU if "
        "there is one; the small encoder is trained on the CPU)")  # fmt: skip
    add("--json", action="store_true", help="write JSON, and nothing else, to stdout")
    small = {field.name: field for field in fields(MiniSettings)}
    large = {setting.name: setting for setting in fields(EvoSettings)}
    both, first, second = map(
        parser.add_argument_group, ("how it learns", "mini and minilm only", "EvoEmbedding only")
    )
    for name in small | large:
        group = both if name in small and name in large else first if name in small else second
        about = (small | large)[name].metadata["help"]
        group.add_argument(
            flag(name), type=type((small | large)[name].default), default=SUPPRESS,
            help=f"{about} ({_defaults(name)})",
        )  # fmt: skip
    second.add_argument("--recompute", action=BooleanOptionalAction, default=True,
        help="recompute activations instead of keeping them (gradient checkpointing): a third "
        "slower, much less memory (default: yes)")  # fmt: skip
    made = parser.add_argument_group("generated data: how the bundled encoder was trained")
    made.add_argument("--corpora", metavar="FOLDER", type=Path,
        help="the public corpora to convert (see evomem/mini/MODEL_CARD.md)")  # fmt: skip
    made.add_argument("--turns", metavar="N", type=int, default=18000,
        help="turns to take from them (default: 18000)")  # fmt: skip
    made.add_argument("--stories", metavar="N", type=int, default=0,
        help="generated life stories to add (default: 0)")  # fmt: skip
    made.add_argument("--length", metavar="N", type=int, default=56,
        help="turns of a converted or generated history (default: 56)")  # fmt: skip
    made.add_argument("--export", metavar="FILE", type=Path,
        help="write all data to this file, and do not train")  # fmt: skip


def _defaults(name: str) -> str:
    """Return the default of a setting for each kind of base."""
    kinds: dict[str, dict[str, Any]] = {
        "minilm" if name in GOING_ON else "mini and minilm": {
            field.name: field.default for field in fields(MiniSettings)
        },
        "mini": GOING_ON,
        "EvoEmbedding": {setting.name: setting.default for setting in fields(EvoSettings)},
    }
    by_kind = {kind: values[name] for kind, values in kinds.items() if name in values}
    if len(set(by_kind.values())) == 1:
        [value] = set(by_kind.values())
        return f"default: {value}" if value != "" else "default: none"
    return "default: " + ", ".join(f"{kind} {value}" for kind, value in by_kind.items())
