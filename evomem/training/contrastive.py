"""The loss: inside its history, a question must be nearest to the turns that answer it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from evomem.mini.model import MiniModel
from evomem.mini.reading import Tokens, read_queries, read_turns

TEMPERATURE = 0.05
THREADS = 0.2  # weight of recognising turns about the same thing


@dataclass(frozen=True, slots=True)
class Sample:
    """One history, tokenised, as one step of training sees it."""

    turns: list[Tokens]
    questions: list[Tokens]
    evidence: list[tuple[int, ...]]
    threads: list[tuple[int, ...]]
    queue: int
    """Turns that may be looked at; 0: the memory is off."""
    now: Tensor
    """(N + 1,) how many turns had been read before each turn, and before the questions."""


def loss_of(model: MiniModel, sample: Sample) -> tuple[Tensor, float]:
    """Return the loss of one history, and recall@10 of its questions."""
    step = model.config
    past = torch.zeros(0, step.latents, step.hidden)
    turns, latents = read_turns(model, sample.turns, past, sample.now[:-1], sample.queue)
    now = float(sample.now[-1])
    queries = read_queries(model, sample.questions, latents, now, sample.queue)
    scores = queries @ turns.T  # (Q, N); a query's length does not change its ranking
    loss = retrieval(scores, sample.evidence)
    if sample.threads and sample.queue:
        loss = loss + THREADS * recognition(model, latents[:, 0], sample.threads)
    return loss, recall(scores, sample.evidence, 10)


def retrieval(scores: Tensor, evidence: Sequence[tuple[int, ...]]) -> Tensor:
    """Return the mean cross-entropy of each piece of evidence against all that is none.

    Args:
        scores: (Q, N).
        evidence: The turns that answer each question.
    """
    return against_the_rest(scores / TEMPERATURE, evidence).mean()


def against_the_rest(logits: Tensor, evidence: Sequence[tuple[int, ...]]) -> Tensor:
    """Return, for each question, the mean cross-entropy of its evidence: (Q,).

    Each piece of evidence stands against all turns that are none, not against the other pieces.

    Args:
        logits: (Q, N).
        evidence: The turns that answer each question.
    """
    right = torch.zeros_like(logits, dtype=torch.bool)
    for row, found in enumerate(evidence):
        right[row, list(found)] = True
    wrong = logits.masked_fill(right, -torch.inf).logsumexp(1, keepdim=True)
    losses = F.softplus(wrong - logits) * right
    return losses.sum(1) / right.sum(1)


def recognition(model: MiniModel, latents: Tensor, threads: Sequence[tuple[int, ...]]) -> Tensor:
    """Return how badly turns of one thread, out of latents (N, H), are told from all others."""
    same = torch.zeros(len(latents), len(latents), dtype=torch.bool)
    known = sorted({turn for thread in threads for turn in thread})
    for thread in threads:
        for turn in thread:
            same[turn, list(thread)] = True
    likeness = model.alike(latents[known], latents)
    same, own = same[known], torch.eye(len(latents), dtype=torch.bool)[known]
    return F.softplus(-likeness)[same & ~own].mean() + F.softplus(likeness)[~same].mean()


def recall(scores: Tensor, evidence: Sequence[tuple[int, ...]], k: int) -> float:
    """Return the mean share of the evidence among the best `k` of scores (Q, N)."""
    best = scores.topk(min(k, scores.shape[1])).indices.tolist()
    shares = [len(set(b) & set(e)) / len(e) for b, e in zip(best, evidence, strict=True)]
    return sum(shares) / len(shares)
