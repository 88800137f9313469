"""Tiny random checkpoints in the published format, made on the spot.

The tokenizer is trained in the process, the weights are drawn so that every part matters: norms far
from 1, adapters as strong as what they adapt, biases that are not 0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn

from evomem.evoembedding.checkpoint import BASE, EMB
from evomem.evoembedding.config import CheckpointConfig, DecoderConfig
from evomem.evoembedding.decoder import Decoder
from evomem.evoembedding.model import EvoEmbedding

CHATML = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + message.content "
    "+ '<|im_end|>' + '\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
WITH_SYSTEM = "{{- '<|im_start|>system\\nBe kind.<|im_end|>\\n' }}" + CHATML
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CORPUS = (
    "user assistant User: Assistant: Instruct: Given a web search query, retrieve relevant passages "
    "that answer the query\nQuery: I visited Paris in April. I bought a new laptop yesterday. "
    "Where did I travel in spring? The meeting was moved to Friday. Noted. Got it. one two three "
)
EMB_HIDDEN = 24

QWEN3: dict[str, Any] = {
    "model_type": "qwen3",
    "vocab_size": 512,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "tie_word_embeddings": True,
    "eos_token_id": 2,
}
QWEN3_5: dict[str, Any] = {
    **{k: v for k, v in QWEN3.items() if k != "rope_theta"},
    "model_type": "qwen3_5_text",
    "num_hidden_layers": 4,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 12,
    "linear_conv_kernel_dim": 4,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 1e6,
        "partial_rotary_factor": 0.5,
        "mrope_section": [2, 1, 1],
        "mrope_interleaved": True,
    },
}
BASES = {"qwen3": QWEN3, "qwen3_5": QWEN3_5}
MEMORY = {"num_latents": 4, "buffer_capacity": 24, "lora_r": 4, "lora_alpha": 8}


@dataclass(frozen=True)
class Tiny:
    """Folders of a checkpoint and of its base."""

    checkpoint: Path
    base: Path
    weights: Mapping[str, Tensor]
    """What the checkpoint holds, by stored name."""

    @property
    def where(self) -> dict[str, Any]:
        """Arguments that load it."""
        return {"base": str(self.base), "device": "cpu"}


def build(
    folder: Path,
    family: str = "qwen3",
    *,
    base: Mapping[str, Any] | None = None,
    memory: Mapping[str, Any] | None = None,
    template: str | None = CHATML,
    untied: bool = False,
    seed: int = 0,
) -> Tiny:
    """Write a checkpoint in float32, one file, and its base's configuration and tokenizer."""
    tiny = Tiny(folder / "checkpoint", folder / "base", {})
    tiny.checkpoint.mkdir(parents=True)
    tiny.base.mkdir()
    values = {**BASES[family], **(base or {}), "tie_word_embeddings": not untied}
    write_json(tiny.base / "config.json", values)
    write_tokenizer(tiny.base, template)
    config = {"model_type": "EvoRAG", "base_model_name_or_path": "nobody/nothing", **MEMORY}
    write_json(tiny.checkpoint / "config.json", {**config, **(memory or {}), "dtype": "bfloat16"})
    weights = draw(tiny, untied, seed)
    save(tiny.checkpoint, weights)
    return Tiny(tiny.checkpoint, tiny.base, weights)


def draw(tiny: Tiny, untied: bool, seed: int) -> dict[str, Tensor]:
    """Draw all weights of a checkpoint, by stored name."""
    decoder = DecoderConfig.read(tiny.base)
    model = EvoEmbedding(CheckpointConfig.read(tiny.checkpoint), decoder, EMB_HIDDEN)
    if untied:
        model.lm_head = nn.Linear(decoder.hidden_size, decoder.vocab_size, bias=False)
    emb_values = {**QWEN3, "hidden_size": EMB_HIDDEN, "vocab_size": decoder.vocab_size}
    emb_folder = tiny.checkpoint.parent / "emb"
    emb_folder.mkdir(exist_ok=True)
    write_json(emb_folder / "config.json", emb_values)
    generator = torch.Generator().manual_seed(seed)
    weights = {stored_name(n): value for n, value in randomise(model, generator).items()}
    emb = randomise(Decoder(DecoderConfig.read(emb_folder)), generator)
    return weights | {f"{EMB}model.{name}": value for name, value in emb.items()}


def randomise(module: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
    """Return random values for every parameter, at a size that keeps the network lively."""
    from_one = any(getattr(m, "from_one", False) for m in module.modules())
    values = {}
    for name, tensor in module.state_dict().items():
        noise = torch.randn(tensor.shape, generator=generator)
        if "norm" in name:
            zero_based = from_one and "linear_attn.norm" not in name
            values[name] = 0.2 * noise + (0.0 if zero_based else 1.0)
        elif tensor.dim() == 1:
            values[name] = 0.2 * noise
        elif "embed_tokens" in name or name == "memory_queries":
            values[name] = 0.5 * noise
        else:
            # With stronger random weights a recurrence magnifies rounding: the oracle itself then
            # moves by 5e-5 when its input moves by 1e-7.
            strength = 0.5 if "linear_attn" in name or "lora_B" in name else 0.8
            values[name] = strength * noise * tensor[0].numel() ** -0.5
    return values


def stored_name(name: str) -> str:
    """Return the published name of one of our parameters."""
    if name.startswith("decoder."):
        return f"{BASE}model.{name.removeprefix('decoder.')}"
    return f"{BASE}{name}" if name.startswith("lm_head") else name


def save(folder: Path, weights: Mapping[str, Tensor], shards: int = 1) -> None:
    """Write weights as `save_pretrained` does: one file, or shards with an index."""
    for old in folder.glob("model*"):
        old.unlink()
    if shards == 1:
        save_file(dict(weights), folder / "model.safetensors")
        return
    files: dict[str, str] = {}
    for i in range(shards):
        name = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        part = {key: weights[key] for key in list(weights)[i::shards]}
        save_file(part, folder / name)
        files |= dict.fromkeys(part, name)
    index = {"metadata": {"total_size": 0}, "weight_map": files}
    write_json(folder / "model.safetensors.index.json", index)


def write_tokenizer(folder: Path, template: str | None) -> None:
    """Train a byte-level BPE that knows `user` as one token, and write it as Qwen's is."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([CORPUS] * 20, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": 131072,
    }
    if template:
        settings["chat_template"] = template
    write_json(folder / "tokenizer_config.json", settings)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write an object."""
    path.write_text(json.dumps(values), "utf-8")
