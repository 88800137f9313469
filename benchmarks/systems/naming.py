"""Systems by name: `bm25`, `mini?turns=8`, `static+bm25@0.6`, `shuffled/mini`, `evomem/hybrid`."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import cast

from benchmarks.systems.base import (
    Bm25,
    Dense,
    Evomem,
    Full,
    Fuse,
    Mixed,
    Recency,
    Shuffled,
    System,
    rrf,
    z_sum,
)
from benchmarks.systems.encoders import Encoders
from benchmarks.systems.others import AMem, LightMem
from evomem.checks import check_mode
from evomem.memory_view import Mode
from evomem.plugins import DEFAULT_ENCODER

NAMES = """\
  bm25                   BM25 alone
  recency                the newest turns for every question
  full                   every turn: the whole history
  ENCODER                its cosines: static, hash, mini, mini:FILE, mini?turns=8, evoembedding:FOLDER
  ENCODER+bm25[@SHARE]   combined with BM25 as z-scores; SHARE is the cosine's (0.6), or rrf
  evomem/MODE[/ENCODER]  the product itself: evolvable, lexical or hybrid
  evomem/MODE/ENCODER+rerank:MODEL  with the best hits reranked: a cross-encoder's folder or hub id
  shuffled/SYSTEM        the same system, reading the turns in random order
  amem[:FILE]            A-MEM as you installed it; FILE holds its arguments as JSON
  lightmem:FILE          LightMem as you installed it; FILE is its configuration
"""
OTHERS: dict[str, Callable[[str], System]] = {"amem": AMem, "lightmem": LightMem}
_MIXED = re.compile(r"(?P<encoder>.+)\+bm25(?:@(?P<rule>rrf|[01]?\.?\d+))?")


def system_named(name: str, encoders: Encoders) -> System:
    """Return the system of this name, as explained in `NAMES`.

    Raises:
        EvomemError: There is no such system, or its encoder cannot be loaded.
    """
    first, _, inner = name.partition("/")
    if first == "shuffled":
        return Shuffled(system_named(inner, encoders))
    if first == "evomem":
        mode, _, models = inner.partition("/")
        check_mode(mode)
        encoder, _, reranker = models.partition("+rerank:")
        return Evomem(encoders[encoder or DEFAULT_ENCODER], cast(Mode, mode), reranker or None)
    if name == "bm25":
        return Bm25()
    if name == "recency":
        return Recency()
    if name == "full":
        return Full()
    kind, _, options = name.partition(":")
    if kind in OTHERS:
        return OTHERS[kind](options)
    if match := _MIXED.fullmatch(name):
        return Mixed(Dense(encoders[match["encoder"]]), Bm25(), _fusion_rule(match["rule"]))
    return Dense(encoders[name])


def _fusion_rule(rule: str | None) -> Fuse:
    if rule == "rrf":
        return rrf
    return partial(z_sum, share=float(rule)) if rule else z_sum
