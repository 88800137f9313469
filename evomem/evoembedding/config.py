"""The configurations of a checkpoint and of its base, read from `config.json`.

Unknown keys are ignored: published files contain many that do not affect the computation. A value
that would affect it in a way this package does not implement is refused (see "Configuration").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from evomem.errors import CheckpointError
from evomem.evoembedding.fields import Fields

LayerType = Literal["full_attention", "linear_attention"]
FULL: LayerType = "full_attention"
LINEAR: LayerType = "linear_attention"
FAMILIES = {"qwen3": "qwen3", "qwen3_5": "qwen3_5", "qwen3_5_text": "qwen3_5"}
HEAD_DIM = {"qwen3": 128, "qwen3_5": 256}  # default without the key, as in the published classes
ROTARY_FACTOR = {"qwen3": 1.0, "qwen3_5": 0.25}


@dataclass(frozen=True, slots=True)
class CheckpointConfig:
    """The memory's own settings (see "Configuration")."""

    base: str
    """Folder or hub id of the base's configuration and tokenizer; it may not exist."""
    num_latents: int
    """M, the number of latents that each turn appends."""
    capacity: int
    """Maximum number of latents in the queue."""
    lora_r: int
    lora_alpha: float
    local_files_only: bool

    @property
    def lora_scale(self) -> float:
        """The factor of an adapter's output."""
        return self.lora_alpha / self.lora_r

    @classmethod
    def read(cls, folder: Path) -> CheckpointConfig:
        """Read `config.json` in `folder`.

        Raises:
            CheckpointError: It is missing, is not JSON, describes another model, or has an invalid value.
        """
        fields = Fields.read(folder)
        kind = fields.values.get("model_type", "EvoRAG")
        if kind != "EvoRAG":
            raise CheckpointError(
                f"{fields.where} describes a model of type {kind!r}, not 'EvoRAG': "
                "this is not an EvoEmbedding checkpoint"
            )
        base = fields.values.get("base_model_name_or_path", "Qwen/Qwen3-4B-Instruct-2507")
        return cls(
            base=str(base),
            num_latents=fields.count("num_latents", 16),
            # The reference reads 0 as "unbounded" in one place and as "none" in another.
            capacity=fields.count("buffer_capacity", 512),
            lora_r=fields.count("lora_r", 64),
            lora_alpha=fields.number("lora_alpha", 128),
            local_files_only=bool(fields.values.get("local_files_only", False)),
        )


@dataclass(frozen=True, slots=True)
class LinearConfig:
    """Shapes of a gated delta rule layer (see "Qwen3.5")."""

    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    kernel: int

    @property
    def channels(self) -> int:
        """Inputs of the convolution: queries, keys and values."""
        return 2 * self.key_heads * self.key_dim + self.value_heads * self.value_dim


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """Shapes and constants of a Qwen3 or Qwen3.5 text decoder (see "Decoder")."""

    family: Literal["qwen3", "qwen3_5"]
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    heads: int
    kv_heads: int
    head_dim: int
    rotary_dim: int
    rope_theta: float
    eps: float
    layer_types: tuple[LayerType, ...]
    linear: LinearConfig | None
    tied: bool
    """Whether the output head is the embedding matrix."""
    stop_ids: tuple[int, ...]
    """Ids that end a generated text."""

    @classmethod
    def read(cls, folder: Path) -> DecoderConfig:
        """Read `config.json` in `folder`, or its `text_config` if the model is composite.

        Raises:
            CheckpointError: It is missing, is not JSON, or requires something that is not implemented.
        """
        return cls.parse(Fields.read(folder))

    @classmethod
    def parse(cls, outer: Fields) -> DecoderConfig:
        """Return the configuration that `outer` holds."""
        fields = outer.inner("text_config") if "text_config" in outer.values else outer
        family = FAMILIES.get(str(fields.values.get("model_type", outer.values.get("model_type"))))
        if family is None:
            raise fields.error(
                "model_type", f"one of {', '.join(FAMILIES)}", "no other base is implemented"
            )
        fields.refuse_unless("hidden_act", ("silu",))
        fields.refuse_unless("attention_bias", (False,))
        fields.refuse_unless("use_sliding_window", (False,))
        rope = fields.inner("rope_parameters") if fields.values.get("rope_parameters") else fields
        scaling = fields.inner("rope_scaling") if fields.values.get("rope_scaling") else rope
        for part in (rope, scaling):
            part.refuse_unless("rope_type", ("default",))
            part.refuse_unless("type", ("default", "mrope"))
        factor = rope if "partial_rotary_factor" in rope.values else fields
        heads, head_dim = (
            fields.count("num_attention_heads"),
            fields.count("head_dim", HEAD_DIM[family]),
        )
        kv_heads = fields.count("num_key_value_heads")
        if heads % kv_heads:
            raise fields.error("num_key_value_heads", f"a divisor of {heads}", "heads share keys")
        layer_types = _layer_types(fields, family)
        return cls(
            family=cast(Literal["qwen3", "qwen3_5"], family),
            vocab_size=fields.count("vocab_size"),
            hidden_size=fields.count("hidden_size"),
            intermediate_size=fields.count("intermediate_size"),
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            rotary_dim=int(
                head_dim * factor.number("partial_rotary_factor", ROTARY_FACTOR[family])
            ),
            rope_theta=(rope if "rope_theta" in rope.values else fields).number("rope_theta"),
            eps=fields.number("rms_norm_eps", 1e-6),
            layer_types=layer_types,
            linear=_linear(fields) if LINEAR in layer_types else None,
            tied=bool({**outer.values, **fields.values}.get("tie_word_embeddings", False)),
            stop_ids=_ids(fields.values.get("eos_token_id", outer.values.get("eos_token_id"))),
        )


