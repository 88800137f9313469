"""Re-rankers: a second, slower model that scores the best turns of a search again.

A search embeds the question and the turns separately. A cross-encoder reads the question and a turn
together, which is more accurate but costs a forward pass per turn, so it only gets `DEPTH` candidates.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from evomem._extras import require
from evomem._forking import TorchForks, reset_in_child
from evomem.encoder import Encoder
from evomem.errors import EncoderError, shown
from evomem.plugins import encoder_kind, load_encoder
from evomem.records import MAX_CHARS, Hit, Turn
from evomem.state import State
from evomem.static import from_hub, load_model

DEPTH = 30
"""The number of hits that are scored again; the others follow in the order of the search."""


@runtime_checkable
class Reranker(Protocol):
    """Scores texts for a query."""

    def scores(self, query: str, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return a score for each text, higher is better: (N,) float32, finite.

        Called from several threads, outside of transactions.

        Args:
            query: The question.
            texts: The `Turn.text` of the hits, best first; at least one.
        """
        ...


class CrossEncoderReranker:
    """A cross-encoder of sentence-transformers. Safe to use from several threads, one at a time.

    It reads only the beginning of turns longer than the model's `max_length` (usually 512 tokens).
    """

    def __init__(self, model: Any) -> None:
        """Use a loaded model.

        Args:
            model: A `sentence_transformers.CrossEncoder` with one label.

        Raises:
            EncoderError: The model returns several numbers per text.
        """
        if model.num_labels != 1:
            raise EncoderError(
                f"the cross-encoder gives {model.num_labels} numbers for a text; "
                "use one with a single label, such as cross-encoder/ms-marco-MiniLM-L6-v2"
            )
        self._model = model
        self._forks = TorchForks(model.device)
        self._make_lock()
        reset_in_child(self._make_lock)

    def scores(self, query: str, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """See `Reranker.scores`. The model's own activation applies: often from 0 to 1."""
        self._forks.check()
        with self._lock:
            rows = self._model.predict([(query, text) for text in texts], show_progress_bar=False)
        return np.asarray(rows, np.float32)

    def _make_lock(self) -> None:
        self._lock = threading.Lock()  # the tokenizer is not thread-safe


class EncoderReranker:
    """Reads the candidates one after another, then the query: EvoEmbedding's own re-ranking.

    Each text is embedded in the context of the texts before it, the query in the context of all; scores
    are cosines. The result depends on the order of the texts (docs/reference/evoembedding-model.md,
    "Scores").
    """

    def __init__(self, encoder: Encoder) -> None:
        """Use an encoder, which may also be the database's."""
        self._encoder = encoder

    def scores(self, query: str, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """See `Reranker.scores`; from -1 to 1."""
        turns = [Turn(user=text[:MAX_CHARS]) for text in texts]
        state: State[Turn] = State.empty(self._encoder.spec)
        readings = self._encoder.read(state, turns)
        for turn, reading in zip(turns, readings, strict=True):
            state = state.after(turn, reading)
        [vector] = self._encoder.embed_queries(state, [query])
        cosines = [(reading.embeddings @ vector).max() for reading in readings]
        return np.array(cosines, np.float32)


def load_reranker(source: str, *, device: str | None = None) -> Reranker:
    """Load a re-ranker.

    Args:
        source: The folder or hub id of a sentence-transformers cross-encoder, such as
            `"cross-encoder/ms-marco-MiniLM-L6-v2"`, or of an EvoEmbedding checkpoint; or an encoder's
            name, as in `"evoembedding:/models/evo?base=/models/qwen"`.
        device: The device, such as `"cuda"`.

    Raises:
        EncoderError: There is no such model, or it cannot be loaded.
        CheckpointError: The model contains pickled weights or code.
        MissingExtra: A required package is not installed.
    """
    kind = encoder_kind(source)
    if kind != "static" or source.partition(":")[0] == kind:
        return EncoderReranker(load_encoder(source, device=device))
    require("sentence_transformers", extra="static")  # before anything is downloaded
    folder = Path(source).expanduser()
    if not folder.is_dir():
        folder = from_hub(source)
    return CrossEncoderReranker(load_model("CrossEncoder", folder, device=device))


def rerank(reranker: Reranker, query: str, hits: Sequence[Hit]) -> list[Hit]:
    """Return the hits with the first `DEPTH` ordered by their new scores, the part "rerank".

    Ties keep the order of the search.

    Raises:
        EncoderError: The re-ranker returned unusable scores.
    """
    first = hits[:DEPTH]
    if not first:
        return []
    scores = np.asarray(reranker.scores(query, [hit.text for hit in first]))
    if scores.shape != (len(first),) or not np.isfinite(scores).all():
        raise EncoderError(
            f"the re-ranker {type(reranker).__name__} gave unusable scores for {len(first)} texts: "
            f"{shown(scores)}; it must return a finite number for each"
        )
    ordered = [
        replace(first[place], parts={**first[place].parts, "rerank": float(scores[place])})
        for place in np.argsort(-scores, kind="stable").tolist()
    ]
    return [*ordered, *hits[DEPTH:]]
