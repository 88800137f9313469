"""EvoEmbedding (arXiv:2606.21649): the published checkpoints, exactly, in one pass per turn.

`EvoEmbeddingClient` answers the reference's calls on whole conversations; `EvoEmbeddingEncoder`
reads a conversation as a stream and is what a memory uses. Section names in this package, as in
`see "Chunks"`, are those of docs/reference/evoembedding-model.md.
"""

from __future__ import annotations

from typing import Any

from evomem.encoder import Encoder
from evomem.errors import EncoderError
from evomem.evoembedding.client import EvoEmbeddingClient
from evomem.evoembedding.encoder import EvoEmbeddingEncoder

__all__ = ["EvoEmbeddingClient", "EvoEmbeddingEncoder", "load"]


def load(
    source: str, *, device: str | None = None, dtype: str | None = None, **options: Any
) -> Encoder:
    """Load an encoder from a checkpoint's folder or hub id; the entry point `evoembedding`.

    Args:
        source: Such as `"MiG-NJU/EvoEmbedding-4B"`.
        device: See `load_checkpoint`.
        dtype: See `load_checkpoint`.
        **options: `base`, `special_ids` and `cache_bytes` of `EvoEmbeddingEncoder`.

    Raises:
        EncoderError: No checkpoint was named, or it cannot be loaded.
    """
    if not source:
        raise EncoderError(
            "name a checkpoint: 'evoembedding:MiG-NJU/EvoEmbedding-4B', or a folder after the colon"
        )
    return EvoEmbeddingEncoder(source, device=device, dtype=dtype, **options)
