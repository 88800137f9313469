"""Pydantic AI's capability keeps the contract of adapters."""

from __future__ import annotations

import pytest

pytest.importorskip("pydantic_ai", reason="the extra [pydantic-ai] is not installed")

from evomem.adapter.contract import AdapterContract
from tests.integrations.contract import reasons
from tests.integrations.contract.pydantic_ai_host import Program


class TestCapability(AdapterContract):
    host = Program
    not_applicable = reasons.PYDANTIC_AI
