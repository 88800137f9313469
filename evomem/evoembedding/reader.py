"""Reads conversations as streams, with caches that do not change the results.

There are two caches; entries may be dropped at any time without changing a result (see "Streaming"):

- the open chunk: keys and values of its queue, turns and memory queries. A new turn costs its own
  tokens and the M queries. If it is not cached, it is rebuilt from the state in the same forward pass;
- the prefix: keys and values of the queue after which texts are embedded, shared by all texts of a
  state. While the queue grows, the prefix is extended. Once the oldest latents leave the queue, every
  position shifts, and the prefix is recomputed once per state.

The keys are the digests of states, so equal pasts share their entries. The requests of several memories
share forward passes; the results of a memory do not depend on the others.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from evomem._forking import TorchForks, reset_in_child
from evomem.encoder import opens_chunk
from evomem.errors import EncoderError
from evomem.evoembedding.decoder import Cache
from evomem.evoembedding.model import EvoEmbedding, Ids, normalise
from evomem.evoembedding.tokens import Segment
from evomem.lru_cache import LruCache
from evomem.state import Reading, Spec, State, Vectors

CHUNK_TURNS = 16  # both are constants in the reference, not configured (see "Configuration")
CHUNK_TOKENS = 2048
CACHE_BYTES = 256 * 2**20

Caches = LruCache[tuple[Literal["chunk", "prefix"], bytes], Cache]
"""By kind and digest of the state."""


Start = tuple[State[Segment], Sequence[Segment]]
"""The state of a memory, and the turns to be read after it."""


@dataclass(frozen=True, slots=True)
class ReadSegments:
    """Turns of one chunk, read together."""

    segments: list[Segment]
    before: list[State[Segment]]
    """The state before each turn."""
    readings: list[Reading]
    """Without embeddings."""
    after: State[Segment]


class Reader:
    """Reads turns and embeds texts, continuing from any state. Thread-safe."""

    def __init__(self, model: EvoEmbedding, spec: Spec, cache_bytes: int | None = None) -> None:
        """Prepare to read.

        Args:
            model: In evaluation mode; it is not modified.
            spec: Its description.
            cache_bytes: Maximum size of the caches; by default 256 MiB, or the size of two streams
                if that is larger (about 1 GB for the 4B model in bfloat16).
        """
        self.model = model
        self.spec = spec
        if cache_bytes is None:
            cache_bytes = max(CACHE_BYTES, 2 * self._bytes_of_a_stream())
        self.caches: Caches = LruCache(cache_bytes, lambda cache: cache.nbytes)
        self.tokens = 0
        """Number of positions that the decoder has processed so far, without padding: a measure of cost."""
        self._make_lock()
        reset_in_child(self._make_lock)
        self._forks = TorchForks(model.device)

    def read(self, state: State[Segment], segments: Sequence[Segment]) -> list[Reading]:
        """Read turns in order: embed each after the queue before it, then append its latents.

        As in protocol R (see "Protocol R"). All turns of a chunk go through one forward pass.

        Raises:
            EncoderError: The model's output is not finite, which can happen in float16.
        """
        return self.read_batch([(state, segments)])[0]

    def read_batch(self, jobs: Sequence[Start]) -> list[list[Reading]]:
        """Run `read` for several memories, whose next texts share forward passes."""
        readings: list[list[Reading]] = [[] for _ in jobs]
        with torch.no_grad():
            for runs in self._rounds(jobs):
                for (job, run), rows in zip(
                    runs.items(), self._embed(list(runs.values())), strict=True
                ):
                    vectors = _to_numpy(normalise(rows))
                    readings[job] += [
                        replace(reading, embedding=row)
                        for reading, row in zip(run.readings, vectors, strict=True)
                    ]
        return readings

    def evolve(self, state: State[Segment], segments: Sequence[Segment]) -> State[Segment]:
        """Return the state after `segments`, without embedding anything."""
        with torch.no_grad():
            for runs in self._rounds([(state, segments)]):
                state = runs[0].after
        return state

    def embed(self, state: State[Any], texts: Sequence[Ids]) -> Vectors:
        """Embed texts after the queue of `state`: (texts, E) float32, unit rows.

        Raises:
            EncoderError: The model's output is not finite, which can happen in float16.
        """
        return self.embed_batch([(state, texts)])[0]

    def embed_batch(self, jobs: Sequence[tuple[State[Any], Sequence[Ids]]]) -> list[Vectors]:
        """Run `embed` for several memories in one forward pass."""
        counts = [len(texts) for _, texts in jobs]
        if not sum(counts):
            return [np.zeros((0, self.spec.dim), np.float32) for _ in jobs]
        self._forks.check()
        with torch.no_grad():
            prefixes = self._prefixes([state for state, texts in jobs if texts])
            prefixed = [(ids, prefixes[state.key]) for state, texts in jobs for ids in texts]
            self._count(sum(len(ids) for ids, _ in prefixed))
            rows = _to_numpy(normalise(self.model.embed_many(prefixed)))
        return np.split(rows, np.cumsum(counts)[:-1])

    def generate(self, state: State[Any], prompt: Ids, limit: int, stop: Ids) -> list[int]:
        """Continue a prompt by the base alone, with the queue of `state` in it (see "Generation").

        Args:
            state: The state, which is not changed.
            prompt: A segment of a chat that ends with the opening of the answer.
            limit: Maximum number of new ids.
            stop: Ids that end the answer, in addition to those in the base's configuration.

        Returns:
            The new ids, including the one that ended the answer.

        Raises:
            CheckpointError: The checkpoint lacks the output head that its base needs.
        """
        self._forks.check()
        with torch.no_grad():
            embeds = self.model.prompt(prompt, self.queue_of(state))
            ends = (*self.model.decoder.config.stop_ids, *stop)
            return list(self.model.generate(embeds, limit, ends))

    def queue_of(self, state: State[Any]) -> Tensor:
        """Return the queue of `state` as the model expects it, `(k, H)`."""
        return self._to_tensor(state.queue)

    def _make_lock(self) -> None:
        self._counting = threading.Lock()

    def _rounds(self, jobs: Sequence[Start]) -> Iterator[dict[int, ReadSegments]]:
        """Yield the next run of every job that has turns left, until none has any."""
        self._forks.check()
        states = [state for state, _ in jobs]
        done = [0] * len(jobs)
        while left := [i for i, (_, segments) in enumerate(jobs) if done[i] < len(segments)]:
            starts = [(states[i], self._fitting(states[i], jobs[i][1][done[i] :])) for i in left]
            runs = dict(zip(left, self._evolve(starts), strict=True))
            yield runs
            for i, run in runs.items():
                done[i] += len(run.segments)
                states[i] = run.after

    def _fitting(self, state: State[Segment], segments: Sequence[Segment]) -> list[Segment]:
        """Return the next turns that share a chunk: the open one, or a new one (see "Chunks")."""
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

    def _evolve(self, starts: Sequence[tuple[State[Segment], list[Segment]]]) -> list[ReadSegments]:
        """Write the latents of the turns of each memory; they belong to one chunk."""
        chunks, reread, opening = [], [], []
        for state, segments in starts:
            opens = _opens([len(segment.ids) for segment in state.open], segments[0])
            cache = None if opens else self.caches.get(("chunk", state.key))
            again = () if opens or cache else state.open
            turns = [segment.ids for segment in (*again, *segments)]
            queue = state.queue if opens else state.chunk_queue
            self._count(0 if cache else len(queue))
            self._count(sum(len(ids) + self.spec.latents for ids in turns))
            chunks.append((turns, self._to_tensor(queue), cache))
            reread.append(len(again))
            opening.append(opens)
        runs: dict[int, ReadSegments] = {}
        for i, tensor, cache in self.model.evolve_many(chunks):
            state, segments = starts[i]
            latents = _to_numpy(tensor[reread[i] :])  # (turns, M, H)
            before, readings = [], []
            for n, segment in enumerate(segments):
                before.append(state)
                opens = opening[i] and n == 0
                readings.append(Reading(np.zeros(0, np.float32), latents[n], opens))
                state = state.after(segment, readings[-1])
            if len(state.open) < CHUNK_TURNS:
                self.caches.put(("chunk", state.key), cache)
            runs[i] = ReadSegments(segments, before, readings, state)
        return [runs[i] for i in range(len(starts))]

    def _embed(self, runs: Sequence[ReadSegments]) -> list[Tensor]:
        """Embed every turn of each run after its own queue: (turns, E) per run, not normalised.

        While a queue grows, its prefix is extended. Once it shifts, the remaining turns have no common
        prefix; they are embedded together, each after its whole queue.
        """
        rows: list[list[Tensor]] = [[] for _ in runs]
        going = [i for i, run in enumerate(runs) if self._lasts(run.before[0])]
        known = self._prefixes([runs[i].before[0] for i in going])
        prefixes = {i: known[runs[i].before[0].key] for i in going}
        for n in range(CHUNK_TURNS):
            if not going:
                break
            texts = [(runs[i].segments[n].text, prefixes[i]) for i in going]
            self._count(sum(len(ids) for ids, _ in texts))
            for i, row in zip(going, torch.split(self.model.embed_many(texts), 1), strict=True):
                rows[i].append(row)
            going = [i for i in going if self._grows(runs[i].before[n])]
            new = [(self._to_tensor(runs[i].readings[n].latents), prefixes[i]) for i in going]
            self._count(len(new) * self.spec.latents)
            for at, prefix in self.model.remember_many(new):
                prefixes[going[at]] = prefix
                run = runs[going[at]]
                if n + 1 == len(run.segments):
                    self.caches.put(("prefix", run.after.key), prefix)
            going = [i for i in going if n + 1 < len(runs[i].segments)]
        missing = [
            (i, n) for i, run in enumerate(runs) for n in range(len(rows[i]), len(run.before))
        ]
        if missing:
            queues = [runs[i].before[n].queue for i, n in missing]
            last = [runs[i].segments[n].text for i, n in missing]
            self._count(sum(map(len, queues)) + sum(map(len, last)))
            embeddings = self.model.embed_behind([self._to_tensor(queue) for queue in queues], last)
            for (i, _), row in zip(missing, torch.split(embeddings, 1), strict=True):
                rows[i].append(row)
        return [torch.cat(parts) for parts in rows]

    def _grows(self, state: State[Any]) -> bool:
        """Return whether the queue of `state` has room for another turn's latents."""
        return len(state.queue) + self.spec.latents <= self.spec.capacity

    def _lasts(self, state: State[Any]) -> bool:
        """Return whether a prefix of `state` is cached or will be used again."""
        return self._grows(state) or self.caches.get(("prefix", state.key)) is not None

    def _prefixes(self, states: Sequence[State[Any]]) -> dict[bytes, Cache | None]:
        """Return the prefix of each state's queue by the state's key; None for an empty queue."""
        prefixes: dict[bytes, Cache | None] = {}
        missing: dict[bytes, State[Any]] = {}
        for state in states:
            prefixes[state.key] = self.caches.get(("prefix", state.key))
            if prefixes[state.key] is None and len(state.queue):
                missing[state.key] = state
        self._count(sum(len(state.queue) for state in missing.values()))
        queues = [(self._to_tensor(state.queue), None) for state in missing.values()]
        keys = list(missing)
        for i, prefix in self.model.remember_many(queues):
            prefixes[keys[i]] = prefix
            self.caches.put(("prefix", keys[i]), prefix)
        return prefixes

    def _bytes_of_a_stream(self) -> int:
        """Return the approximate bytes of a full chunk and a full prefix together."""
        config, spec = self.model.decoder.config, self.spec
        positions = 2 * spec.capacity + CHUNK_TOKENS + CHUNK_TURNS * spec.latents
        attending = config.layer_types.count("full_attention")
        values = 2 * config.kv_heads * config.head_dim * attending * positions
        matrices = 0
        if linear := config.linear:
            state = linear.value_heads * linear.key_dim * linear.value_dim  # float32, twice
            matrices = 8 * state * config.layer_types.count("linear_attention")
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
