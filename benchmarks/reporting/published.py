"""Figures published by others, shown next to ours and marked as published."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Published:
    """Turn-level recall@10 in percent."""

    system: str
    macro: dict[str, float]
    """The mean over question types, by dataset."""
    source: str
    all: dict[str, float] = field(default_factory=dict)
    """The mean over questions, by dataset."""


_PAPER = "EvoEmbedding, arXiv 2606.21649, LMEB protocol"
PUBLISHED = (
    Published("EvoEmbedding-0.8B", {"locomo": 63.0, "realtalk": 58.0}, _PAPER),
    Published("EvoEmbedding-2B", {"locomo": 74.1, "realtalk": 60.7}, _PAPER),
    Published("EvoEmbedding-4B", {"locomo": 76.3, "realtalk": 62.6}, _PAPER),
    Published("Qwen3-Embedding-0.6B", {"locomo": 47.1, "realtalk": 46.5}, _PAPER),
    Published("KaLM-Embedding-12B", {"locomo": 58.2, "realtalk": 55.0}, _PAPER),
    Published("Nemotron-8B", {"locomo": 70.8, "realtalk": 55.5}, _PAPER),
    Published(
        "mxbai-rerank-large-v1 over 500 dense hits",
        {},
        "ConvMemory v2, arXiv 2606.10842: held-out questions of LoCoMo, five splits",
        {"locomo": 80.8},
    ),
)
