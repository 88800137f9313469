"""The options for the OpenAI Agents SDK keep the contract of adapters."""

from __future__ import annotations

import pytest

pytest.importorskip("agents", reason="the extra [openai-agents] is not installed")

from evomem.adapter.contract import AdapterContract
from tests.integrations.contract import reasons
from tests.integrations.contract.openai_agents_host import Program


class TestRunOptions(AdapterContract):
    host = Program
    not_applicable = reasons.OPENAI_AGENTS