def qwen3_embedding_config(shapes: Mapping[str, Sequence[int]]) -> DecoderConfig:
    """Return the configuration of the frozen embedding model, inferred from the shapes of its weights.

    The constants of attention and norms cannot be inferred; they are those published for
    Qwen3-Embedding-0.6B, the only model that the reference names.

    Args:
        shapes: Shape of every weight, by names such as `layers.0.self_attn.q_norm.weight`.

    Raises:
        CheckpointError: A weight whose shape is needed is missing.
    """
    try:
        vocab_size, hidden_size = shapes["embed_tokens.weight"]
        [head_dim] = shapes["layers.0.self_attn.q_norm.weight"]
        return DecoderConfig(
            family="qwen3",
            vocab_size=vocab_size,
            hidden_size=hidden_size,
            intermediate_size=shapes["layers.0.mlp.gate_proj.weight"][0],
            heads=shapes["layers.0.self_attn.q_proj.weight"][0] // head_dim,
            kv_heads=shapes["layers.0.self_attn.k_proj.weight"][0] // head_dim,
            head_dim=head_dim,
            rotary_dim=head_dim,
            rope_theta=1e6,
            eps=1e-6,
            layer_types=(FULL,) * len({k.split(".")[1] for k in shapes if ".mlp." in k}),
            linear=None,
            tied=True,
            stop_ids=(),
        )
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"the embedding model's shape cannot be inferred from the checkpoint's weights ({error}); "
            "pass emb= with the folder of its config.json, or do not use native mode"
        ) from error


def _layer_types(fields: Fields, family: str) -> tuple[LayerType, ...]:
    count = fields.count("num_hidden_layers")
    given = fields.values.get("layer_types")
    if given is None:
        every = fields.count("full_attention_interval", 4) if family == "qwen3_5" else 1
        pattern: tuple[LayerType, ...] = (LINEAR,) * (every - 1) + (FULL,)
        return (pattern * count)[:count]
    allowed = (FULL, LINEAR)[: 2 if family == "qwen3_5" else 1]
    if not isinstance(given, list) or len(given) != count or not set(given) <= set(allowed):
        raise fields.error("layer_types", f"{count} of {' or '.join(allowed)}", "see the base")
    return tuple(given)


def _linear(fields: Fields) -> LinearConfig:
    linear = LinearConfig(
        key_heads=fields.count("linear_num_key_heads"),
        value_heads=fields.count("linear_num_value_heads"),
        key_dim=fields.count("linear_key_head_dim"),
        value_dim=fields.count("linear_value_head_dim"),
        kernel=fields.count("linear_conv_kernel_dim", 4),
    )
    if linear.value_heads % linear.key_heads:
        raise fields.error(
            "linear_num_value_heads", f"a multiple of {linear.key_heads}", "heads share keys"
        )
    return linear


def _ids(value: object) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(v for v in values if isinstance(v, int))
