"""Writes checkpoints in the published layout (see "Checkpoint"), which the reference and evomem read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import save_torch_state_dict
from torch import Tensor

from evomem.training.evoembedding.base import Start, published_name


def save_checkpoint(begun: Start, masters: Mapping[str, Tensor], folder: Path) -> None:
    """Write `config.json` and safetensors, in shards of 5 GB; an older checkpoint is replaced.

    Frozen weights are exact copies of the stored ones; trained weights are float32.
    """
    tensors: dict[str, Tensor] = {}
    for weights, names in begun.frozen:
        tensors |= {names[stored]: tensor for stored, tensor in weights.read(names)}
    for name, tensor in masters.items():
        tensors[published_name(name)] = tensor.detach().cpu().contiguous()
    config = begun.model.config
    described = {
        "architectures": ["EvoRAGModel"],
        "model_type": "EvoRAG",
        "base_model_name_or_path": begun.base,
        "num_latents": config.num_latents,
        "buffer_capacity": config.capacity,
        "lora_r": config.lora_r,
        "lora_alpha": config.lora_alpha,
        "local_files_only": config.local_files_only,
    }
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    (partial / "config.json").write_text(json.dumps(described, indent=2) + "\n", "utf-8")
    save_torch_state_dict(tensors, partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)
