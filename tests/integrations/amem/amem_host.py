"""A pytest plugin for A-MEM's own test suite: `pytest -p amem_host` in a checkout.

`AMEM_REPLACE=class` puts our whole package in the place of theirs, so that nothing of theirs has to
be importable; `AMEM_REPLACE=retrievers` puts our retrievers under their memory system.
"""

import os
import sys
from types import ModuleType

from evomem_integrations import amem

ENCODER = os.environ.get("AMEM_ENCODER", "static:all-MiniLM-L6-v2")


def module(name, **contents):
    made = ModuleType(name)
    vars(made).update(contents)
    sys.modules[name] = made
    return made


def replace(what):
    retrievers = module(
        "agentic_memory.retrievers",
        ChromaRetriever=amem.ChromaRetriever,
        PersistentChromaRetriever=amem.PersistentChromaRetriever,
        CopiedChromaRetriever=amem.CopiedChromaRetriever,
    )
    amem.install(retrievers, encoder=ENCODER)
    if what != "class":
        return
    encoder = retrievers.ChromaRetriever.encoder

    class AgenticMemorySystem(amem.AgenticMemorySystem):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, encoder=encoder, **options)

    module(
        "agentic_memory.memory_system",
        AgenticMemorySystem=AgenticMemorySystem,
        MemoryNote=amem.MemoryNote,
    )
    module("agentic_memory")


if "AMEM_REPLACE" in os.environ:  # now: their conftest imports these modules before any hook runs
    replace(os.environ["AMEM_REPLACE"])
