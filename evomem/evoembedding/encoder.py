"""EvoEmbedding as an `Encoder`: protocol R, turn by turn (see "Protocol R")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from evomem.encoder import Job
from evomem.evoembedding.checkpoint import load_checkpoint
from evomem.evoembedding.packing import PASS_TOKENS
from evomem.evoembedding.reader import Reader
from evomem.evoembedding.tokens import Segment, SpecialIds
from evomem.records import Turn
from evomem.state import Reading, Spec, State, Vectors


class EvoEmbeddingEncoder:
    """Embeds each turn after the queue before it, and each query after the newest queue.

    Special-token strings in contents are read as plain text. Readings do not depend on how turns are
    divided among calls, up to 1e-5 in float32; in 16 bits, the order of additions matters more.
    """

    def __init__(
        self,
        source: str,
        *,
        base: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        special_ids: Mapping[str, Any] | SpecialIds | None = None,
        cache_bytes: int | None = None,
    ) -> None:
        """Load a checkpoint; see `load_checkpoint` for all but `cache_bytes` (see `Reader`).

        Raises:
            CheckpointError: It cannot be loaded, or its chat template does not render turn by turn.
            EncoderError: The device or the dtype cannot be used.
        """
        loaded = load_checkpoint(
            source, base=base, device=device, dtype=dtype, special_ids=special_ids
        )
        loaded.tokens.check_turnwise()
        self.reader = Reader(loaded.model, loaded.spec, cache_bytes)
        self._tokens = loaded.tokens
        # Every step needs the lengths of the turns in the open chunk, up to 16.
        self._segment = lru_cache(maxsize=16384)(self._tokenise)

    @property
    def spec(self) -> Spec:
        """Name, fingerprint and shapes."""
        return self.reader.spec

    def read(self, state: State[Turn], turns: Sequence[Turn]) -> list[Reading]:
        """See `Encoder.read`."""
        return self.read_batch([(state, turns)])[0]

    def embed_queries(self, state: State[Turn], queries: Sequence[str]) -> Vectors:
        """See `Encoder.embed_queries`; the instruction of the reference precedes each query."""
        return self.embed_batch([(state, queries)])[0]

    @property
    def batch_tokens(self) -> int:
        """See `BatchEncoder.batch_tokens`; more on a GPU, to use all of it."""
        return PASS_TOKENS if self.reader.model.device.type == "cuda" else PASS_TOKENS // 4

    @property
    def parallel(self) -> bool:
        """See `BatchEncoder.parallel`: a single pass uses the whole device."""
        return False

    def measure(self, turn: Turn) -> int:
        """See `BatchEncoder.measure`. The turn's tokens are kept until it is read."""
        segment = self._segment_of(turn)
        return len(segment.ids) + len(segment.text)

    def read_batch(self, jobs: Sequence[Job[Turn]]) -> list[list[Reading]]:
        """See `BatchEncoder.read_batch`."""
        ours = []
        for state, turns in jobs:
            opened = tuple(self._segment_of(turn) for turn in state.open)
            before = State(self.spec, state.key, state.latents, opened)
            ours.append((before, [self._segment_of(turn) for turn in turns]))
        return self.reader.read_batch(ours)

    def embed_batch(self, jobs: Sequence[Job[str]]) -> list[Vectors]:
        """See `BatchEncoder.embed_batch`."""
        return self.reader.embed_batch(
            [
                (state, [self._tokens.query(self._tokens.defuse(text.strip())) for text in texts])
                for state, texts in jobs
            ]
        )

    def generate(self, state: State[Turn], question: str, limit: int) -> str:
        """See `Generator.generate`: the base alone answers, with the queue in the prompt of the question.

        Raises:
            CheckpointError: The checkpoint lacks the output head that its base needs.
        """
        ids = self._tokens.chat([{"role": "user", "content": self._tokens.defuse(question)}])
        stop = (self._tokens.special.im_end,)
        return self._tokens.decode(self.reader.generate(state, ids, limit, stop)).strip()

    def count_tokens(self, text: str) -> int:
        """Return the length of `text` in the base's tokens."""
        return len(self._tokens.encode(self._tokens.defuse(text)))

    def _segment_of(self, turn: Turn) -> Segment:
        return self._segment(turn.user, turn.assistant, turn.speaker)

    def _tokenise(self, user: str, assistant: str, speaker: str | None) -> Segment:
        return self._tokens.turn(Turn(user=user, assistant=assistant, speaker=speaker))
