"""evomem: memory for agents, with embeddings that evolve as the conversation does.

>>> import evomem
>>> with evomem.open(":memory:", encoder="hash") as db:
...     alice = db.memory("acme", "alice")
...     _ = alice.add("I live in Bergen.", reply="A rainy place!")
...     _ = alice.add("I adopted a cat called Miso.")
...     alice.search("Which cat did I adopt?", k=1)[0].text
'User: I adopted a cat called Miso.'
"""

from typing import TYPE_CHECKING, Any

from evomem.client import connect
from evomem.database import Database, open
from evomem.encoder import Encoder, HashEncoder
from evomem.errors import EvomemError
from evomem.memory import Memory
from evomem.memory_view import MemoryView
from evomem.plugins import load_encoder
from evomem.records import Hit, Record, Turn

if TYPE_CHECKING:
    from evomem.evoembedding import EvoEmbeddingClient

__version__ = "0.1.0"

__all__ = [
    "Database",
    "Encoder",
    "EvoEmbeddingClient",
    "EvomemError",
    "HashEncoder",
    "Hit",
    "Memory",
    "MemoryView",
    "Record",
    "Turn",
    "connect",
    "load_encoder",
    "open",
]


def __getattr__(name: str) -> Any:
    """Import the EvoEmbedding client, and with it torch, only on first use."""
    if name == "EvoEmbeddingClient":
        from evomem.evoembedding import EvoEmbeddingClient

        return EvoEmbeddingClient
    raise AttributeError(f"module 'evomem' has no attribute {name!r}")
