"""MemoryOS with evomem's embeddings. See docs/guides/memoryos.md.

MemoryOS is not imported here.
"""

from __future__ import annotations

import re
from types import ModuleType
from typing import Any

from evomem import Encoder, Turn
from evomem.adapter import clean
from evomem.errors import NotFound
from evomem.state import State, Vectors
from evomem_integrations.documents import as_encoder

__all__ = ["Embedding", "install"]

NAME = "get_embedding"
PAGE = re.compile(r"User: (.*?) Assistant: (.*)", re.DOTALL)


class Embedding:
    """Replaces `utils.get_embedding` of MemoryOS: maps texts to unit vectors. Thread-safe.

    MemoryOS requests single vectors without saying whose text it is or what it is for, so every text
    is embedded with an empty memory. A page (`User: … Assistant: …`) is read as a turn; any other text
    is embedded as a query.
    """

    def __init__(self, encoder: str | Encoder | None = None) -> None:
        """Load the encoder; the default encoder if not given."""
        self._encoder = as_encoder(encoder)

    def __call__(
        self, text: str, model_name: str | None = None, use_cache: bool = True, **unused: Any
    ) -> Vectors:
        """Return the embedding of `text`, (D,) float32, unit length; other arguments are ignored."""
        text = clean(text).text
        state: State[Turn] = State.empty(self._encoder.spec)
        page = PAGE.fullmatch(text)
        if page and "".join(page.groups()).strip():
            turn = Turn(user=page[1], assistant=page[2])
            return self._encoder.read(state, [turn])[0].embedding
        vector: Vectors = self._encoder.embed_queries(state, [text])[0]
        return vector


def install(*modules: ModuleType, encoder: str | Encoder | None = None) -> None:
    """Make MemoryOS's modules `mid_term` and `long_term` embed with evomem.

    Args:
        *modules: The modules that have imported `get_embedding`. Pass both, so that MemoryOS does not
            compare vectors of two models.
        encoder: The encoder; the default encoder if not given.

    Raises:
        NotFound: A module has no `get_embedding`; nothing was changed.
    """
    for module in modules:
        if not hasattr(module, NAME):
            raise NotFound(
                f"the module {module.__name__} has no {NAME}: pass MemoryOS's mid_term and long_term"
            )
    embedding = Embedding(encoder)
    for module in modules:
        setattr(module, NAME, embedding)
