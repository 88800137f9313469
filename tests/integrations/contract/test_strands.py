"""The memory store for Strands keeps the contract of adapters."""

from __future__ import annotations

import pytest

pytest.importorskip(
    "strands", reason="strands-agents is not installed: make test-newest installs it"
)

from evomem.adapter.contract import AdapterContract
from tests.integrations.contract import reasons
from tests.integrations.contract.strands_host import Program


class TestMemoryStore(AdapterContract):
    host = Program
    not_applicable = reasons.STRANDS
