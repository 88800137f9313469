"""The model from which training starts: Qwen3 or Qwen3.5 with a new memory, or a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from evomem.errors import CheckpointError, InputError
from evomem.evoembedding.attention import choose_attention
from evomem.evoembedding.checkpoint import (
    BASE,
    DTYPES,
    EMB,
    load_checkpoint,
    load_tokens,
    placement,
)
from evomem.evoembedding.config import CheckpointConfig, DecoderConfig
from evomem.evoembedding.decoder import Decoder
from evomem.evoembedding.fields import Fields
from evomem.evoembedding.files import Weights, fill, resolve
from evomem.evoembedding.model import EvoEmbedding
from evomem.evoembedding.tokens import Tokens
from evomem.training.settings import EvoSettings
from evomem.training.sources import Base

LATENTS, CAPACITY, LORA_RANK = 16, 512, 64  # as in the reference
EMB_SIZE = 1024  # the size of Qwen3-Embedding-0.6B, which determines E in the reference
TEXT = "model.language_model."  # prefix of the text decoder in a composite model
REMEDY = "give a folder with config.json and safetensors, or a hub id such as 'Qwen/Qwen3-0.6B'"


@dataclass(frozen=True, slots=True)
class Start:
    """A model to be trained, and the other contents of its checkpoint."""

    model: EvoEmbedding
    """Only trained parameters require gradients (see "Training objective")."""
    masters: dict[str, Tensor]
    """The trained parameters in float32, by name."""
    tokens: Tokens
    base: str
    """The folder of the base's configuration and tokenizer."""
    frozen: list[tuple[Weights, Mapping[str, str]]]
    """Files, and the published names of their tensors that are written unchanged."""

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that are trained, by name."""
        return {n: p for n, p in self.model.named_parameters() if p.requires_grad}


def start(base: Base, settings: EvoSettings, device: str | None = None) -> Start:
    """Load a base, or continue from an EvoEmbedding checkpoint.

    Args:
        base: Folder or hub id.
        settings: Seed and dtype; for a new model also the sizes of its memory, and its embedding
            model, which determines the size of embeddings.
        device: See `load_checkpoint`.

    Raises:
        CheckpointError: A file or weight is missing, has the wrong shape, is damaged, or the model is
            not implemented.
        InputError: The settings require other sizes than those of the checkpoint.
        EncoderError: The device or the dtype cannot be used.
    """
    folder = resolve(base.source, weights=True, remedy=REMEDY)
    if Fields.read(folder).values.get("model_type") == "EvoRAG":
        if settings.emb:
            raise InputError(f"--emb is for new models; {base.source} has its own")
        started = _resumed(base, folder, settings, device)
    else:
        started = _new(base.source, folder, settings, device)
    started.tokens.check_turnwise()
    if started.model.lm_head is None and not started.model.decoder.config.tied:
        raise CheckpointError(
            f"{base.source} has no lm_head.weight and does not tie it to its embeddings, but "
            "answers are learnt with it; take a checkpoint that has it"
        )
    for name, parameter in started.model.named_parameters():
        parameter.requires_grad_(name in started.masters)
    return started


def _new(source: str, folder: Path, settings: EvoSettings, device: str | None) -> Start:
    where, precision = placement(device, settings.dtype or None)
    decoder = DecoderConfig.read(folder)
    tokens = load_tokens(folder, None, decoder.vocab_size)
    weights = Weights(folder)
    names = _text_names(weights, decoder.tied)
    frozen: list[tuple[Weights, Mapping[str, str]]] = [
        (weights, {stored: _published(name) for stored, name in names.items()})
    ]
    dim = EMB_SIZE
    if settings.emb:
        emb_folder = resolve(settings.emb, weights=True, remedy=REMEDY)
        dim = DecoderConfig.read(emb_folder).hidden_size
        emb_weights = Weights(emb_folder)
        frozen.append((emb_weights, _emb_names(emb_weights)))
    with torch.device("meta"):
        plain = nn.ModuleDict({"model": Decoder(decoder)})
        if "lm_head.weight" in names.values():
            plain["lm_head"] = nn.Linear(decoder.hidden_size, decoder.vocab_size, bias=False)
    fill(plain, names, weights, where, DTYPES[precision])
    config = CheckpointConfig(
        base=_absolute(source),
        num_latents=settings.latents or LATENTS,
        capacity=settings.capacity or CAPACITY,
        lora_r=settings.lora_rank or LORA_RANK,
        lora_alpha=2.0 * (settings.lora_rank or LORA_RANK),
        local_files_only=False,
    )
    with torch.device("meta"):
        model = EvoEmbedding(config, decoder, dim)
        if "lm_head" in plain:
            model.lm_head = nn.Linear(decoder.hidden_size, decoder.vocab_size, bias=False)
    given = plain.state_dict()
    state, masters = {}, {}
    generator = torch.Generator().manual_seed(settings.seed)
    for name, tensor in model.state_dict().items():
        plain_name = name.replace("decoder.", "model.", 1).replace(".base_layer", "")
        if plain_name in given:
            state[name] = given[plain_name]
        else:
            masters[name] = _drawn(name, tensor.shape, generator).to(where)
            state[name] = masters[name].to(DTYPES[precision], copy=True)
    model.load_state_dict(state, assign=True)
    model.decoder.kernel = choose_attention(where, DTYPES[precision])
    return Start(model, masters, tokens, config.base, frozen)


def _resumed(base: Base, folder: Path, settings: EvoSettings, device: str | None) -> Start:
    config = CheckpointConfig.read(folder)
    own = {"latents": config.num_latents, "capacity": config.capacity, "lora_rank": config.lora_r}
    for name, value in own.items():
        asked = getattr(settings, name)
        if asked and asked != value:
            raise InputError(
                f"--{name.replace('_', '-')} is {asked}, but {base.source} was trained with "
                f"{value}, which cannot be changed; leave the option out"
            )
    loaded = load_checkpoint(
        base.source, base=base.base, device=device, dtype=settings.dtype or None
    )
    weights = loaded.weights
    names = {published_name(name): name for name in loaded.model.state_dict()}
    # Read again, because the loaded ones may have been cast to a lower precision.
    masters = {
        names[stored]: tensor.to(loaded.model.device, torch.float32)
        for stored, tensor in weights.read(filter(_is_trained, names))
    }
    frozen = {stored: stored for stored in weights.shapes if not _is_trained(stored)}
    where = _absolute(base.base) if base.base else config.base
    return Start(loaded.model, masters, loaded.tokens, where, [(weights, frozen)])


def _absolute(place: str) -> str:
    """Return a folder's full path; a hub id unchanged."""
    folder = Path(place).expanduser()
    return str(folder.resolve()) if folder.is_dir() else place


