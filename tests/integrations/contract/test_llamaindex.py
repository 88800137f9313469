"""LlamaIndex's memory keeps the contract of adapters."""

from __future__ import annotations

import pytest

pytest.importorskip("llama_index.core", reason="the extra [llamaindex] is not installed")

from evomem.adapter.contract import AdapterContract
from tests.integrations.contract import reasons
from tests.integrations.contract.llamaindex_host import Agent

pytestmark = pytest.mark.filterwarnings(  # llama-index-workflows looks at every attribute (2.26.1)
    "ignore::pydantic.warnings.PydanticDeprecationWarning"
)


class TestMemory(AdapterContract):
    host = Agent
    not_applicable = reasons.LLAMAINDEX
