"""The training objective (see "Training objective") for several histories that share forward passes.

There are three kinds of passes, each over rows of input embeddings that are grouped by length:

1. the memory: chunk k of every history at once. The chunks of one history are read in order, since each
   reads the latents that earlier chunks wrote; gradients flow through all of them;
2. the embeddings: every turn after the queue before it, every question after the last queue;
3. answers: next-token prediction by the base alone, with the queue in the prompt of the question.

The grouping of rows does not change the results: decoders are causal, so padding after a row's end
cannot affect it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evomem.encoder import opens_chunk
from evomem.evoembedding.decoder import Decoder
from evomem.evoembedding.layers import Adapter
from evomem.evoembedding.model import EvoEmbedding, Ids, normalise
from evomem.evoembedding.reader import CHUNK_TOKENS, CHUNK_TURNS
from evomem.training.batching import packs
from evomem.training.contrastive import against_the_rest, recall
from evomem.training.evoembedding.samples import Sample

TEMPERATURE = 0.1


@dataclass(frozen=True, slots=True)
class Losses:
    """Losses of a batch: means over its histories of the means over their questions."""

    contrastive: Tensor
    sft: Tensor
    recall: float
    """recall@10 of the questions."""

    @property
    def total(self) -> Tensor:
        """The total loss."""
        return self.contrastive + self.sft


def losses_of(model: EvoEmbedding, samples: Sequence[Sample], budget: int) -> Losses:
    """Return the losses of histories that share forward passes of up to `budget` positions.

    Raises:
        CheckpointError: There are answers, but the model has no output head.
    """
    latents = evolve_all(model, [sample.segments for sample in samples], budget)
    scores = score_all(model, samples, latents, budget)
    sft = answer_losses(model, samples, latents, budget)
    pairs = list(zip(scores, samples, strict=True))
    return Losses(
        torch.stack([contrastive(row, sample.evidence) for row, sample in pairs]).mean(),
        torch.stack(sft).mean(),
        sum(recall(row.detach(), sample.evidence, 10) for row, sample in pairs) / len(pairs),
    )


def contrastive(scores: Tensor, evidence: Sequence[tuple[int, ...]]) -> Tensor:
    """Return the contrastive loss of evidence against all other turns, as the mean over questions.

    Args:
        scores: Cosines, (Q, N).
        evidence: The turns that answer each question.
    """
    others = [scores.shape[1] - len(relevant) for relevant in evidence]
    weights = torch.tensor([math.log(count + 1) for count in others], device=scores.device)
    return (against_the_rest(scores / TEMPERATURE, evidence) * weights).mean()


def evolve_all(
    model: EvoEmbedding, histories: Sequence[Sequence[Ids]], budget: int
) -> list[Tensor]:
    """Return all latents of each history, `(turns * M, H)`, written chunk by chunk (see "Chunks")."""
    plans = [chunks(segments) for segments in histories]
    size = model.decoder.config.hidden_size
    empty = model.memory_queries.new_zeros(0, size)
    latents = [empty] * len(plans)
    for number in range(max(map(len, plans), default=0)):
        active = [i for i, plan in enumerate(plans) if number < len(plan)]
        rows, places = [], []
        for i in active:
            queue = model.mem_to_latent(latents[i][-model.config.capacity :])
            row, place = _chunk(model, plans[i][number], queue)
            rows.append(row)
            places.append(place)
        hidden = hidden_states(model.decoder, rows, places, "memory_generator", budget)
        for i, states in zip(active, hidden, strict=True):
            latents[i] = torch.cat([latents[i], model.latent_to_mem(states)])
    return latents


def score_all(
    model: EvoEmbedding, samples: Sequence[Sample], latents: Sequence[Tensor], budget: int
) -> list[Tensor]:
    """Return the cosines of each history's questions and turns, (Q, N) (see "Protocol R")."""
    step, capacity = model.config.num_latents, model.config.capacity
    rows = []
    for sample, own_latents in zip(samples, latents, strict=True):
        queues = model.mem_to_latent(own_latents)
        ends = [step * turn for turn in range(len(sample.turns))]
        ends += [len(queues)] * len(sample.questions)
        texts = _embed_each(model, [*sample.turns, *sample.questions])
        rows += [
            torch.cat([queues[max(0, end - capacity) : end], text])
            for end, text in zip(ends, texts, strict=True)
        ]
    places = [torch.tensor([len(row) - 1]) for row in rows]
    hidden = torch.cat(hidden_states(model.decoder, rows, places, "retriever", budget))
    vectors = normalise(model.represent(hidden))
    scores = []
    for sample in samples:
        turns, questions = len(sample.turns), len(sample.questions)
        own, vectors = vectors[: turns + questions], vectors[turns + questions :]
        scores.append(own[turns:] @ own[:turns].T)
    return scores


