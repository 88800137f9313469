"""Tiny checkpoints of both base families, made once."""

from __future__ import annotations

import pytest

from tests.evoembedding.tiny import build


@pytest.fixture(scope="session", params=["qwen3", "qwen3_5"])
def tiny(request, tmp_path_factory):
    """A checkpoint on each base family; its queue holds 26 latents, no multiple of its 4 a turn."""
    folder = tmp_path_factory.mktemp(request.param)
    return build(folder, request.param, memory={"buffer_capacity": 26})


@pytest.fixture
def fresh(tmp_path):
    """A checkpoint of one's own, to be damaged."""
    return build(tmp_path / "fresh")
