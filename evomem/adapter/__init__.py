"""What adapters for agent frameworks share: see docs/adapters.md.

`Adapter` writes conversations to a memory and reads from it for a prompt. `counts` counts what went
wrong. `AdapterContract` (`evomem.adapter.contract`) tests an adapter.
"""

from evomem.adapter.adapter import HEADER, Adapter, replace_turn
from evomem.adapter.counting import counts
from evomem.adapter.texts import block, clean, quoted, without_blocks

__all__ = [
    "HEADER",
    "Adapter",
    "block",
    "clean",
    "counts",
    "quoted",
    "replace_turn",
    "without_blocks",
]
