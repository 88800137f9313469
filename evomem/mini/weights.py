"""Weights of the small encoder: from MiniLM, to one safetensors file and back.

The file holds float16 tensors; the table of words, half of all weights, is int8 with one scale a
row. Nothing is pickled.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from evomem.errors import CheckpointError
from evomem.mini.config import MiniConfig
from evomem.mini.model import MiniModel

TABLE = "words.weight"
SCALE = "words.scale"
RENAMED = {
    "attention.output.dense": "out",
    "attention.output.LayerNorm": "norm",
    "intermediate.dense": "grow",
    "output.dense": "shrink",
    "output.LayerNorm": "last_norm",
}


def from_minilm(file: Path, config: MiniConfig | None = None) -> MiniModel:
    """Create a model from a MiniLM checkpoint, with the embeddings of sentence-transformers and no memory.

    Args:
        file: `model.safetensors` of all-MiniLM-L6-v2.
        config: Shapes; MiniLM's by default.

    Raises:
        CheckpointError: A tensor is missing or has another shape.
    """
    config = config or MiniConfig()
    given = _read(file)
    model = MiniModel(config)
    try:
        kind = given["embeddings.token_type_embeddings.weight"][0]
        tensors = {
            TABLE: given["embeddings.word_embeddings.weight"],
            "places.weight": given["embeddings.position_embeddings.weight"] + kind,
            "norm.weight": given["embeddings.LayerNorm.weight"],
            "norm.bias": given["embeddings.LayerNorm.bias"],
        }
        for number in range(config.layers):
            for end in ("weight", "bias"):
                old, new = f"encoder.layer.{number}", f"layers.{number}"
                parts = [
                    given[f"{old}.attention.self.{name}.{end}"]
                    for name in ("query", "key", "value")
                ]
                tensors[f"{new}.qkv.{end}"] = torch.cat(parts)
                for theirs, ours in RENAMED.items():
                    tensors[f"{new}.{ours}.{end}"] = given[f"{old}.{theirs}.{end}"]
    except KeyError as error:
        raise CheckpointError(f"{file} is not a MiniLM checkpoint: no tensor {error}") from error
    _fill(model, {**model.state_dict(), **tensors}, file)
    return model


def save(model: MiniModel, file: Path) -> None:
    """Write the weights in half precision, the table of words in 8 bits."""
    state = {name: value.detach().half() for name, value in model.state_dict().items()}
    table = model.words.weight.detach().float()
    scale = table.abs().amax(1, keepdim=True).clamp(min=1e-8) / 127
    state[TABLE] = (table / scale).round().to(torch.int8)
    state[SCALE] = scale[:, 0].contiguous()
    save_file(state, file, {"config": model.config.to_json()})


def load(file: Path) -> MiniModel:
    """Read what `save` wrote, as float32.

    Raises:
        CheckpointError: A tensor is missing, is unknown, or has another shape, or the configuration
            is not of this version.
    """
    state = _read(file)
    with safe_open(file, "pt") as opened:
        described = (opened.metadata() or {}).get("config", "")
    try:
        model = MiniModel(MiniConfig.from_json(described))
    except CheckpointError as error:
        raise CheckpointError(
            f"{file} has no weights for this version's small encoder: {error}; train it again "
            "(docs/guides/training.md)"
        ) from error
    scale = state.pop(SCALE, None)
    if scale is None or TABLE not in state:
        raise CheckpointError(f"{file} has no {TABLE} with its {SCALE}; is it whole?")
    state[TABLE] = state[TABLE].float() * scale[:, None].float()
    _fill(model, {name: value.float() for name, value in state.items()}, file)
    return model


def _read(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file} cannot be read as safetensors: {error}") from error


def _fill(model: MiniModel, state: dict[str, Tensor], file: Path) -> None:
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{file} does not fit the small encoder: {error}") from error
