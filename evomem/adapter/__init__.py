"""Shared code of adapters for agent frameworks (docs/guides/adapters.md).

`Adapter` writes conversations to a memory and reads from it for a prompt. `counts` counts failures. The
other functions are the steps of `Adapter`.
"""

from evomem.adapter.adapter import Adapter
from evomem.adapter.counting import counts
from evomem.adapter.messages import note_cleaned, spoken
from evomem.adapter.texts import clean, clean_json, plain_json
from evomem.adapter.writing import write_turn
from evomem.quoting import HEADER, block, quoted
from evomem.quoting import without_quotes as without_blocks

__all__ = [
    "HEADER",
    "Adapter",
    "block",
    "clean",
    "clean_json",
    "counts",
    "note_cleaned",
    "plain_json",
    "quoted",
    "spoken",
    "without_blocks",
    "write_turn",
]
