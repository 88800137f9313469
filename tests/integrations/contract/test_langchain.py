"""LangChain's middleware and chat history keep the contract of adapters."""

from __future__ import annotations

import pytest

pytest.importorskip("langchain", reason="the extra [langchain] is not installed")

from evomem.adapter.contract import AdapterContract
from tests.integrations.contract import reasons
from tests.integrations.contract.langchain_hosts import Agent, Chain


class TestMiddleware(AdapterContract):
    host = Agent
    not_applicable = reasons.MIDDLEWARE


class TestHistory(AdapterContract):
    host = Chain
    not_applicable = reasons.HISTORY
