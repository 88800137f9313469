"""The EvoEmbedding model: one decoder that writes latents with one adapter and reads with another.

All methods are differentiable functions of their arguments and keep no state. Callers, such as `reader`
and training, decide about gradients and caches. Shapes: M latents per turn, H hidden, E
embedding; ids are sequences of token ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evomem.errors import CheckpointError
from evomem.evoembedding.config import CheckpointConfig, DecoderConfig
from evomem.evoembedding.decoder import Cache, Decoder
from evomem.evoembedding.layers import Adapter, Lora
from evomem.evoembedding.packing import passes

Ids = Sequence[int]

INSERT_AT = 3
"""Number of tokens of the prompt (`<|im_start|>user\\n`) before the queue (see "Generation")."""


class EvoEmbedding(nn.Module):
    """The module with the parameters of a checkpoint (see "Checkpoint")."""

    def __init__(self, config: CheckpointConfig, decoder: DecoderConfig, dim: int) -> None:
        super().__init__()
        size = decoder.hidden_size
        self.config = config
        self.dim = dim
        self.decoder = Decoder(decoder, Lora(config.lora_r, config.lora_scale))
        self.memory_queries = nn.Parameter(torch.zeros(1, config.num_latents, size))
        self.latent_to_mem = nn.Sequential(nn.Linear(size, size), nn.ReLU())
        self.mem_to_latent = nn.Sequential(nn.Linear(size, size))
        self.mem_to_emb = nn.Sequential(nn.Linear(size, dim), nn.ReLU(), nn.Linear(dim, dim))
        self.lm_head: nn.Linear | None = None  # None: tied to the embedding matrix, or absent

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.memory_queries.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return self.memory_queries.dtype

    def embed_ids(self, ids: Ids) -> Tensor:
        """Return the input embeddings of `ids`, `(T, H)`."""
        tokens = torch.tensor(list(ids), dtype=torch.long, device=self.device)
        return cast(Tensor, self.decoder.embed_tokens(tokens))

    def evolve(
        self, turns: Sequence[Ids], queue: Tensor, cache: Cache | None = None
    ) -> tuple[Tensor, Cache]:
        """Read turns of one chunk, each followed by the memory queries (see "Chunks").

        Args:
            turns: Ids of each turn, in order.
            queue: Latents before the chunk, `(k, H)`; not read if `cache` is given.
            cache: The cache of the open chunk, which is continued; None to start with `queue`.

        Returns:
            Latents `(turns, M, H)`, and the cache of the chunk so far.
        """
        [(_, latents, after)] = self.evolve_many([(turns, queue, cache)])
        return latents, after

    def evolve_many(
        self, chunks: Sequence[tuple[Sequence[Ids], Tensor, Cache | None]]
    ) -> Iterator[tuple[int, Tensor, Cache]]:
        """Run `evolve` for chunks of several memories, many in one pass.

        Yields:
            The index in `chunks`, latents and cache of each, as passes finish.
        """
        queries = self.memory_queries[0]
        rows: list[Tensor] = []
        ends: list[list[int]] = []
        for turns, queue, cache in chunks:
            parts = [] if cache else [self.mem_to_latent(queue)]
            ends.append([])
            length = sum(len(part) for part in parts)
            for ids in turns:
                parts += [self.embed_ids(ids), queries]
                length += len(ids) + len(queries)
                ends[-1].append(length)
            rows.append(torch.cat(parts))
        pasts = [cache for _, _, cache in chunks]
        for i, hidden, after in continued(self.decoder, rows, pasts, "memory_generator"):
            states = torch.stack([hidden[end - len(queries) : end] for end in ends[i]])
            yield i, self.latent_to_mem(states), after

    def remember(self, latents: Tensor, prefix: Cache | None = None) -> Cache:
        """Append `latents`, `(k, H)`, to the prefix after which texts are read (see "Streaming")."""
        [(_, after)] = self.remember_many([(latents, prefix)])
        return after

    def remember_many(
        self, prefixes: Sequence[tuple[Tensor, Cache | None]]
    ) -> Iterator[tuple[int, Cache]]:
        """Run `remember` for several memories; yields index and prefix as passes finish."""
        rows = [self.mem_to_latent(latents) for latents, _ in prefixes]
        pasts = [prefix for _, prefix in prefixes]
        for i, _, after in continued(self.decoder, rows, pasts, "retriever"):
            yield i, after

    def embed(self, texts: Sequence[Ids], prefix: Cache | None = None) -> Tensor:
        """Embed texts after one shared queue: `(texts, E)`, not normalised (see "Heads")."""
        return self.embed_many([(ids, prefix) for ids in texts])

    def embed_many(self, texts: Sequence[tuple[Ids, Cache | None]]) -> Tensor:
        """Embed each text after its own prefix: `(texts, E)`, not normalised."""
        rows = [self.embed_ids(ids) for ids, _ in texts]
        prefixes = [prefix for _, prefix in texts]
        return self.represent(last_hidden(self.decoder, rows, prefixes, "retriever"))

    def embed_behind(self, queues: Sequence[Tensor], texts: Sequence[Ids]) -> Tensor:
        """Embed each text after a queue `(k, H)` of its own: `(texts, E)`, not normalised."""
        rows = [
            torch.cat([self.mem_to_latent(queue), self.embed_ids(ids)])
            for queue, ids in zip(queues, texts, strict=True)
        ]
        return self.represent(last_hidden(self.decoder, rows, [None] * len(rows), "retriever"))

    def logits(self, hidden: Tensor) -> Tensor:
        """Return next-token logits `(..., V)` for hidden states `(..., H)`.

        Raises:
            CheckpointError: The output head is not tied to the embeddings, and the checkpoint lacks it.
        """
        if self.lm_head is not None:
            return cast(Tensor, self.lm_head(hidden))
        if not self.decoder.config.tied:
            raise CheckpointError(
                "this checkpoint has no lm_head.weight and its base does not tie it to the "
                "embeddings, so it cannot generate; retrieval needs no output head"
            )
        return F.linear(hidden, self.decoder.embed_tokens.weight)

    def prompt(self, ids: Ids, queue: Tensor) -> Tensor:
        """Return the embeddings of a prompt with the queue `(k, H)` inserted, `(T, H)`."""
        embeds = self.embed_ids(ids)
        return torch.cat([embeds[:INSERT_AT], self.mem_to_latent(queue), embeds[INSERT_AT:]])

    def generate(self, prompt: Tensor, limit: int, stop: Sequence[int]) -> Iterator[int]:
        """Yield the greedy continuation of a prompt `(T, H)` by the base alone (see "Generation").

        It has at most `limit` ids and ends after the first id in `stop`, which is yielded.
        """
        hidden, cache = self.decoder(prompt[None])
        for _ in range(limit):
            token = int(self.logits(hidden[0, -1]).argmax())
            yield token
            if token in stop:
                return
            hidden, cache = self.decoder(self.embed_ids([token])[None], cache)

    def represent(self, hidden: Tensor) -> Tensor:
        """Return embeddings `(..., E)` of final hidden states `(..., H)`, not normalised."""
        return cast(Tensor, self.mem_to_emb(self.latent_to_mem(hidden)))


def continued(
    decoder: Decoder, rows: Sequence[Tensor], pasts: Sequence[Cache | None], adapter: Adapter
) -> Iterator[tuple[int, Tensor, Cache]]:
    """Yield index, hidden states `(T, H)` and extended cache of each row, as passes finish."""
    lengths = [past.length if past else 0 for past in pasts]
    for batch in passes([len(row) for row in rows], lengths):
        hidden, caches = decoder.packed(
            [rows[i] for i in batch], [pasts[i] for i in batch], adapter, keep=True
        )
        yield from zip(batch, hidden, caches, strict=True)


def last_hidden(
    decoder: Decoder,
    rows: Sequence[Tensor],
    prefixes: Sequence[Cache | None],
    adapter: Adapter | None,
) -> Tensor:
    """Return the hidden state of the last position of each row `(T_i, H)`: `(rows, H)`."""
    lengths = [prefix.length if prefix else 0 for prefix in prefixes]
    last: dict[int, Tensor] = {}
    for batch in passes([len(row) for row in rows], lengths):
        hidden, _ = decoder.packed([rows[i] for i in batch], [prefixes[i] for i in batch], adapter)
        last.update(zip(batch, (states[-1] for states in hidden), strict=True))
    return torch.stack([last[i] for i in range(len(rows))])


def normalise(vectors: Tensor) -> Tensor:
    """Return unit rows in float32; a zero row stays zero."""
    return F.normalize(vectors.float(), dim=-1, eps=1e-12)
