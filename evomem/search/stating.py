"""Which turns state the value that a question asks for, by a small learned model.

Two steps score the candidates of a question. The first scores each alone: how near it is to the
question, and to where a learned map moves the question, since a statement ("My teacher lent me the
banjo") need not resemble the question ("Which instrument do I play?"); which kinds of values it has;
its place in the ranking. The second adds how it compares with the turns that the first step prefers:
its likeness to them, and whether it has values of the same kinds and units.

Weights for the bundled encoder read its vectors; those for other encoders read only quantities that
mean the same with any encoder. `evomem.training.stating` trained both
(docs/measurements/benchmarks.md, "Current values").
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from evomem.errors import InputError
from evomem.state import Spec, Vectors

Values = npt.NDArray[np.float64]
Weights = Mapping[str, npt.NDArray[np.float32]]

FILE = Path(__file__).with_name("stating.npz")
READS = "mini"  # the encoder whose vectors the weights read, without its options
USUAL = 0.38, 0.10, 20  # mean and deviation of cosines between turns, and how many they count for
SHARPNESS = 4.0  # how much larger cosines and projections are made before the layers

# Kinds of values and their units --------------------------------------------------------------

MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
DAY_NAME = rf"(?:(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)days?|{MONTHS})\b"
_MONTH = rf"(?:{MONTHS}|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\b"
_BEGINNINGS = (
    "The|A|An|My|Our|I|It|In|On|At|We|You|He|She|They|This|That|These|Those|There|Here|With|As|For"
    "|From|To|Of|By|And|But|Or|If|When|After|Before|Since|Today|Yesterday|Tomorrow|Now|Every|Each"
    "|Some|Somebody|Someone|Everybody|Nobody|People|Please|Thanks|Yes|No|Not|So|Then|Being|Take|Come"
    "|Call|Write|What|Which|Where|Who|How|Why|Is|Are|Am|Do|Does|Did|Have|Has|Had|Can|Could|Will|Would"
    "|Should|Let"
)
_NUMBER_WORDS = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|dozen|twenty|thirty|forty|fifty"
    "|hundred|thousand"
)
KINDS = {
    "number": re.compile(rf"\d|\b(?:{_NUMBER_WORDS})\b", re.IGNORECASE),
    "day": re.compile(rf"\b(?:{DAY_NAME})"),
    # A capital inside of a sentence or of a word, or at its beginning, if it is no usual beginning.
    "name": re.compile(
        rf"(?<=[a-z0-9,;’'] )(?!I\b|{DAY_NAME})[A-Z]\w+|\b[A-Z][a-z]+[A-Z]\w+"
        rf"|(?:^|[.!?] )(?!(?:{_BEGINNINGS}|{DAY_NAME})\b)[A-Z][a-z]+\b"
    ),
}
_UNIT = re.compile(
    rf"\d[\d.,:]*(?:\s*([a-z%€$£]+))?|\b([A-Z]+)-?\d|([$€£])\d|\b(?:{_NUMBER_WORDS})[ -](?!of\b|or\b|and\b)([a-z]+)",
    re.IGNORECASE,
)
_DATE = re.compile(
    rf"\b{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?\b|\b\d{{1,2}}(?:st|nd|rd|th)?(?: of)? {_MONTH}",
    re.IGNORECASE,
)
_TITLE = re.compile(r"\b(Dr|Mrs|Mr|Ms|Prof|Professor|Sir|Aunt|Uncle|Coach)\b\.?(?= [A-Z])")


def units_of(text: str) -> set[str]:
    """Return what the numbers of a text count, and how values are written: "mg", "clock", "Dr"."""
    units = {match[1].lower() for match in _TITLE.finditer(text)}
    if _DATE.search(text):
        units.add("date")
    for match in _UNIT.finditer(_DATE.sub(" ", text)):
        units.add(next((part.lower() for part in match.groups() if part), "number"))
        if ":" in match[0]:
            units.add("clock")
    return units


# The model ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Candidates:
    """The turns of one question that are compared, best first."""

    texts: Sequence[str]
    near: Values
    """(n,) of each, the cosine with the question, as a share of the best."""
    shared: Values
    """(n,) of each, BM25 for the question, as a share of the best."""
    query: Vectors
    """(D,) the question's vector."""
    vectors: Vectors
    """(n, D) the turns' vectors, unit rows."""


