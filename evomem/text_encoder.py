"""A base for encoders without memory: each text is read alone, whatever the state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from evomem.encoder import Job
from evomem.passages import WEIGHT
from evomem.records import Turn
from evomem.state import Reading, Spec, State, Vectors


class TextEncoder(ABC):
    """The methods of `BatchEncoder` that do not depend on the model, except for `parallel`."""

    _spec: Spec

    @property
    def spec(self) -> Spec:
        """Name, fingerprint and shapes."""
        return self._spec

    def read(self, state: State[Turn], turns: Sequence[Turn]) -> list[Reading]:
        """See `Encoder.read`. Splits differ by the rounding of padded batches."""
        return self.read_batch([(state, turns)])[0]

    def embed_queries(self, state: State[Turn], queries: Sequence[str]) -> Vectors:
        """See `Encoder.embed_queries`."""
        return self.embed_batch([(state, queries)])[0]

    @property
    def batch_tokens(self) -> int:
        """See `BatchEncoder.batch_tokens`."""
        return 2048

    def measure(self, turn: Turn) -> int:
        """See `BatchEncoder.measure`; a token is estimated as four characters."""
        return len(turn.text) // 4 + 1

    def read_batch(self, jobs: Sequence[Job[Turn]]) -> list[list[Reading]]:
        """See `BatchEncoder.read_batch`."""
        nothing = np.zeros((0, 0), np.float32)
        readings = [
            Reading(rows[0], nothing, passages=WEIGHT * rows[1:])
            for rows in self._embed_turns([turn for _, turns in jobs for turn in turns])
        ]
        ends = np.cumsum([len(turns) for _, turns in jobs]).tolist()
        return [
            readings[end - len(turns) : end] for end, (_, turns) in zip(ends, jobs, strict=True)
        ]

    def embed_batch(self, jobs: Sequence[Job[str]]) -> list[Vectors]:
        """See `BatchEncoder.embed_batch`."""
        return self._embed_queries([queries for _, queries in jobs])

    @abstractmethod
    def _embed_turns(self, turns: Sequence[Turn]) -> list[Vectors]:
        """Return for each turn unit rows (1 + passages, D): its first part, then its passages."""

    @abstractmethod
    def _embed_queries(self, queries: Sequence[Sequence[str]]) -> list[Vectors]:
        """Return for each group of queries unit rows (n, D)."""
