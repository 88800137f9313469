"""Models of the published shapes with random weights, and their cost per token."""

from __future__ import annotations

import time

import torch

from evomem.evoembedding.attention import choose_attention
from evomem.evoembedding.config import (
    FULL,
    LINEAR,
    CheckpointConfig,
    DecoderConfig,
    LayerType,
    LinearConfig,
)
from evomem.evoembedding.model import EvoEmbedding
from evomem.evoembedding.reader import Reader
from evomem.state import Dtype, Spec

HYBRID: tuple[LayerType, ...] = (LINEAR, LINEAR, LINEAR, FULL)
VOCABULARY = 32_000  # token embeddings are looked up, not multiplied: more would only take memory


def decoder_of(name: str, vocabulary: int = VOCABULARY) -> DecoderConfig:
    """Return the shape of a base: `tiny` (for a CPU), `0.8B`, `2B` or `4B`.

    0.8B and 4B have their published configurations; 2B is 0.8B with double width, as in its family.
    """
    hidden, inner, layers, heads, kv_heads, head = {
        "tiny": (256, 768, 6, 8, 4, 32),
        "0.8B": (1024, 3584, 24, 8, 2, 256),
        "2B": (2048, 6144, 24, 8, 2, 256),
        "4B": (2560, 9728, 36, 32, 8, 128),
    }[name]
    hybrid = name in ("0.8B", "2B")
    return DecoderConfig(
        family="qwen3_5" if hybrid else "qwen3",
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=inner,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head,
        rotary_dim=head // 4 if hybrid else head,
        rope_theta=1e7 if hybrid else 5e6,
        eps=1e-6,
        layer_types=HYBRID * (layers // 4) if hybrid else (FULL,) * layers,
        linear=LinearConfig(16, 16, 128, 128, 4) if hybrid else None,
        tied=True,
        stop_ids=(),
    )


def random_reader(
    name: str,
    device: torch.device,
    dtype: torch.dtype,
    cache_bytes: int | None = None,
    vocabulary: int = VOCABULARY,
) -> Reader:
    """Return a reader of a random model of a shape, with the reference's memory settings."""
    small = name == "tiny"
    memory = CheckpointConfig("", 16, 512, 16 if small else 64, 32.0 if small else 128.0, False)
    decoder = decoder_of(name, vocabulary)
    dim = decoder.hidden_size if small else 1024
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = EvoEmbedding(memory, decoder, dim).eval()
    finally:
        torch.set_default_dtype(before)
    torch.nn.init.normal_(model.memory_queries)
    model.decoder.kernel = choose_attention(device, dtype)
    kind: Dtype = "bfloat16" if dtype == torch.bfloat16 else "float32"
    spec = Spec(name, name, dim, memory.num_latents, decoder.hidden_size, memory.capacity, kind)
    return Reader(model, spec, cache_bytes)


def weights_of(model: EvoEmbedding) -> int:
    """Return the number of weights per token: with one adapter, without token embeddings."""
    return sum(
        weight.numel()
        for name, weight in model.decoder.named_parameters()
        if weight.ndim == 2 and "embed_tokens" not in name and "retriever" not in name
    )


def peak(device: torch.device, dtype: torch.dtype) -> float:
    """Return the FLOP/s that a large matrix product reaches on this device, the peak.

    On a CPU, they are per CPU second of this process, which other processes do not affect.
    """
    size = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    now = time.perf_counter if device.type == "cuda" else time.process_time
    best = 0.0
    for _ in range(10):
        settle(device)
        start = now()
        for _ in range(3):
            a @ b
        settle(device)
        best = max(best, 3 * 2 * size**3 / (now() - start))
    return best


def settle(device: torch.device) -> None:
    """Wait until a GPU has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
