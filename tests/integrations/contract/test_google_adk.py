"""The memory service for Google's ADK keeps the contract of adapters."""

from __future__ import annotations

import pytest

pytest.importorskip(
    "google.adk", reason="google-adk is not installed: make test-newest installs it"
)

from evomem.adapter.contract import AdapterContract
from tests.integrations.contract import reasons
from tests.integrations.contract.google_adk_host import Program


class TestMemoryService(AdapterContract):
    host = Program
    not_applicable = reasons.GOOGLE_ADK
