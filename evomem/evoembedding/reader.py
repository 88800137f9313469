"""Read a conversation as a stream, at the lowest cost that gives the same numbers.

Two caches save work, and may vanish at any moment without changing a result (specification 14):

- the open chunk: keys and values of its queue, turns and memory queries. A new turn costs its own
  tokens and the M queries. Cold, it is rebuilt from the state in the same forward pass;
- the prefix: keys and values of the queue that texts are embedded behind, shared by all texts of a
  state. While the queue grows the prefix grows with it; once the oldest latents fall out every
  position shifts, and it is computed anew, once for each state.

Both are keyed by the state's digest: equal pasts, equal caches.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evomem.encoder import opens_chunk
from evomem.errors import EncoderError
from evomem.evoembedding.caches import Caches
from evomem.evoembedding.decoder import Cache
from evomem.evoembedding.model import EvoEmbedding, Ids, normalise
from evomem.evoembedding.tokens import Segment
from evomem.state import Reading, Spec, State, Vectors

CHUNK_TURNS = 16  # both fixed in the reference, not in its configuration (specification 2)
CHUNK_TOKENS = 2048
CACHE_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class Run:
    """Turns of one chunk, read together."""

    segments: list[Segment]
    before: list[State[Segment]]
    """The state that each turn was read in."""
    readings: list[Reading]
    """Without embeddings."""
    after: State[Segment]


class Reader:
    """Turns to readings and texts to embeddings, continuing from any state. Thread-safe."""

    def __init__(self, model: EvoEmbedding, spec: Spec, cache_bytes: int | None = None) -> None:
        """Prepare to read.

        Args:
            model: In inference; it is never changed.
            spec: Its description.
            cache_bytes: How much the caches may hold; by default 256 MiB, or what two streams need
                where that is more (about 1 GB for the 4B model in bfloat16).
        """
        self.model = model
        self.spec = spec
        if cache_bytes is None:
            cache_bytes = max(CACHE_BYTES, 2 * self._bytes_of_a_stream())
        self.caches = Caches(cache_bytes)
        self.tokens = 0
        """Positions put through the decoder so far, without padding: what work costs."""
        self._counting = threading.Lock()

    def read(self, state: State[Segment], segments: Sequence[Segment]) -> list[Reading]:
        """Read turns in order: embed each behind the queue before it, then let it leave latents.

        Protocol R (specification 7.2). All turns of a chunk go through one forward pass.

        Raises:
            EncoderError: The model's output is not finite, as may happen in float16.
        """
        readings: list[Reading] = []
        with torch.no_grad():
            for run in self._runs(state, segments):
                rows = _to_numpy(normalise(self._embed_run(run)))
                readings += [
                    replace(reading, embedding=row)
                    for reading, row in zip(run.readings, rows, strict=True)
                ]
        return readings

    def evolve(self, state: State[Segment], segments: Sequence[Segment]) -> State[Segment]:
        """Return the state that `segments` leave behind; nothing is embedded."""
        with torch.no_grad():
            for run in self._runs(state, segments):
                state = run.after
        return state

    def embed(self, state: State[Any], texts: Sequence[Ids]) -> Vectors:
        """Embed texts behind the queue of `state`: (texts, E) float32, unit rows.

        Raises:
            EncoderError: The model's output is not finite, as may happen in float16.
        """
        if not texts:
            return np.zeros((0, self.spec.dim), np.float32)
        with torch.no_grad():
            prefix = self._prefix(state)
            self._count(sum(map(len, texts)))
            return _to_numpy(normalise(self.model.embed(texts, prefix)))

    def queue_of(self, state: State[Any]) -> Tensor:
        """Return the queue of `state` as the model takes it, `(k, H)`."""
        return self._to_tensor(state.queue)

    def _runs(self, state: State[Segment], segments: Sequence[Segment]) -> Iterator[Run]:
        done = 0
        while done < len(segments):
            run = self._evolve_run(state, self._fitting(state, segments[done:]))
            yield run
            done += len(run.segments)
            state = run.after

    def _fitting(self, state: State[Segment], segments: Sequence[Segment]) -> list[Segment]:
        """Return the next turns that share a chunk: the open one, or a new one (specification 6)."""
        sizes = [len(segment.ids) for segment in state.open]
        if _opens(sizes, segments[0]):
            sizes = []
        fitting: list[Segment] = []
        for segment in segments:
            if fitting and _opens(sizes, segment):
                break
            sizes.append(len(segment.ids))
            fitting.append(segment)
        return fitting

    def _evolve_run(self, state: State[Segment], segments: list[Segment]) -> Run:
        opens = _opens([len(segment.ids) for segment in state.open], segments[0])
        cache = None if opens else self.caches.get("chunk", state.key)
        reread = () if opens or cache else state.open
        turns = [segment.ids for segment in (*reread, *segments)]
        queue = state.queue if opens else state.chunk_queue
        self._count((0 if cache else len(queue)) + sum(len(t) + self.spec.latents for t in turns))
        tensor, cache = self.model.evolve(turns, self._to_tensor(queue), cache)
        latents = _to_numpy(tensor[len(reread) :])  # (turns, M, H)

        before, readings = [], []
        for i, segment in enumerate(segments):
            before.append(state)
            readings.append(Reading(np.zeros(0, np.float32), latents[i], opens and i == 0))
            state = state.after(segment, readings[-1])
        if len(state.open) < CHUNK_TURNS:
            self.caches.put("chunk", state.key, cache)
        return Run(segments, before, readings, state)

    def _embed_run(self, run: Run) -> Tensor:
        """Embed every turn of a run behind its own queue: (turns, E), not normalised.

        While the queue grows, one prefix grows along. Where it shifts, the turns that follow have
        no prefix in common, and are embedded together, each with its queue in front.
        """
        texts = [segment.text for segment in run.segments]
        prefix = self._prefix(run.before[0])
        rows: list[Tensor] = []
        for state, text, reading in zip(run.before, texts, run.readings, strict=True):
            self._count(len(text))
            rows.append(self.model.embed([text], prefix))
            if len(state.queue) + self.spec.latents > self.spec.capacity:
                break
            self._count(self.spec.latents)
            prefix = self.model.remember(self._to_tensor(reading.latents), prefix)
        else:
            assert prefix is not None
            self.caches.put("prefix", run.after.key, prefix)
        if rest := texts[len(rows) :]:
            queues = [state.queue for state in run.before[len(rows) :]]
            self._count(sum(map(len, queues)) + sum(map(len, rest)))
            rows.append(self.model.embed_behind([self._to_tensor(q) for q in queues], rest))
        return torch.cat(rows)

    def _prefix(self, state: State[Any]) -> Cache | None:
        """Return the prefix of a state's queue; None for an empty queue."""
        if not len(state.queue):
            return None
        prefix = self.caches.get("prefix", state.key)
        if prefix is None:
            self._count(len(state.queue))
            prefix = self.model.remember(self._to_tensor(state.queue))
            self.caches.put("prefix", state.key, prefix)
        return prefix

    def _bytes_of_a_stream(self) -> int:
        """Return about what a full chunk and a full prefix take together."""
        config, spec = self.model.decoder.config, self.spec
        positions = 2 * spec.capacity + CHUNK_TOKENS + CHUNK_TURNS * spec.latents
        attending = config.layer_types.count("full_attention")
        values = 2 * config.kv_heads * config.head_dim * attending * positions
        matrices = 0
        if linear := config.linear:
            kept = linear.value_heads * linear.key_dim * linear.value_dim  # float32, twice
            matrices = 8 * kept * config.layer_types.count("linear_attention")
        return values * self.model.dtype.itemsize + matrices

    def _to_tensor(self, latents: Vectors) -> Tensor:
        return torch.tensor(latents, dtype=self.model.dtype, device=self.model.device)

    def _count(self, tokens: int) -> None:
        with self._counting:
            self.tokens += tokens


def _opens(sizes: Sequence[int], segment: Segment) -> bool:
    return opens_chunk(sizes, len(segment.ids), turns=CHUNK_TURNS, tokens=CHUNK_TOKENS)


def _to_numpy(tensor: Tensor) -> Vectors:
    array: Vectors = tensor.float().cpu().numpy()
    if not np.isfinite(array).all():
        raise EncoderError(
            "the model's output is not finite; float16 is too narrow for some models: "
            "load it with dtype='bfloat16' or 'float32'"
        )
    return array
