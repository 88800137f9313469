"""The context provider for Microsoft's Agent Framework keeps the contract of adapters."""

from __future__ import annotations

import pytest

pytest.importorskip("agent_framework", reason="the extra [agent-framework] is not installed")

from evomem.adapter.contract import AdapterContract
from tests.integrations.contract import reasons
from tests.integrations.contract.agent_framework_host import Program


class TestContextProvider(AdapterContract):
    host = Program
    not_applicable = reasons.AGENT_FRAMEWORK
