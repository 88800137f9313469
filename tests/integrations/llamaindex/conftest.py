"""Skips these tests where LlamaIndex is not installed."""

from __future__ import annotations

import pytest

pytest.importorskip("llama_index.core", reason="the extra [llamaindex] is not installed")


@pytest.fixture
def make(tmp_path):
    """Make a memory of one session in a database on disk, as a new process would."""
    from evomem_integrations.llamaindex import EvoMemMemory

    def make(session="monday", **fields):
        return EvoMemMemory(
            **{
                "location": str(tmp_path / "agent.db"),
                "namespace": ("acme", "alice"),
                "encoder": "hash",
                "session_id": session,
                **fields,
            }
        )

    return make