class Stating:
    """The model for one encoder; immutable."""

    def __init__(self, weights: Weights) -> None:
        """Take the weights: `first.*` and `second.*` of the layers, others to read vectors.

        Those of the map are `map.*`; those of projections of the question, of turns, and of the
        turns that the first step prefers are `query.*`, `turn.*` and `told.*`.
        """
        self.weights = weights
        self.width = weights["map.in"].shape[0] if "map.in" in weights else None

    def likely(self, candidates: Candidates) -> Values:
        """Return how likely each candidate states the asked-for value, (n,) in 0 .. 1.

        If the weights read vectors, they read the first `width` numbers of each.
        """
        has = kinds_in(candidates.texts)
        plain = plain_features(has, candidates.near, candidates.shared)
        units, kinds = agreements(candidates.texts, has)
        turns = _unit(candidates.vectors[:, : self.width].astype(np.float64))
        query = _unit(candidates.query[: self.width].astype(np.float64))
        moved = self._moved(query)
        match = turns @ moved
        read = []
        if self.width is not None:
            asked, stated = self._projected("query", query), self._projected("turn", turns)
            read = [asked * stated, stated, SHARPNESS * match[:, None]]
        columns = [plain, standing_out(match)[:, None], *read]
        alone = self._layers("first", columns)
        trust = np.exp(alone - alone.max())
        trust /= trust.sum()
        told = _unit(trust @ turns)
        alike = turns @ told
        others = [standing_out(alike), alone / SHARPNESS, (alone - alone.max()) / SHARPNESS]
        others += [trust @ units, trust @ kinds]
        columns += [np.stack(others, -1)]
        if self.width is not None:
            columns += [self._projected("told", told) * stated, SHARPNESS * alike[:, None]]
        likely: Values = 1 / (1 + np.exp(-(alone + self._layers("second", columns))))
        return likely

    def _moved(self, query: Values) -> Values:
        if self.width is None:
            return query
        w = self.weights
        hidden = np.maximum(query @ w["map.in"] + w["map.bias"], 0.0)
        return _unit(query + hidden @ w["map.out"])

    def _projected(self, name: str, vectors: Values) -> Values:
        w = self.weights
        return np.asarray(SHARPNESS * (vectors @ w[f"{name}.in"] + w[f"{name}.bias"]), np.float64)

    def _layers(self, name: str, columns: Sequence[Values]) -> Values:
        w = self.weights
        x = np.concatenate(columns, -1)
        hidden = np.maximum(x @ w[f"{name}.in"] + w[f"{name}.bias"], 0.0)
        return np.asarray(hidden @ w[f"{name}.out"], np.float64)[:, 0]


def kinds_in(texts: Sequence[str]) -> Values:
    """Return which of `KINDS` of values each text has, (n, 3) of 0 and 1."""
    return np.array([[bool(test.search(text)) for test in KINDS.values()] for text in texts], float)


def plain_features(has: Values, near: Values, shared: Values) -> Values:
    """Return what any encoder tells of candidates, best first, as in `Candidates`: (n, 6)."""
    return np.column_stack([near, shared, has, np.log1p(np.arange(len(has)))])


def agreements(texts: Sequence[str], has: Values) -> Values:
    """Return which texts share a unit, and a kind of value (`has`), with which: (2, n, n).

    A half in the row of a text that has none.
    """
    units = [units_of(text) for text in texts]
    names = {name: place for place, name in enumerate(sorted(set().union(*units)))}
    written = np.zeros((len(texts), len(names)))
    for row, own in enumerate(units):
        written[row, [names[name] for name in own]] = 1.0
    return np.stack([_common(written), _common(has)])


def standing_out(alike: Values) -> Values:
    """Return cosines as standard deviations above their mean.

    The mean of a few is unreliable, so `USUAL` ones are counted with them.
    """
    mean, deviation, count = USUAL
    total = len(alike) + count
    centre = (alike.sum() + count * mean) / total
    square = ((alike - centre) ** 2).sum() + count * (deviation**2 + (mean - centre) ** 2)
    result: Values = (alike - centre) / np.sqrt(square / total)
    return result


def _common(has: Values) -> Values:
    common: Values = (has @ has.T > 0).astype(np.float64)
    common[~has.any(1)] = 0.5
    return common


def _unit(vectors: Values) -> Values:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: Values = vectors / np.maximum(length, 1e-9)
    return unit


# The file -------------------------------------------------------------------------------------


def load(file: Path = FILE) -> dict[str, Stating]:
    """Return the models of a file by name: `READS`, and "any" for other encoders.

    Raises:
        InputError: The file is no such file.
    """
    try:
        with np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name].astype(np.float32) for name in stored.files}
        models = {}
        for model in (READS, "any"):
            names = [name for name in arrays if name.startswith(f"{model}/")]
            models[model] = Stating({name.partition("/")[2]: arrays[name] for name in names})
            if "first.in" not in models[model].weights:
                raise ValueError(f"there are none of {model!r}")
    except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
        raise InputError(
            f"{file} holds no weights of evomem.training.stating ({error}); train them again"
        ) from error
    return models


@cache
def _loaded() -> dict[str, Stating]:
    return load()


def stating_of(spec: Spec) -> Stating:
    """Return the model for an encoder: the one that reads vectors for the bundled encoder only."""
    models = _loaded()
    own = models[READS]
    reads = spec.name.partition("?")[0] == READS and own.width is not None and spec.dim >= own.width
    return own if reads else models["any"]