def answer_losses(
    model: EvoEmbedding, samples: Sequence[Sample], latents: Sequence[Tensor], budget: int
) -> list[Tensor]:
    """Return the mean loss of each history's answers by the base alone, 0 if it has none."""
    rows, places, labels = [], [], []
    for sample, own in zip(samples, latents, strict=True):
        queue = own[-model.config.capacity :]
        for answer in sample.answers:
            rows.append(model.prompt(answer.ids, queue))
            # A position predicts the next one; the queue precedes all labels.
            places.append(torch.arange(answer.start, answer.end) + len(queue) - 1)
            labels.append(torch.tensor(answer.ids[answer.start : answer.end]))
    hidden = iter(hidden_states(model.decoder, rows, places, None, budget))
    expected = iter(labels)
    means = []
    for sample in samples:
        losses = [
            F.cross_entropy(model.logits(next(hidden)).float(), next(expected).to(model.device))
            for _ in sample.answers
        ]
        means.append(torch.stack(losses).mean() if losses else torch.zeros((), device=model.device))
    return means


def hidden_states(
    decoder: Decoder,
    rows: Sequence[Tensor],
    places: Sequence[Tensor],
    adapter: Adapter | None,
    budget: int,
) -> list[Tensor]:
    """Return the final hidden states of rows `(T_i, H)` at `places[i]`, each `(places, H)`."""
    states: dict[int, Tensor] = {}
    for pack in packs([len(row) for row in rows], budget):
        padded = nn.utils.rnn.pad_sequence([rows[i] for i in pack], batch_first=True)
        hidden = decoder.hidden(padded, None, adapter)
        for at, i in enumerate(pack):
            states[i] = hidden[at, places[i].to(hidden.device)]
    return [states[i] for i in range(len(rows))]


def chunks(segments: Sequence[Ids]) -> list[list[Ids]]:
    """Split turns into the chunks in which they are read (see "Chunks")."""
    plan: list[list[Ids]] = []
    for ids in segments:
        sizes = [len(sample) for sample in plan[-1]] if plan else []
        if opens_chunk(sizes, len(ids), turns=CHUNK_TURNS, tokens=CHUNK_TOKENS):
            plan.append([])
        plan[-1].append(ids)
    return plan


def _chunk(model: EvoEmbedding, turns: Sequence[Ids], queue: Tensor) -> tuple[Tensor, Tensor]:
    """Return a chunk's row after its projected queue, and the positions of its memory queries."""
    queries = model.memory_queries[0]
    parts, places, length = [queue], [], len(queue)
    for ids, embeds in zip(turns, _embed_each(model, turns), strict=True):
        parts += [embeds, queries]
        places.append(torch.arange(len(queries)) + length + len(ids))
        length += len(ids) + len(queries)
    return torch.cat(parts), torch.cat(places)


def _embed_each(model: EvoEmbedding, texts: Sequence[Ids]) -> list[Tensor]:
    together = model.embed_ids([token for ids in texts for token in ids])
    return list(torch.split(together, [len(ids) for ids in texts]))
