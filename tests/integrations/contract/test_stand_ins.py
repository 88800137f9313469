"""The stand-ins for Mem0, LightMem and A-MEM keep the contract of adapters."""

from __future__ import annotations

from evomem.adapter.contract import AdapterContract
from tests.integrations.contract import reasons
from tests.integrations.contract.stand_ins import AMem, LightMem, Mem0


class TestMem0(AdapterContract):
    host = Mem0
    not_applicable = reasons.MEM0


class TestLightMem(AdapterContract):
    host = LightMem
    not_applicable = reasons.LIGHTMEM


class TestAMem(AdapterContract):
    host = AMem
    not_applicable = reasons.AMEM
