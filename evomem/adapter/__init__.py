"""What adapters for agent frameworks share: see docs/guides/adapters.md.

`Adapter` writes conversations to a memory and reads from it for a prompt. `counts` counts what went
wrong. The other functions are the steps of which `Adapter` consists.
"""

from evomem.adapter.adapter import HEADER, Adapter, mark, note_cleaned, spoken, write_turn
from evomem.adapter.counting import counts
from evomem.adapter.texts import block, clean, clean_json, quoted, without_blocks

__all__ = [
    "HEADER",
    "Adapter",
    "block",
    "clean",
    "clean_json",
    "counts",
    "mark",
    "note_cleaned",
    "quoted",
    "spoken",
    "without_blocks",
    "write_turn",
]