def published_name(name: str) -> str:
    """Return the published name of a parameter (see "Checkpoint")."""
    if name.startswith("decoder."):
        return f"{BASE}model.{name.removeprefix('decoder.')}"
    return f"{BASE}{name}" if name.startswith("lm_head") else name


def _is_trained(published: str) -> bool:
    return not published.startswith((BASE, EMB)) or ".lora_" in published


def _text_names(weights: Weights, tied: bool) -> dict[str, str]:
    """Map a base's stored names to their plain names, without the weights of vision and other parts."""
    composite = any(name.startswith(TEXT) for name in weights.shapes)
    prefix = TEXT if composite else "model."
    names = {
        name: "model." + name.removeprefix(prefix)
        for name in weights.shapes
        if name.startswith(prefix)
    }
    if not tied and "lm_head.weight" in weights.shapes:
        names["lm_head.weight"] = "lm_head.weight"
    return names


def _published(plain: str) -> str:
    """Return the published name of a base's weight: those of adapted linear layers contain `base_layer`."""
    module, _, end = plain.rpartition(".")
    adapted = module.endswith("_proj") and "linear_attn" not in module
    return f"{BASE}{module}.base_layer.{end}" if adapted else BASE + plain


def _emb_names(weights: Weights) -> dict[str, str]:
    return {
        name: f"{EMB}model.{name.removeprefix('model.')}"
        for name in weights.shapes
        if name != "lm_head.weight"
    }


def _drawn(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Return a new parameter's initial value (see "Training objective")."""
    if name == "memory_queries":
        return torch.randn(shape, generator=generator) * 0.02
    if ".lora_A." in name:  # as in nn.Linear: uniform within 1 / sqrt(inputs)
        return (torch.rand(shape, generator=generator) * 2 - 1) / math.sqrt(shape[-1])
    if ".lora_B." in name or name.endswith(".bias"):
        return torch.zeros(shape)
    return torch.eye(*shape)
