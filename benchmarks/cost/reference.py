"""The reference's own model code, from a checkout, with the weights of our model.

Its file `model/evo_embedding.py` and its computations are unchanged. Only its dependencies are
replaced:

- The base and the embedding model are created from their shapes instead of fetched from the hub.
  (transformers 5 rejects what its constructor does, loading a model while another is being loaded.)
- Attention uses flash-attn where it is installed and can run, as in our model, otherwise PyTorch's; the
  reference asks for flash-attn everywhere.
- It writes no answers to disk and gets token ids, so formatting and tokenising are not timed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.cost.streaming import QUERY_TOKENS, TEXT_TOKENS, TURN_TOKENS
from evomem.errors import InputError
from evomem.evoembedding.attention import SDPA
from evomem.evoembedding.config import DecoderConfig
from evomem.evoembedding.model import EvoEmbedding, Ids, normalise
from evomem.evoembedding.tokens import Segment, SpecialIds
from evomem.state import Vectors
from evomem.training.evoembedding.base import published_name

VOCABULARY = 151_936  # Qwen3's, which contains the ids in the reference's code
SPECIAL = SpecialIds()
IM_START, NEWLINE, ASSISTANT = 151_644, 198, 77_091  # Qwen3's ids
MODEL_FILE = Path("model") / "evo_embedding.py"
EMBEDDING_MODEL = "Qwen/Qwen3-Embedding-0.6B"  # for its native mode, which is not measured


def load_code(checkout: Path) -> ModuleType:
    """Import the reference's model from a checkout.

    Raises:
        InputError: The folder is not a checkout, or a package that the code imports is missing.
    """
    path = checkout / MODEL_FILE
    if not path.is_file():
        raise InputError(
            f"{checkout} is not a checkout of the reference, because it has no {MODEL_FILE}: "
            "clone https://github.com/MiG-NJU/EvoEmbedding"
        )
    spec = importlib.util.spec_from_file_location("evoembedding_reference", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        raise InputError(
            f"{path} cannot be imported ({error}): install its requirements, such as peft"
        ) from error
    return module


class Reference:
    """The reference's `EvoRAGModel`, with the weights of our model."""

    def __init__(self, code: ModuleType, model: EvoEmbedding) -> None:
        """Load the weights of `model` into the model of `code`, on the same device and with the same dtype.

        Raises:
            InputError: The weights do not fit.
        """
        config, decoder = model.config, model.decoder.config
        flash = model.decoder.kernel is not SDPA
        code.AutoModelForCausalLM = _RandomModels(decoder, model, flash)  # type: ignore[attr-defined]
        self._model: nn.Module = code.EvoRAGModel(
            code.EvoRAGConfig(
                base_model_name_or_path="random",
                num_latents=config.num_latents,
                buffer_capacity=config.capacity,
                lora_r=config.lora_r,
                lora_alpha=config.lora_alpha,
            )
        )
        self._model.to(device=model.device, dtype=model.dtype).eval()
        weights = {published_name(name): value for name, value in model.state_dict().items()}
        loaded = self._model.load_state_dict(weights, strict=False)
        # The head is tied to the token embeddings, and the embedding model is not used.
        missing = [
            n for n in loaded.missing_keys if not n.startswith("emb_model.") and "lm_head" not in n
        ]
        if missing or loaded.unexpected_keys:
            raise InputError(
                f"the weights of our model do not fit the reference's: "
                f"missing {missing[:4]}, unexpected {loaded.unexpected_keys[:4]}"
            )
        self._causal: nn.Module = self._model.model.base_model.model
        self._head = self._causal.lm_head
        self._embeddings: list[Tensor] = []
        self._model.mem_to_emb.register_forward_hook(
            lambda *args: self._embeddings.append(args[-1].detach()[:, 0])
        )

    def embed(self, turns: Sequence[Segment], query: Ids, logits: bool = True) -> Vectors:
        """Embed turns and query as one call of the reference's client does: (turns + 1, E) float32.

        This is `send_message_retrieve`, protocol R: the memory is evolved over the whole history, and
        every turn is embedded with the queue before it as context.

        Args:
            turns: The whole history, as `conversation` returns it.
            query: The query, as `question` returns it.
            logits: Whether to compute next-token logits for every position. The reference computes
                them and does not use them; in a tiny model they are most of the work.
        """
        self._causal.lm_head = self._head if logits else nn.Identity()
        self._embeddings.clear()
        query_ids = list(query[len(SPECIAL.instruction) : -1])
        ids = [token for turn in turns for token in turn.ids]
        ids += [*_message(SPECIAL.user, query_ids), IM_START, ASSISTANT, NEWLINE]
        self._model.generate_retrieve_idx(  # type: ignore[operator]
            input_ids=torch.tensor([ids]),
            meta={"turns": [*(list(turn.text[:-1]) for turn in turns), query_ids]},
            save_dir=None,
        )
        return normalise(torch.cat(self._embeddings)).cpu().numpy()


