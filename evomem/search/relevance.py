"""How likely it is that a turn answers a query: a logistic model of its cosine and of shared words.

Scores order the turns of one query but do not tell whether any of them answers it: their parts are
shares of the best value of the same query. Cosines of most encoders do tell, and so does the share
of the query's words that a turn contains, weighted by how rare each is in the memory; a word that no
turn contains, such as the name of somebody unknown, weighs most.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Calibration:
    """Weights of a logistic model, fitted on development data (docs/measurements/relevance.md)."""

    cosine: float
    words: float
    bias: float

    def relevance(self, cosine: float, words: float) -> float:
        """Return the relevance of a turn, in 0 .. 1.

        Args:
            cosine: Of the turn and the query.
            words: The turn's BM25 as a share of the most that the query can have (`Scores.most`).

        >>> round(Calibration(cosine=10, words=5, bias=-5).relevance(0.6, 0.2), 3)
        0.881
        """
        logit = self.cosine * cosine + self.words * words + self.bias
        return 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0


CALIBRATIONS: dict[str, Calibration] = {
    "mini": Calibration(cosine=11.35, words=7.38, bias=-7.82),
}
"""By the name of the encoder, without its options; add an entry for an encoder of your own."""
BY_WORDS = Calibration(cosine=0.0, words=12.96, bias=-3.48)
"""For other encoders, whose cosines may mean anything."""


def calibration_of(encoder: str) -> Calibration:
    """Return the calibration of an encoder by its name (`Spec.name`).

    >>> calibration_of("mini?turns=4") == CALIBRATIONS["mini"]
    True
    """
    return CALIBRATIONS.get(encoder.partition("?")[0], BY_WORDS)
