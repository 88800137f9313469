"""Loads published EvoEmbedding checkpoints in a given precision; unknown or damaged content is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import torch
from torch import nn

from evomem.errors import CheckpointError, EncoderError
from evomem.evoembedding.attention import choose_attention
from evomem.evoembedding.config import CheckpointConfig, DecoderConfig, qwen3_embedding_config
from evomem.evoembedding.decoder import Decoder
from evomem.evoembedding.files import Weights, fill, resolve
from evomem.evoembedding.model import EvoEmbedding
from evomem.evoembedding.tokens import SpecialIds, Tokens
from evomem.state import Dtype, Spec

FORMAT = "evoembedding-1: turns by template, chunks of 16 turns or 2048 tokens"
"""Part of the fingerprint. Change it whenever token ids, chunks or the arithmetic change."""

BASE = "model.base_model.model."  # PEFT wraps the causal LM, hence `model.base_model.model.model.`
EMB = "emb_model."
DTYPES: dict[Dtype, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded model, its tokenizer, and their description for a store."""

    model: EvoEmbedding
    tokens: Tokens
    spec: Spec
    weights: Weights
    emb: Path | None

    def load_native(self) -> Decoder:
        """Load the frozen embedding model that native mode uses (see "Native mode").

        Raises:
            CheckpointError: It is missing, or has fewer ids than the base's tokenizer, as with
                Qwen3.5 bases.
        """
        names = {name: _emb_name(name) for name in self.weights.shapes if name.startswith(EMB)}
        names = {stored: name for stored, name in names.items() if name != "lm_head.weight"}
        shapes = {name: self.weights.shapes[stored] for stored, name in names.items()}
        config = DecoderConfig.read(self.emb) if self.emb else qwen3_embedding_config(shapes)
        ids = len(self.tokens.tokenizer)
        if ids > config.vocab_size:
            raise CheckpointError(
                f"native mode needs a base that shares the embedding model's vocabulary: its "
                f"tokenizer has {ids:,} ids, the embedding model knows {config.vocab_size:,}"
            )
        with torch.device("meta"):
            decoder = Decoder(config)
        fill(decoder, names, self.weights, self.model.device, self.model.dtype)
        decoder.kernel = self.model.decoder.kernel
        return decoder


def load_checkpoint(
    source: str,
    *,
    base: str | None = None,
    emb: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    special_ids: Mapping[str, Any] | SpecialIds | None = None,
) -> Checkpoint:
    """Load a checkpoint from a folder or the hub.

    Args:
        source: Folder or hub id of the checkpoint.
        base: Folder or hub id of the base, for its `config.json` and tokenizer only; by default
            the base that the checkpoint's configuration names.
        emb: Folder of the embedding model's `config.json`, for native mode; by default its shape
            is inferred from the weights.
        device: Such as `"cuda:1"`; by default CUDA if there is one, else the CPU.
        dtype: `"float32"`, `"bfloat16"` or `"float16"`; by default bfloat16 on CUDA, float32 on the
            CPU. All weights are cast to it.
        special_ids: Ids that replace those derived from the tokenizer (see "Special ids").

    Raises:
        CheckpointError: A file or weight is missing, unexpected, of the wrong shape, damaged or
            pickled.
        EncoderError: The device or the dtype cannot be used.
    """
    where, precision = placement(device, dtype)
    folder = resolve(
        source, weights=True, remedy="give the checkpoint's folder or a hub id such as "
        "'MiG-NJU/EvoEmbedding-4B'"
    )  # fmt: skip
    config = CheckpointConfig.read(folder)
    weights = Weights(folder)
    base_folder = resolve(
        base or config.base,
        weights=False,
        remedy="pass base= with the folder or hub id of the base model",
        local_only=config.local_files_only,
    )
    decoder = DecoderConfig.read(base_folder)
    tokens = load_tokens(base_folder, special_ids, decoder.vocab_size)

    [dim, _] = _shape(weights, "mem_to_emb.2.weight", 2)
    with torch.device("meta"):
        model = EvoEmbedding(config, decoder, dim)
        if BASE + "lm_head.weight" in weights.shapes:
            model.lm_head = nn.Linear(decoder.hidden_size, decoder.vocab_size, bias=False)
    stored = {name for name in weights.shapes if not name.startswith(EMB)}
    names = {name: _model_name(name) for name in stored}
    samples = fill(model, names, weights, where, DTYPES[precision])
    model.decoder.kernel = choose_attention(where, DTYPES[precision])

    fingerprint = hashlib.sha256(
        repr((FORMAT, precision, config.num_latents, config.capacity, config.lora_scale, decoder,
              tokens.special, tokens.tokenizer.chat_template)).encode()
    )  # fmt: skip
    fingerprint.update(_vocabulary(base_folder))
    for name in sorted(samples):
        about = (name, weights.shapes[name], weights.dtypes[name], samples[name])
        fingerprint.update(repr(about).encode())
    spec = Spec(
        name=_name(source, base),
        fingerprint=fingerprint.hexdigest(),
        dim=dim,
        latents=config.num_latents,
        width=decoder.hidden_size,
        capacity=config.capacity,
        dtype=precision,
    )
    return Checkpoint(model.eval(), tokens, spec, weights, Path(emb).expanduser() if emb else None)