class _RandomModels:
    """Replaces `AutoModelForCausalLM` in the reference's module: creates random models by shape."""

    def __init__(self, decoder: DecoderConfig, model: EvoEmbedding, flash: bool) -> None:
        self._decoder = decoder
        self._dim, self._device, self._dtype = model.dim, model.device, model.dtype
        self._attention = "flash_attention_2" if flash else "sdpa"

    def from_pretrained(self, name: str, **_: Any) -> nn.Module:
        """Return a random base, or a small model with the embedding model's width."""
        import transformers

        base = self._decoder
        values: dict[str, Any] = {
            "vocab_size": base.vocab_size,
            "hidden_size": base.hidden_size,
            "intermediate_size": base.intermediate_size,
            "num_hidden_layers": len(base.layer_types),
            "num_attention_heads": base.heads,
            "num_key_value_heads": base.kv_heads,
            "head_dim": base.head_dim,
            "rms_norm_eps": base.eps,
            "tie_word_embeddings": base.tied,
            "layer_types": list(base.layer_types),
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": base.rope_theta,
                "partial_rotary_factor": base.rotary_dim / base.head_dim,
            },
        }
        make: Any = transformers.Qwen3ForCausalLM
        config: Any = transformers.Qwen3Config
        if name == EMBEDDING_MODEL:
            values |= {"hidden_size": self._dim, "intermediate_size": 8, "vocab_size": 8}
            values |= {"num_hidden_layers": 1, "layer_types": None}
        elif base.linear:
            from transformers.models import qwen3_5  # not in transformers 4

            make, config = qwen3_5.Qwen3_5ForCausalLM, qwen3_5.Qwen3_5TextConfig
            linear = base.linear
            values |= {
                "linear_num_key_heads": linear.key_heads,
                "linear_num_value_heads": linear.value_heads,
                "linear_key_head_dim": linear.key_dim,
                "linear_value_head_dim": linear.value_dim,
                "linear_conv_kernel_dim": linear.kernel,
            }
        with torch.device(self._device):
            created: nn.Module = make._from_config(
                config(**values), attn_implementation=self._attention, dtype=self._dtype
            )
        return created


def conversation(count: int) -> list[Segment]:
    """Return a random conversation of `count` turns, in the reference's format."""
    turns = []
    for i in range(count):
        tokens = np.random.default_rng(i).integers(0, 500, TURN_TOKENS + TEXT_TOKENS).tolist()
        ids = _message(SPECIAL.user, tokens[: TURN_TOKENS - 5])
        turns.append(Segment.of_ids(ids, [*tokens[-TEXT_TOKENS + 1 :], SPECIAL.end]))
    return turns


def question(i: int) -> list[int]:
    """Return the query after turn `i`, preceded by the reference's instruction."""
    length = QUERY_TOKENS - len(SPECIAL.instruction) - 1
    ids = np.random.default_rng(10**6 + i).integers(0, 500, length).tolist()
    return [*SPECIAL.instruction, *ids, SPECIAL.end]


def _message(role: int, ids: Sequence[int]) -> list[int]:
    return [IM_START, role, NEWLINE, *ids, SPECIAL.im_end, NEWLINE]
