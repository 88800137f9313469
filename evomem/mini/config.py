"""What decides the shape of the small encoder; stored in its weight file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields

from evomem.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class MiniConfig:
    """Shapes and constants. The first six are those of all-MiniLM-L6-v2."""

    vocab: int = 30522
    hidden: int = 384
    layers: int = 6
    heads: int = 12
    inner: int = 1536
    positions: int = 512
    latents: int = 16
    """L, latents that a turn leaves behind: its token states, or means of equal stretches of them."""
    turns: int = 8
    """Length of the queue in turns."""
    write_layer: int = 4
    """Latents are the states behind this layer; only the layers above see the queue."""
    max_tokens: int = 256
    """Of a longer turn, the rest is read in passages; a longer query is cut here."""
    clock_share: float = 0.1
    """Share of a turn's squared length that says when it was said."""
    lean: float = -1.0
    """Where a query begins between the reading alone and the evolved one, as a logit."""

    @property
    def order(self) -> int:
        """Coordinates of an embedding that speak of order: a pair for each scale."""
        return 2 * len(CLOCK_SCALES)

    @property
    def dim(self) -> int:
        """D, the length of an embedding: read alone, read in the light of the queue, and order."""
        return 2 * self.hidden + self.order

    @property
    def width(self) -> int:
        """H, the length of a stored latent: a vector, and its turn's number in two digits."""
        return self.hidden + 2

    def to_json(self) -> str:
        """Return the configuration as JSON text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> MiniConfig:
        """Read what `to_json` wrote.

        Raises:
            CheckpointError: It is no configuration of this encoder.
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
"""Turns after which a clock has run half its way: from a short chat to years of talk."""