def _name(source: str, base: str | None) -> str:
    """Return the argument of `load_encoder` that loads the same checkpoint from any working directory."""

    def absolute(place: str) -> str:
        folder = Path(place).expanduser()
        return str(folder.resolve()) if folder.is_dir() else place

    given = f"?{urlencode({'base': absolute(base)}, safe='/')}" if base else ""
    return f"evoembedding:{absolute(source)}{given}"


def placement(device: str | None, dtype: str | None) -> tuple[torch.device, Dtype]:
    """Return the device and the dtype of a model; see `load_checkpoint`.

    Raises:
        EncoderError: The device or the dtype cannot be used.
    """
    try:
        where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=where)
    except (RuntimeError, AssertionError) as error:  # an assertion, in builds without CUDA
        raise EncoderError(f"the device {device!r} cannot be used here: {error}") from error
    chosen = dtype or ("bfloat16" if where.type == "cuda" else "float32")
    for name in DTYPES:
        if name == chosen:
            return where, name
    raise EncoderError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")


def load_tokens(
    folder: Path, special_ids: Mapping[str, Any] | SpecialIds | None, vocab_size: int
) -> Tokens:
    """Return the tokenizer in a base's folder.

    Raises:
        CheckpointError: It cannot be loaded, or yields ids that the base does not have.
    """
    # Imported here because it takes seconds, and training and tests build models without a tokenizer.
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # a broken tokenizer file may raise anything
        raise CheckpointError(
            f"the tokenizer in {folder} cannot be loaded ({error}); pass base= with a folder that "
            "holds tokenizer.json and tokenizer_config.json"
        ) from error
    special = SpecialIds.of(tokenizer, special_ids)
    largest = max(special.largest, len(tokenizer) - 1)
    if largest >= vocab_size:
        raise CheckpointError(
            f"the tokenizer or special_ids contain the id {largest}, but the base has {vocab_size} ids; "
            "pass base= with the tokenizer this checkpoint was trained with, or other special_ids="
        )
    return Tokens(tokenizer, special)


def _vocabulary(folder: Path) -> bytes:
    """Return the digests of the tokenizer's file, or of the files that it is built from."""
    paths = [folder / "tokenizer.json"]
    if not paths[0].is_file():
        paths = [folder / "vocab.json", folder / "merges.txt"]
    return b"".join(hashlib.sha256(path.read_bytes()).digest() for path in paths if path.is_file())


def _model_name(stored: str) -> str:
    """Return the name in `EvoEmbedding` of a stored weight: the base's begin with `decoder.`, others are unchanged."""
    if stored.startswith(BASE + "model."):
        return "decoder." + stored.removeprefix(BASE + "model.")
    return stored.removeprefix(BASE) if stored == BASE + "lm_head.weight" else stored


def _emb_name(stored: str) -> str:
    return stored.removeprefix(EMB).removeprefix("model.")


def _shape(weights: Weights, name: str, rank: int) -> tuple[int, ...]:
    shape = weights.shapes.get(name, ())
    if len(shape) != rank:
        raise CheckpointError(
            f"{weights.folder} has no {rank}-dimensional {name}: not an EvoEmbedding checkpoint"
        )
    return shape
