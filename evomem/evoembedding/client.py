"""A client with the interface of the reference: the same calls on whole conversations give the same numbers.

It supports both protocols. As in the reference, turns are paired by position, special-token strings in
contents are interpreted, and every call reads the whole conversation. For a conversation
that grows, use a memory (`evomem.open`) or `EvoEmbeddingEncoder`, which read each turn once.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import torch

from evomem.errors import QueryError
from evomem.evoembedding.checkpoint import load_checkpoint
from evomem.evoembedding.decoder import Decoder
from evomem.evoembedding.model import Ids, last_hidden, normalise
from evomem.evoembedding.reader import Reader
from evomem.evoembedding.tokens import Message, Segment, SpecialIds, pair_by_position
from evomem.state import State, Vectors

DEFAULT_MODEL = "MiG-NJU/EvoEmbedding-4B"
TEMPERATURE = 0.1  # temperature of the training loss and of all published scores (see "Scores")


class Ranking(TypedDict):
    """History turns ranked by their similarity to the query."""

    scores: Vectors
    """(n,) float32, in conversation order: cosine / 0.1."""
    probs: Vectors
    """(n,) float32, in conversation order: softmax of the scores."""
    sorted_indices: npt.NDArray[np.int64]
    """(n,), best first."""
    sorted_scores: Vectors
    """(n,) float32, best first."""


class EvoEmbeddingClient:
    """Embed, rank and rerank with an EvoEmbedding checkpoint, as the reference does."""

    def __init__(
        self,
        model_path: str = DEFAULT_MODEL,
        *,
        base: str | None = None,
        tokenizer_name: str | None = None,
        emb: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        special_ids: Mapping[str, Any] | SpecialIds | None = None,
    ) -> None:
        """Load a checkpoint; see `load_checkpoint`. `tokenizer_name` is the reference's name for `base`.

        Raises:
            CheckpointError: It cannot be loaded.
            EncoderError: The device or the dtype cannot be used.
        """
        self._loaded = load_checkpoint(
            model_path,
            base=base or tokenizer_name,
            emb=emb,
            device=device,
            dtype=dtype,
            special_ids=special_ids,
        )
        self.model = self._loaded.model
        self.tokens = self._loaded.tokens
        self.reader = Reader(self.model, self._loaded.spec)

    def encode_messages(self, messages: Sequence[Message], native: bool = False) -> Vectors:
        """Embed the history's turns and the query, all after the final queue (protocol E).

        Args:
            messages: A conversation; the last message is the query, whatever its role.
            native: Use the frozen embedding model, without memory.

        Returns:
            `(turns + 1, E)` float32, unit rows; the query is last.
        """
        history, query = _split(messages)
        turns = pair_by_position(history)
        return self.encode_texts_with_memory([*turns, query], turns, native=native)

    def encode_texts_with_memory(
        self, texts: Sequence[str], history_turns: Sequence[str] | None = None, native: bool = False
    ) -> Vectors:
        """Embed `texts` after the memory of `history_turns`; no text is formatted or stripped.

        Returns:
            `(texts, E)` float32, unit rows.
        """
        ids = [self.tokens.ended(text) for text in texts]
        if native:
            return self._embed_native(ids)
        turns = [Segment.of_ids(self.tokens.ended(turn)) for turn in history_turns or ()]
        return self.reader.embed(self.reader.evolve(self._start, turns), ids)

    def encode_for_retrieval(self, messages: Sequence[Message], native: bool = False) -> Vectors:
        """Embed the history's turns, each after the queue before it, and the query (protocol R).

        Returns:
            `(turns + 1, E)` float32, unit rows; the query is last.
        """
        history, query = _split(messages)
        texts = [self.tokens.history(turn) for turn in pair_by_position(history)]
        asked = self.tokens.query(query)
        if native:
            return self._embed_native([*texts, asked])
        *segments, _ = self.tokens.segments(self.tokens.chat(messages))
        if len(segments) != len(texts):
            warnings.warn(
                f"the chat template gives {len(segments)} segments for {len(texts)} turns (roles "
                "do not alternate, or contents hold special tokens): as in the reference, all "
                "turns are embedded after the final queue",
                stacklevel=2,
            )
            state = self.reader.evolve(self._start, [Segment.of_ids(ids) for ids in segments])
            return self.reader.embed(state, [*texts, asked])
        turns = [Segment.of_ids(*pair) for pair in zip(segments, texts, strict=True)]
        readings = self.reader.read(self._start, turns)
        *_, state = accumulate(
            zip(turns, readings, strict=True), lambda s, pair: s.after(*pair), initial=self._start
        )
        rows = [reading.embedding for reading in readings]
        return np.stack([*rows, self.reader.embed(state, [asked])[0]])

    def generate_retrieve_idx(self, messages: Sequence[Message], native: bool = False) -> Ranking:
        """Rank the history's turns for the query (protocol R); all arrays are empty without a history."""
        *turns, query = self.encode_for_retrieval(messages, native=native)
        cosines = np.array([turn @ query for turn in turns], np.float32)
        scores = cosines / np.float32(TEMPERATURE)
        order = np.argsort(-scores, kind="stable")
        return Ranking(
            scores=scores,
            probs=torch.from_numpy(scores).softmax(0).numpy(),
            sorted_indices=order,
            sorted_scores=scores[order],
        )

    def send_message_retrieve(
        self,
        message: Sequence[Message],
        rag_sentence_num: int,
        native: bool = False,
        _sorted: bool = True,
    ) -> list[int]:
        """Return the best turns for the query (protocol R).

        Args:
            message: A conversation; the last message is the query.
            rag_sentence_num: Maximum number of turns to return.
            native: Use the frozen embedding model, without memory.
            _sorted: Return them in conversation order instead of best first.
        """
        order = self.generate_retrieve_idx(message, native=native)["sorted_indices"].tolist()
        best = order[: max(0, rag_sentence_num)]
        return sorted(best) if _sorted else best

    def rerank(
        self,
        query: str,
        candidates: Sequence[str],
        top_k: int | None = None,
        native: bool = False,
        return_indices: bool = False,
    ) -> list[str] | tuple[list[str], list[int]]:
        """Order `candidates` by relevance; the memory reads them in the order given.

        Returns:
            The best `top_k` candidates (default all), and their indices if asked for.
        """
        messages: list[Message] = []
        for candidate in candidates:
            messages.append({"role": "user", "content": str(candidate)})
            messages.append({"role": "assistant", "content": ""})
        messages.append({"role": "user", "content": query})
        limit = len(candidates) if top_k is None else top_k
        order = self.send_message_retrieve(messages, limit, native=native, _sorted=False)
        ranked = [candidates[i] for i in order]
        return (ranked, order) if return_indices else ranked

    def generate(self, messages: Sequence[Message], max_new_tokens: int = 256) -> list[int]:
        """Generate an answer with the queue in the last segment (see "Generation"); return the new ids only.

        Raises:
            CheckpointError: The checkpoint lacks the output head that its base needs.
        """
        _split(messages)
        *segments, last = self.tokens.segments(self.tokens.chat(messages))
        state = self.reader.evolve(self._start, [Segment.of_ids(ids) for ids in segments])
        return self.reader.generate(state, last, max_new_tokens, self._stop)

    def generate_raw(self, messages: Sequence[Message], max_new_tokens: int = 256) -> list[int]:
        """Generate an answer with the base alone, without memory; return the ids of prompt and answer.

        Raises:
            CheckpointError: The checkpoint lacks the output head that its base needs.
        """
        _split(messages)
        ids = self.tokens.chat(messages)
        return [*ids, *self.reader.generate(self._start, ids, max_new_tokens, self._stop)]

    def send_message(self, message: Sequence[Message]) -> str:
        """Return the text of `generate`."""
        return self.tokens.decode(self.generate(message))

    def send_message_raw(self, message: Sequence[Message]) -> str:
        """Return the text of the answer of `generate_raw`."""
        return self.tokens.decode(self.generate_raw(message)[len(self.tokens.chat(message)) :])

    @property
    def _start(self) -> State[Segment]:
        return State.empty(self.reader.spec)

    @property
    def _stop(self) -> tuple[int, ...]:
        return (self.tokens.special.im_end,)

    @cached_property
    def _native(self) -> Decoder:
        return self._loaded.load_native()

    def _embed_native(self, texts: Sequence[Ids]) -> Vectors:
        with torch.no_grad():
            table, device = self._native.embed_tokens, self.model.device
            rows = [table(torch.tensor(ids, dtype=torch.long, device=device)) for ids in texts]
            return (
                normalise(last_hidden(self._native, rows, [None] * len(rows), None)).cpu().numpy()
            )


def _split(messages: Sequence[Message]) -> tuple[Sequence[Message], str]:
    """Return the history, and the query without white space around it.

    Raises:
        QueryError: There is no message, or one has no text content.
    """
    if not messages:
        raise QueryError("messages is empty; give at least the query as the last message")
    for position, message in enumerate(messages):
        if not isinstance(message.get("content"), str) or not isinstance(message.get("role"), str):
            raise QueryError(
                f"message {position} needs a role and a content, both strings; got {message!r}"
            )
    return messages[:-1], messages[-1]["content"].strip()
