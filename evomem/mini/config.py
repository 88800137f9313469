"""The configuration of the small encoder; stored in its weight file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields

from evomem.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class MiniConfig:
    """Shapes and constants. The first six are those of all-MiniLM-L6-v2.

    The defaults are for new models. The bundled weights store their own configuration, which applies
    when they are loaded; only `mini?turns=N` changes it.
    """

    vocab: int = 30522
    hidden: int = 384
    layers: int = 6
    heads: int = 12
    inner: int = 1536
    positions: int = 512
    turns: int = 64
    """Length of the queue in turns."""
    match: int = 64
    """Length of the keys by which a turn recognises earlier turns about the same subject."""
    max_tokens: int = 256
    """Maximum word pieces of a text. The rest of a longer turn is read in passages; a longer query is cut."""
    near: int = 8
    """The number of turns before a turn that its context may hold."""
    fade: float = 0.8
    """Weight of a turn in a later turn's context, for each turn between them."""
    alike: float = 0.3
    """Cosine above which a turn enters the context of a later one, ..."""
    gain: float = 2.0
    """... with this weight per unit of the cosine, ..."""
    least: float = 0.1
    """... and this weight in any case. A turn's own weight in its context is 1."""
    context_share: float = 0.25
    """A query's weight of a turn's context; the weight of its text alone is the rest."""
    clock_share: float = 0.125
    """Share of a turn's squared length that encodes when it was said."""
    mention_share: float = 0.125
    """Share of a turn's squared length that encodes how often its subject came up before."""

    @property
    def order(self) -> int:
        """The number of coordinates that encode order: a pair per scale."""
        return 2 * (len(CLOCK_SCALES) + len(MENTION_SCALES))

    @property
    def dim(self) -> int:
        """D, the length of an embedding: the text alone, its context, and order."""
        return 2 * self.hidden + self.order

    @property
    def width(self) -> int:
        """W, the length of a latent: the embedding of the text alone, and the number of its turn."""
        return self.hidden + 1

    def to_json(self) -> str:
        """Return the configuration as JSON text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> MiniConfig:
        """Read what `to_json` wrote.

        Raises:
            CheckpointError: It is not a configuration of this encoder.
        """
        try:
            values = json.loads(text)
            unknown = set(values) - {field.name for field in fields(cls)}
            if unknown:
                raise CheckpointError(f"the configuration has unknown fields: {sorted(unknown)}")
            return cls(**values)
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"not a configuration of the small encoder: {error}") from error


CLOCK_SCALES = (8.0, 32.0, 128.0, 512.0, 2048.0)
"""Turns after which each clock has run half its range: from a short chat to years of conversation."""
MENTION_SCALES = (1.0, 4.0, 16.0)
"""Earlier mentions after which each counter has run half its range."""
